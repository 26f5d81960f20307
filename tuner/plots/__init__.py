"""Pictures: charts as plain data, overlays, heat maps, contact sheets."""

"""Generated data sets: they need no download."""

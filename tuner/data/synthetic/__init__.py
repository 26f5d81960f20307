"""Generated datasets, which need no download."""

"""The public Python API: the names that `tuner` exports. It runs the same engine as the command line."""

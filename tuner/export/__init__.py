"""The exported bundle: write it, use it without a database."""

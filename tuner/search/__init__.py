"""One search: from a request to workers that train trials."""

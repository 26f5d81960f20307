"""Reports on a whole study: page, comparison, advice, and plots for the dashboard."""

"""The dashboard server: optuna-dashboard behind login, checks and caches."""

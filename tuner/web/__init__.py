"""What stands round optuna-dashboard: who comes in, what may be asked, what is answered quickly."""

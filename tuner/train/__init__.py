"""From a recipe to a result: one loop for every task, model and way of training."""

"""From a recipe to a result: one training loop for every task and model."""

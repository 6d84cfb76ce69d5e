"""Generators and discriminators; `registry.MODELS` is the table that `model.name` chooses from."""

"""Generators, discriminators and encoders; `registry.MODELS` is the table that `model.name` chooses from."""

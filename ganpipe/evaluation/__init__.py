"""Judging a model: extractors give features, metrics compare them, `verdict` decides and says why."""

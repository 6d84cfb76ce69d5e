"""Judging a model: `features` sees, `metrics` measures, `judge` decides and says why."""

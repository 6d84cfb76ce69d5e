"""Evaluation: extractors give features, metrics compare them, `verdict` decides and gives evidence."""

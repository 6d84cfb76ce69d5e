"""Readers of image sources, one file per kind; `registry.SOURCES` is the table."""

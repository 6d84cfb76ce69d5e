"""Reads and writes image files. Independent of GANs."""

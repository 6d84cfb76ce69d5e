"""Comparisons with a public peer or a limit; each prints one table of ratios."""

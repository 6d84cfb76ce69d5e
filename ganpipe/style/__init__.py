"""Style transfer: `batch` does folders, `optimise` paints, `losses` says what is good, `paint` makes styles."""

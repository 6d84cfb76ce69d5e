"""Style transfer: `recipe` and `losses` say what is wanted, `optimise` paints (by `objective`), `batch` does folders."""

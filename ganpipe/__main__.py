"""`python -m ganpipe`: the same as the `ganpipe` command."""

from ganpipe.cli import entry

if __name__ == "__main__":
    entry()

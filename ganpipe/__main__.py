"""`python -m ganpipe`: the same as the `ganpipe` command."""

from ganpipe.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

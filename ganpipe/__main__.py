"""`python -m ganpipe`: the same as the `ganpipe` command."""

import sys
from pathlib import Path

import ganpipe

# `python -m` puts the current folder first. Unless ganpipe itself comes from there, a yaml.py in it is not ours.
if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(ganpipe.__file__).parents[1].resolve():
    del sys.path[0]

from ganpipe.cli import entry

if __name__ == "__main__":
    entry()

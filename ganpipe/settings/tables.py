"""The names in a table of a package that settings lie below, such as the losses of `training/losses.py`."""

from __future__ import annotations

import ast
from importlib import resources


def table_keys(file: str, table: str) -> tuple[str, ...]:
    """The keys of the dictionary `table` in a source file of ganpipe.

    Read from the source, not imported: the tables' modules import torch, which takes seconds.
    """
    source = resources.files("ganpipe").joinpath(file).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == table:
            assert isinstance(node.value, ast.Dict), table
            return tuple(ast.literal_eval(key) for key in node.value.keys if key)
    raise AssertionError(f"{file} has no table {table}")

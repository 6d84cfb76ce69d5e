"""data/prepare.yaml: the parameters of the DVC stages `prepare@KEY`. It is read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.files import write_text
from ganpipe.settings.yaml_files import dump_yaml, read_yaml

PREPARE_FILE = Path("data/prepare.yaml")
FAILED = "ganpipe prepare: "  # prefix of the line that says why the stage failed
BEHALF_OF = "GANPIPE_BEHALF_OF"  # pid of the process that started the stage; the stage ends with it


def read_prepare_file(path: Path) -> dict[str, dict[str, Any]]:
    """`{key: entry}` of data/prepare.yaml; empty if there is none."""
    if not path.exists():
        return {}
    tree = read_yaml(path)
    entries = tree.get("datasets") if isinstance(tree, dict) else tree
    if entries is None:
        return {}
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("dataset"), str) for entry in entries.values()
    ):
        raise GanpipeError(
            f"{path} is damaged: it lists no preparations of datasets; delete it, and ganpipe writes it anew."
        )
    return entries


def write_prepare_file(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Writes data/prepare.yaml, the parameters of the DVC stages `prepare@KEY`."""
    note = "# How each dataset is prepared; written by ganpipe, read by the stages of dvc.yaml.\n"
    write_text(path, note + dump_yaml({"datasets": entries}, sort_keys=True))

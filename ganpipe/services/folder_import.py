"""Imports a watched folder in a process of its own, so that `ganpipe up` stays small: `-m ganpipe.services.folder_import`.

It reads a FolderImport as JSON from standard input, and prints the Imported as its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganpipe.compute.processes import SAFE_PATH, stop_process, terminate_with_parent
from ganpipe.console import say, show_logs
from ganpipe.errors import GanpipeError, redact
from ganpipe.stages.requests import FolderImport, Imported
from ganpipe.stores.workspace import Workspace


def import_in_process(request: FolderImport, log_file: Path, stop_now: threading.Event) -> bool:
    """Imports a folder and says what came of it; False if that failed."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ganpipe.services.folder_import"],
            env={**os.environ, **SAFE_PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            preexec_fn=terminate_with_parent,
        )
    given: bytes | None = json.dumps(asdict(request)).encode()
    while True:
        try:
            printed, _ = process.communicate(given, timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            given = None
            if stop_now.is_set():
                stop_process(process)
                return False
    return _tell(request, printed, log_file)


def _tell(request: FolderImport, printed: bytes, log_file: Path) -> bool:
    now = time.strftime("%H:%M:%S")
    try:
        found = json.loads(printed.splitlines()[-1])
        imported = Imported(**found["imported"]) if "imported" in found else None
        why = found.get("error", "")
    except (IndexError, ValueError, TypeError, KeyError):
        imported, why = None, f"its process has died; see {log_file}"
    if imported is None:
        say(f"{now} {request.folder} could not be imported ({redact(why)}); it is tried again.")
        return False
    if imported.changed or imported.refused:
        say(f"{now} {imported.sentence(request.folder)}")
    return True


def main() -> int:
    """Imports the folder that standard input names."""
    request = FolderImport(**json.load(sys.stdin))
    workspace = Workspace(Path(request.workspace))
    workspace.activate()
    show_logs(debug=False)
    try:
        from ganpipe.stages.data import import_folder

        answer: dict[str, Any] = {"imported": asdict(import_folder(workspace, request))}
    except GanpipeError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return int("error" in answer)


if __name__ == "__main__":
    sys.exit(main())

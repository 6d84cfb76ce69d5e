"""Actions of the pages: ganpipe's own commands, each in a process of its own.

The dashboard itself so imports neither torch nor DVC, and a command that dies takes no page with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from ganpipe.compute.processes import SAFE_PATH, terminate_with_parent
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command: the JSON that it printed, or one sentence that says why it failed."""

    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""


class Actions:
    """Runs commands of ganpipe in the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def run(self, *words: str) -> Outcome:
        """Runs `ganpipe WORDS --json` and waits for its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ganpipe", *words, "--json", "--workspace", str(self.workspace.root)),
            env={**os.environ, **SAFE_PATH},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=terminate_with_parent,
        )
        printed, said = await process.communicate()
        if process.returncode == 0:
            return Outcome(json.loads(printed))
        lines = said.decode(errors="replace").strip().splitlines()
        return Outcome(error=lines[-1].removeprefix("ganpipe: ") if lines else "The command failed.")

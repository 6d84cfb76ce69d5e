"""`ganpipe up` without a terminal: in the background, or as a unit of systemd."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from ganpipe.compute.processes import SAFE_PATH
from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.services.log_files import rotate
from ganpipe.services.prefect import START_S
from ganpipe.services.up import STOP_S, tell_addresses
from ganpipe.stores.addresses import announced, running_servers
from ganpipe.stores.workspace import Workspace

LAST_LINES = 3


def start_detached(workspace: Workspace, words: Sequence[str]) -> None:
    """Starts `ganpipe up` in a session of its own and returns when it is ready.

    Raises:
        GanpipeError: it ended before; the sentence holds its last lines.
    """
    if running := announced(workspace):
        raise GanpipeError(
            f"`ganpipe up` runs already in this workspace (process {running.pid}); stop it with: ganpipe down"
        )
    log_file = workspace.state / "logs" / "up.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    rotate(log_file)
    begin = log_file.stat().st_size if log_file.exists() else 0
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ganpipe", *words],
            env=os.environ | SAFE_PATH,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 2 * START_S
    while not (found := running_servers(workspace)):
        if process.poll() is not None or time.monotonic() > deadline:
            with log_file.open("rb") as log:
                log.seek(begin)
                lines = log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
            raise GanpipeError(f"`ganpipe up` did not start: {' '.join(lines)} (log: {log_file})")
        time.sleep(0.2)
    tell_addresses(workspace, found, with_secret=False)
    say(f"In the background as process {process.pid}; its log is {log_file}. Stop it with: ganpipe down")


def systemd_unit(workspace: Workspace, words: Sequence[str]) -> str:
    """A unit of systemd that serves the workspace: for ~/.config/systemd/user, or for /etc/systemd/system with User=."""
    command = " ".join(map(_quoted, [sys.executable, "-P", "-m", "ganpipe", *words]))
    return f"""\
# systemd: save it as ~/.config/systemd/user/ganpipe.service, then
#   systemctl --user daemon-reload && systemctl --user enable --now ganpipe
#   loginctl enable-linger   (it then runs without anybody logged in)
[Unit]
Description=ganpipe in {_escaped(str(workspace.root))}

[Service]
Type=exec
WorkingDirectory={_escaped(str(workspace.root))}
ExecStart={command}
Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStopSec={STOP_S:.0f}

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    """Text in which systemd replaces nothing."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of a command line as systemd reads it (systemd.service(5), "Command lines")."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'

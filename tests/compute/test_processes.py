"""Processes end with their parent, whatever kills it; stop signals let a step finish."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ganpipe.compute.process_identity import lives, start_time
from ganpipe.compute.signals import catch_stop_signals


def soon(true: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def test_a_process_is_known_by_its_number_and_start_time() -> None:
    assert lives(os.getpid(), start_time(os.getpid()))
    assert not lives(os.getpid(), "1")  # the number was given to another process
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert soon(lambda: not start_time(child.pid))  # it has ended, though nobody has waited for it
    child.wait()


# The parent starts a child that "trains" until a stop signal and then writes its checkpoint.
CHILD = """
import os, sys, time
from pathlib import Path
from ganpipe.compute.process_identity import start_time
from ganpipe.compute.processes import hang_up_with
from ganpipe.compute.signals import catch_stop_signals
parent = os.getppid()
hang_up_with(parent, start_time(parent), 60)
with catch_stop_signals() as stop:
    Path(sys.argv[1], "training").write_text(str(os.getpid()))
    while stop.signum is None:
        time.sleep(0.05)
    time.sleep(1)  # the step ends; signals that come meanwhile change nothing
    Path(sys.argv[1], "checkpoint").touch()
while True:  # as Prefect, which asks a server that is gone again and again
    time.sleep(0.1)
"""


def test_a_training_writes_its_checkpoint_and_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])",
            CHILD,
            str(tmp_path),
        ],
    )
    assert soon((tmp_path / "training").exists)
    child = int((tmp_path / "training").read_text())
    started = start_time(child)
    parent.kill()
    assert soon((tmp_path / "checkpoint").exists)
    assert soon(lambda: not lives(child, started))
    parent.wait()


def test_a_second_hang_up_does_not_interrupt_the_step() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with catch_stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signum == signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signum is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_counts_where_a_script_ignores_it_for_its_background_jobs() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catch_stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signum == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


CLOSED = """
import sys, time
from pathlib import Path
from ganpipe.compute.signals import catch_stop_signals
with catch_stop_signals() as stop:
    Path(sys.argv[1], "ready").touch()
    while stop.signum is None:
        time.sleep(0.05)
    print("stopping", flush=True)
    Path(sys.argv[1], "done").touch()
"""


def test_a_closed_terminal_stops_and_what_is_printed_then_fails_nowhere(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", CLOSED, str(tmp_path)])  # noqa: S606
    assert soon((tmp_path / "ready").exists)
    os.close(terminal)
    assert soon((tmp_path / "done").exists)
    os.waitpid(pid, 0)


def test_python_that_we_start_takes_no_module_from_the_current_folder(tmp_path: Path) -> None:
    """Nor when `nohup` started us, which would make it deaf to SIGHUP."""
    (tmp_path / "yaml.py").write_text("print('hostile')")
    log = tmp_path / "log"
    program = (
        "import os, signal, sys, subprocess\n"
        "from pathlib import Path\n"
        "from ganpipe.compute.processes import start_process\n"
        "environment = {k: v for k, v in os.environ.items() if k != 'PYTHONSAFEPATH'}\n"
        "show = 'import signal; print(repr(signal.getsignal(signal.SIGHUP)))'\n"
        "for command in ['-m', 'yaml'], ['-c', show]:\n"
        f"    start_process([sys.executable, *command], environment, Path({str(log)!r})).wait()\n"
    )
    safe = os.environ | {"PYTHONSAFEPATH": "1"}
    subprocess.run(["nohup", sys.executable, "-c", program], cwd=tmp_path, env=safe, check=True)
    said = log.read_text()
    assert "hostile" not in said
    assert "SIG_DFL" in said

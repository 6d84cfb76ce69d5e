"""Children of `ganpipe up`: started again when they die, given up in the end, stopped with everything they left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ganpipe.compute.process_identity import lives, start_time
from ganpipe.compute.processes import start_process
from ganpipe.services.log_files import rotate
from ganpipe.services.supervisor import Service, Supervisor

SLEEPS = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]).pid, flush=True); {SLEEPS}"


def service(folder: Path, program: str, outlives: bool = False) -> Service:
    log_file = folder / "child.log"
    start = lambda: start_process([sys.executable, "-c", program], os.environ, log_file)  # noqa: E731
    return Service("The child", start, log_file, outlives=outlives)


def watched(supervisor: Supervisor, true: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "It did not happen in time."
        supervisor.watch()
        time.sleep(0.02)


def test_a_child_that_dies_is_started_again_and_the_others_stay(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append, pauses_s=(0.05, 0.05))
    mortal, other = service(tmp_path, SLEEPS), service(tmp_path, SLEEPS)
    first, stays = supervisor.add(mortal), supervisor.add(other)
    try:
        first.kill()
        watched(supervisor, lambda: mortal.process is not first)
        assert mortal.process is not None
        assert mortal.process.poll() is None
        assert other.process is stays
        assert stays.poll() is None
        assert len(said) == 1
        assert "The child has died (SIGKILL" in said[0]
    finally:
        supervisor.stop_all()
    assert mortal.process.poll() is not None
    assert stays.poll() is not None


def test_one_that_dies_again_and_again_is_given_up_with_two_sentences(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append, pauses_s=(0.05, 0.1))
    hopeless = service(tmp_path, "raise SystemExit(3)")
    supervisor.add(hopeless)
    watched(supervisor, lambda: hopeless.given_up)
    assert [("exit code 3" in line, "given up" in line) for line in said] == [(True, False), (True, True)]
    last = hopeless.process
    for _ in range(10):
        supervisor.watch()
        time.sleep(0.02)
    assert hopeless.process is last


def test_pauses_grow(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda sentence: None, pauses_s=(0.1, 0.6))
    mortal = service(tmp_path, "raise SystemExit(1)")
    supervisor.add(mortal)
    starts = [mortal.started]
    for _ in range(2):
        watched(supervisor, lambda: mortal.started != starts[-1])
        starts.append(mortal.started)
    assert starts[1] - starts[0] >= 0.1
    assert starts[2] - starts[1] >= 0.6


def test_what_outlives_its_parent_goes_on_until_everything_is_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda sentence: None, pauses_s=(0.05,))
    runner = service(tmp_path, PARENT, outlives=True)
    first = supervisor.add(runner)
    watched(supervisor, lambda: (tmp_path / "child.log").read_text().strip())
    training = int((tmp_path / "child.log").read_text())
    began = start_time(training)
    first.kill()
    watched(supervisor, lambda: runner.process is not first)
    assert lives(training, began)
    supervisor.stop_all()
    assert not lives(training, began)


def test_half_of_a_dead_server_is_killed_before_it_is_started_again(tmp_path: Path) -> None:
    """MLflow's server is two processes: the second would keep the port."""
    supervisor = Supervisor(lambda sentence: None, pauses_s=(0.05,))
    server = service(tmp_path, PARENT)
    first = supervisor.add(server)
    watched(supervisor, lambda: (tmp_path / "child.log").read_text().strip())
    half = int((tmp_path / "child.log").read_text().split()[0])
    began = start_time(half)
    os.kill(first.pid, signal.SIGKILL)
    watched(supervisor, lambda: server.process is not first)
    watched(supervisor, lambda: not lives(half, began))
    supervisor.stop_all()


def test_a_log_is_rotated_while_its_process_writes(tmp_path: Path) -> None:
    log_file = tmp_path / "x.log"
    with log_file.open("ab", buffering=0) as log:
        log.write(b"a" * 100)
        assert not rotate(log_file, most_bytes=100)
        log.write(b"b")
        assert rotate(log_file, most_bytes=100)
        log.write(b"c")
    assert log_file.read_bytes() == b"c"
    assert (tmp_path / "x.log.1").read_bytes() == b"a" * 100 + b"b"
    assert not rotate(tmp_path / "absent.log")

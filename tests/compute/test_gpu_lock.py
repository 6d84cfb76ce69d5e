"""One GPU, one trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganpipe.compute import locks
from ganpipe.compute.locks import holder, lock_gpus
from ganpipe.errors import GanpipeError


def test_a_claim_names_its_holder_and_is_freed_by_a_kill_even_with_children_left(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from ganpipe.compute.locks import lock_gpus\n"
        "with lock_gpus(['test-gpu'], False, print):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert f"process {process.pid}" in holder("test-gpu")
        sentence = f"busy with another ganpipe \\(process {process.pid}"
        with pytest.raises(GanpipeError, match=sentence), lock_gpus(["test-gpu"], False, print):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        with lock_gpus(["test-gpu"], False, print):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_waiting_for_a_claim_says_so_once_and_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "ASK_AGAIN_S", 0.05)
    program = (
        "import time\nfrom ganpipe.compute.locks import lock_gpus\n"
        "with lock_gpus(['test-gpu-2'], False, print):\n    print('held', flush=True)\n    time.sleep(0.6)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    said: list[str] = []
    started = time.monotonic()
    with lock_gpus(["test-gpu-2"], True, said.append):
        assert time.monotonic() - started < 30
    process.wait()
    assert len(said) == 1
    assert "waiting for it" in said[0]

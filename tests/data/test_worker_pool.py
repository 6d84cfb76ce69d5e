"""Worker processes: a file that loops, eats or crashes costs itself, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ganpipe.data.worker_pool import KnownResult, WorkerPool
from ganpipe.imaging.image import RejectedImage


def behave(task: object) -> object:
    """Runs in a worker."""
    if task == "sleep":
        time.sleep(60)
    if task == "crash":
        os.abort()
    if task == "eat":
        return len(bytearray(8 * 2**30))
    return task


def test_results_come_in_order_with_what_was_known_in_between() -> None:
    tasks = [KnownResult(k) if k % 3 == 0 else k for k in range(100)]
    with WorkerPool(behave, count=2) as workers:
        assert list(workers.ordered(tasks)) == list(range(100))


def test_no_process_is_started_where_all_is_known() -> None:
    with WorkerPool(behave) as workers:
        assert list(workers.ordered([KnownResult(k) for k in range(3000)])) == list(range(3000))
        assert workers._pool is None


def test_a_file_over_its_limits_is_refused_and_its_neighbors_are_not() -> None:
    tasks = [0, 1, "sleep", 2, "crash", 3, "eat", 4]
    with WorkerPool(behave, count=2, seconds=3) as workers:
        results = list(workers.ordered(tasks))
    codes = [r.code if isinstance(r, RejectedImage) else r for r in results]
    assert codes == [0, 1, "time", 2, "crash", 3, "memory", 4]


def test_workers_end_with_a_parent_that_was_killed() -> None:
    program = (
        "import os, signal\n"
        "from tests.data.test_worker_pool import pids_of\n"
        "from ganpipe.data.worker_pool import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    workers = WorkerPool(pids_of, count=2)\n"
        "    print(*set(workers.ordered(range(64))), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids, done.stderr
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(map(alive, pids)):
        time.sleep(0.2)
    assert not any(map(alive, pids))


def pids_of(_: int) -> int:
    return os.getpid()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

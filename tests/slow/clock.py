"""A time of day that a test sets for real processes, and for SQLite in them. Waiting, timeouts and file times stay real.

The library is the test's own: libfaketime 0.9.10, Debian's, makes Python's `time.sleep` fail as soon as the monotonic clock
is left alone.
"""

from __future__ import annotations

import subprocess
import time
from datetime import datetime
from pathlib import Path

from ganpipe.files import write_text


class Clock:
    """The clock of the processes that are started with `environment()`; they read it from a file each time they look."""

    def __init__(self, compiler: str, folder: Path, now: datetime) -> None:
        self.library, self.file = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self.library, source, "-ldl"], check=True)
        self.go_to(now)

    def go_to(self, now: datetime) -> None:
        """Sets it; from there it runs on as fast as the real one."""
        write_text(self.file, f"{now.timestamp() - time.time():.0f}\n")

    def environment(self) -> dict[str, str]:
        """The variables of the processes that look at it."""
        return {"LD_PRELOAD": str(self.library), "GANPIPE_TEST_CLOCK": str(self.file)}

"""The children of `ganpipe up`: started together, each started again when it dies, stopped together."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ganpipe.compute.processes import signal_group, stop_process
from ganpipe.console import say
from ganpipe.services.log_files import rotate

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 60.0, 60.0)  # before each new start; then it is given up
SETTLED_S = 300.0  # a child that has lived for so long begins again with the first pause
ROTATE_EVERY_S = 60.0

Tell = Callable[[str], None]


@dataclass
class Service:
    """A child: how it is started, where it logs, and how long it may take to stop.

    `outlives`: processes that it has started go on when it dies; they are stopped with everything else.
    """

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log_file: Path
    patience_s: float = 10.0
    outlives: bool = False
    process: subprocess.Popen[bytes] | None = None
    left: list[subprocess.Popen[bytes]] = field(default_factory=list)
    deaths: int = 0
    started: float = 0.0
    start_at: float | None = None  # the time of the next start, while it is dead
    given_up: bool = False

    def begin(self) -> subprocess.Popen[bytes]:
        """Starts the child."""
        self.process, self.started, self.start_at = self.start(), time.monotonic(), None
        return self.process

    def stop(self) -> None:
        """Stops the child, and what earlier ones have left behind."""
        for process in [*self.left, *([self.process] if self.process else [])]:
            stop_process(process, self.patience_s)


class Supervisor:
    """Keeps services alive. `tell` hears once of a death, of a recovery, and of a service that is given up."""

    def __init__(self, tell: Tell = say, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self.services: list[Service] = []
        self.tell, self.pauses_s = tell, pauses_s
        self._rotate_at = time.monotonic()

    def add(self, service: Service) -> subprocess.Popen[bytes]:
        """Starts a service and keeps it alive from now on."""
        self.services.append(service)
        return service.begin()

    def watch(self) -> None:
        """Starts again what has died, when its pause is over; keeps log files small. Called again and again."""
        for service in self.services:
            self._watch(service)
        if time.monotonic() > self._rotate_at:
            self._rotate_at = time.monotonic() + ROTATE_EVERY_S
            for service in self.services:
                rotate(service.log_file)

    def _watch(self, service: Service) -> None:
        service.left = [process for process in service.left if signal_group(process.pid, 0)]
        now = time.monotonic()
        if service.given_up or service.process is None:
            return
        if service.start_at is not None:
            if now >= service.start_at:
                service.begin()
        elif service.process.poll() is not None:
            self._note_death(service, now)
        elif service.deaths and now - service.started > SETTLED_S:
            service.deaths = 0
            self.tell(f"{service.name} runs again.")

    def _note_death(self, service: Service, now: float) -> None:
        assert service.process is not None
        if service.outlives and signal_group(service.process.pid, 0):
            service.left.append(service.process)
        else:
            signal_group(service.process.pid, signal.SIGKILL)  # half of a server would keep its port
        how = f"{service.name} has died ({_reason(service.process.returncode)}; see {service.log_file})"
        if service.deaths >= len(self.pauses_s):
            service.given_up = True
            self.tell(
                f"{how}. It died {service.deaths + 1} times and is given up; everything else goes on. "
                "Start `ganpipe up` again when its cause is gone."
            )
            return
        service.start_at = now + self.pauses_s[service.deaths]
        if service.deaths == 0:
            self.tell(f"{how}; it is started again, and everything else goes on.")
        service.deaths += 1

    def stop_all(self) -> None:
        """Stops the last one first: the runner's SIGTERM lets a training write its checkpoint."""
        for service in reversed(self.services):
            service.stop()


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

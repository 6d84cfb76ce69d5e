"""How a flow run ends that a signal or a person has stopped: neither failed nor crashed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import State, Task, runtime
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.states import Cancelled

from flows.runs import is_cancelled
from ganpipe.compute.process_identity import this_process
from ganpipe.errors import Interrupted
from ganpipe.stores.prefect_database import INTERRUPTED
from ganpipe.stores.run_records import read_records, save_record
from ganpipe.stores.workspace import Workspace

SIGNALS = (Interrupted, KeyboardInterrupt, TerminationSignal)
STOPS = (*SIGNALS, CancelledRun)

P = ParamSpec("P")
R = TypeVar("R")


class _LastStop:
    """What has stopped a task of this process. Prefect passes on that the task was cancelled, and not by what."""

    stop: BaseException | None = None


class StoppableTask(Task[P, R]):
    """A task that a signal ends as Cancelled. Prefect itself would say Failed or Crashed."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it; raises CancelledRun if a signal has stopped it."""
        result = super().__call__(*args, **kwargs)
        if isinstance(result, State):
            raise CancelledRun(result.message)
        return result


def task(name: str, **options: Any) -> Callable[[Callable[P, R]], StoppableTask[P, R]]:
    """Prefect's decorator, for a StoppableTask."""

    def decorate(function: Callable[P, R]) -> StoppableTask[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except SIGNALS as stop:
                _LastStop.stop = stop
                return Cancelled(message=_why(stop))

        return StoppableTask(fn=run, name=name, **options)

    return decorate


def stopped_state(workspace: Workspace, stop: BaseException) -> State[Any]:
    """Cancelled, if a person has stopped this run; Interrupted, if `ganpipe up` or its machine was stopped.

    What was cancelled is not resumed by a schedule, so the run's record says so, too.
    """
    if isinstance(stop, CancelledRun) and _LastStop.stop:
        stop = _LastStop.stop
    flow_run = runtime.flow_run.id
    by_person = _signum_of(stop) == signal.SIGINT or (flow_run is not None and is_cancelled(flow_run))
    if not by_person:
        return Cancelled(name=INTERRUPTED, message=_why(stop))
    for record in read_records(workspace).whole:
        if record.state == "interrupted" and record.process == this_process():
            save_record(workspace, replace(record, state="cancelled"))
    return Cancelled(message=_why(stop))


def result_of(state: State[R]) -> R:
    """The result of a flow run of this process.

    Raises:
        Interrupted: it was stopped; the exit code is the signal's.
    """
    if state.is_cancelled():
        signum = signal.SIGTERM if _LastStop.stop is None else _signum_of(_LastStop.stop)
        raise Interrupted(signum, state.message or "The run was cancelled.")
    return state.result()


def _signum_of(stop: BaseException) -> int:
    if isinstance(stop, Interrupted):
        return stop.signum
    if isinstance(stop, TerminationSignal):
        return int(stop.signal)
    return signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM


def _why(stop: BaseException) -> str:
    if isinstance(stop, Interrupted):
        return str(stop)
    name = signal.Signals(_signum_of(stop)).name
    return f"{name}: stopped; the same command resumes from what is finished."

"""How a flow run ends early: stopped by a signal or a person, or failed with one sentence."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import State, Task, get_run_logger, runtime
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.states import Cancelled, Failed

from flows.runs import is_cancelled
from ganpipe.compute.process_identity import this_process
from ganpipe.errors import GanpipeError, Interrupted, describe_error, redact
from ganpipe.stores.prefect_database import INTERRUPTED
from ganpipe.stores.run_records import read_records, save_record
from ganpipe.stores.workspace import Workspace

SIGNALS = (Interrupted, KeyboardInterrupt, TerminationSignal)
STOPS = (*SIGNALS, CancelledRun)

P = ParamSpec("P")
R = TypeVar("R")


class _LastStop:
    """The exception that last stopped a task of this process.

    Prefect passes on that the task was cancelled, and not by what.
    """

    stop: BaseException | None = None


class StoppableTask(Task[P, R]):
    """A task that a signal ends as Cancelled, and an error of the user as Failed with its sentence.

    Prefect itself would say Failed or Crashed, and log the traceback.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it; raises CancelledRun if a signal has stopped it, and the error if it has failed."""
        result = super().__call__(*args, **kwargs)
        if isinstance(result, State) and result.is_failed():
            return result.result()
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
            except GanpipeError as error:
                return failed_state(None, error)

        return StoppableTask(fn=run, name=name, **options)

    return decorate


def failed_state(workspace: Workspace | None, error: Exception) -> State[Any]:
    """Failed with the sentence; only what nobody foresaw leaves its traceback in the log."""
    sentence = describe_error(error, workspace.root if workspace else None)
    details = "" if isinstance(error, GanpipeError) else "".join(traceback.format_exception(error))
    get_run_logger().error(redact(f"{sentence}\n{details}".rstrip()))
    return Failed(message=sentence, data=error)


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

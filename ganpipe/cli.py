"""The process of a command: signals, errors, exit codes.

Heavy libraries are imported in the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ganpipe.compute.signals import is_ignored, leave_terminal
from ganpipe.errors import GanpipeError, Interrupted, describe_error
from ganpipe.parser.root import build_parser


def entry() -> NoReturn:
    """The process of the `ganpipe` command: runs it, and leaves when every exit handler has run.

    Taking torch, MLflow and Prefect apart object by object, only to end, cost 1.5 s (LOG.md).
    """
    status = 1
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no × is told \\xd7
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Registered first, therefore called last.
    atexit.register(lambda: (sys.stdout.flush(), sys.stderr.flush(), os._exit(status)))
    try:
        status = main()
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (0 done, 1 failed, 2 wrong use, 130 and 143 after a signal)."""
    arguments = build_parser().parse_args(argv)
    debug = getattr(arguments, "debug", False)
    # Imports allocate a million objects that live to the end: looking through them again and again while they load
    # cost 1.1 s (LOG.md).
    gc.set_threshold(100_000)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if not is_ignored(signum):
            signal.signal(signum, _terminated)
    try:
        from ganpipe.console import show_logs

        show_logs(debug)
        module, function = arguments.run.split(".")
        return int(getattr(importlib.import_module(f"ganpipe.commands.{module}"), function)(arguments))
    except Interrupted as stopped:
        return _fail(stopped, debug, stopped.exit_code)
    except GanpipeError as error:
        return _fail(error, debug, 1)
    except KeyboardInterrupt:
        return _fail(GanpipeError("Interrupted."), debug, 130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        return _fail(error, debug, 1, Path(getattr(arguments, "workspace", None) or "."))


def _terminated(signum: int, _: FrameType | None) -> None:
    """SIGTERM and SIGHUP end as an exception, so that everything that was started is stopped."""
    if signum == signal.SIGHUP:  # a closed terminal may send it twice
        signal.signal(signum, signal.SIG_IGN)
        leave_terminal()
    name = signal.Signals(signum).name
    raise Interrupted(signum, f"{name}: stopped; the same command resumes from what is finished.")


def _fail(error: BaseException, debug: bool, code: int, workspace: Path | None = None) -> int:
    from ganpipe.console import say, say_traceback

    if debug:
        say_traceback(error)
    else:
        sentence = describe_error(error, workspace)
        is_unexpected = sentence.startswith("Unexpected ") and not isinstance(error, GanpipeError)
        hint = " (run again with --debug for the traceback)." if is_unexpected else ""
        say(f"ganpipe: {sentence}{hint}")
    return code

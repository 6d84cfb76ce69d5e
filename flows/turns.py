"""Whose turn it is: one run of a workspace works at a time, and at most one of each kind waits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from flows.runs import set_running
from ganpipe.compute.locks import Busy
from ganpipe.console import say
from ganpipe.settings.schema import Work
from ganpipe.stores.run_records import read_records
from ganpipe.stores.workspace import Workspace

DOING: dict[Work, str] = {
    "retrain": "is training",
    "stylize": "is stylizing",
    "evaluate-champion": "is evaluating",
    "verify-data": "is verifying",
}


class Skipped(Exception):
    """This run is not needed now; the message says why."""


@contextmanager
def take_turn(workspace: Workspace, work: Work, dataset: str, name: str, if_busy: str) -> Iterator[None]:
    """Holds the workspace for the flow run `name`; a run that waits says so in Prefect.

    `if_busy`, if another run of this work on this dataset works or waits: "skip" raises Skipped, "wait" waits for it,
    "leave" raises Busy. A run of another kind is waited for, unless "leave".
    """
    own, waited = f"run {name} {DOING[work]}", False
    with ExitStack() as stack:

        def take(what: str, wait: bool) -> None:
            nonlocal waited
            try:
                stack.enter_context(workspace.lock(what, 0.0, holder=own))
            except Busy as busy:
                if not wait:
                    raise
                waited = True
                say(f"Waiting: {busy.holder}.")
                set_running("Waiting", f"Waiting: {busy.holder}.")
                stack.enter_context(workspace.lock(what, math.inf, holder=own))

        if if_busy == "skip":
            try:
                take(f"{work}-{dataset}", wait=False)
                if work == "retrain":
                    _require_free(workspace)
            except Busy as busy:
                raise Skipped(busy.holder) from None
        else:
            take(f"{work}-{dataset}", wait=if_busy == "wait")
        take("run", wait=if_busy != "leave")
        if waited:
            set_running("Running", "Its turn has come.")
        yield


def _require_free(workspace: Workspace) -> None:
    """Raises Busy while `ganpipe train`, which takes no turn, is training."""
    try:
        with workspace.lock("training", 0.0):
            return
    except Busy as busy:
        running = [record.run_id for record in read_records(workspace).whole if record.state == "running"]
        who = f"run {running[-1]} is training" if running else busy.holder
        raise Busy(str(busy), who) from None

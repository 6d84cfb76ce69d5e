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
    "gc": "is freeing room",
}


class Skipped(Exception):
    """This run is not needed now; the message says why."""


@contextmanager
def take_turn(workspace: Workspace, work: Work, dataset: str, name: str, if_busy: str) -> Iterator[None]:
    """Holds the workspace for the flow run `name`; a run that waits says so in Prefect.

    `if_busy`, if another run of this work on this dataset works or waits: "skip" raises Skipped, "wait" waits for it,
    "next" waits, too, unless another one waits so: that one will see the same data. "leave" raises Busy. A run of another
    kind is waited for, unless "leave".
    """
    queue = _Queue(workspace, f"run {name} {DOING[work]}")
    with ExitStack() as stack, ExitStack() as line:
        if if_busy == "next":
            queue.stand_in(line, f"next-{work}-{dataset}", f"run {name} waits and will see the same data")
        if if_busy == "skip":
            try:
                queue.enter(stack, f"{work}-{dataset}", wait=False)
                queue.pass_training(work, wait=False)
            except Busy as busy:
                raise Skipped(busy.holder) from None
        else:
            queue.enter(stack, f"{work}-{dataset}", wait=if_busy != "leave")
        queue.enter(stack, "run", wait=if_busy != "leave")
        queue.pass_training(work, wait=if_busy != "leave")
        if queue.waited:
            set_running("Running", "Its turn has come.")
        line.close()
        yield


class _Queue:
    """Takes locks for a run that is called `own`. `waited`: whether it has said that it waits."""

    def __init__(self, workspace: Workspace, own: str) -> None:
        self.workspace, self.own, self.waited = workspace, own, False

    def enter(self, stack: ExitStack, what: str, wait: bool) -> None:
        """Holds a lock until the stack is left."""
        try:
            stack.enter_context(self.workspace.lock(what, 0.0, holder=self.own))
        except Busy as busy:
            if not wait:
                raise
            self._say_waiting(busy.holder)
            stack.enter_context(self.workspace.lock(what, math.inf, holder=self.own))

    def stand_in(self, line: ExitStack, what: str, holder: str) -> None:
        """Is the only one in a line until `line` is left.

        Raises:
            Skipped: another run stands there.
        """
        try:
            line.enter_context(self.workspace.lock(what, 0.0, holder=holder))
        except Busy as busy:
            raise Skipped(busy.holder) from None

    def pass_training(self, work: Work, wait: bool) -> None:
        """Waits for `ganpipe train`, which takes no turn, before a run that trains or deletes.

        Raises:
            Busy: it is training, and `wait` is false.
        """
        if work not in ("retrain", "gc"):
            return
        try:
            with ExitStack() as stack:
                self.enter(stack, "training", wait)
        except Busy as busy:
            raise Busy(str(busy), self._name_training(busy.holder)) from None

    def _say_waiting(self, holder: str) -> None:
        self.waited = True
        sentence = f"Waiting: {self._name_training(holder)}."
        say(sentence)
        set_running("Waiting", sentence)

    def _name_training(self, holder: str) -> str:
        """Names the run that `ganpipe train` works on, of which the lock knows the process alone."""
        running = [r.run_id for r in read_records(self.workspace).whole if r.state == "running"]
        return f"run {running[-1]} is training" if running and holder.startswith("process") else holder

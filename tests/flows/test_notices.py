"""Notices of a run: the events, the sentence, the picture."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from flows import notices
from ganpipe.evaluation.gate_result import KEPT, PROMOTED, UNDECIDED, GateResult
from ganpipe.services.notifications import Notification
from ganpipe.stages.served import serve_only
from ganpipe.stores.workspace import Workspace


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Notification]:
    """The notifications instead of their delivery."""
    found: list[Notification] = []
    monkeypatch.setattr(notices, "notify", lambda workspace, notification: found.append(notification))
    return found


def result(verdict: str, gate: GateResult | None) -> Any:
    return SimpleNamespace(
        verdict=verdict,
        evidence=["Half of them repeat another one."],
        gate=gate,
        model_version="ganpipe-cats v2",
        run="cats-1",
        dataset={"name": "cats"},
        report_card="/w/report.png",
        grid="/w/samples.png",
        mlflow_run_id="m1",
    )


@pytest.mark.parametrize(
    ("verdict", "gate", "events", "said"),
    [
        (
            "collapsed",
            GateResult(KEPT, "No."),
            ("verdict", "refused"),
            "ganpipe-cats v2 was not promoted: No.",
        ),
        (
            "healthy",
            GateResult(PROMOTED, "Better."),
            ("promoted",),
            "ganpipe-cats v2 is the champion now: Better.",
        ),
        (
            "healthy",
            GateResult(PROMOTED, "B.", waiting=True),
            ("promoted",),
            "waits for `ganpipe promote`: B.",
        ),
        ("fair", GateResult(UNDECIDED, "Few."), (), "was not promoted: Few."),
        ("poor", None, ("verdict",), "The verdict is poor. Half of them repeat another one."),
    ],
)
def test_a_result_is_one_message_with_its_events_and_the_report_card(
    workspace: Workspace,
    told: list[Notification],
    verdict: str,
    gate: GateResult | None,
    events: tuple[str, ...],
    said: str,
) -> None:
    notices.tell_result(workspace, result(verdict, gate))
    (message,) = told
    assert (message.events, message.subject, message.picture) == (events, "cats", "/w/report.png")
    assert said in message.sentence
    assert message.sentence.startswith("Run cats-1: ")


def test_the_runner_tells_of_a_crash_in_the_workspace_that_it_serves_and_no_other(
    workspace: Workspace, told: list[Notification]
) -> None:
    run = SimpleNamespace(
        name="cats 02:00", id="f1", parameters={"dataset": "cats", "workspace": "/elsewhere"}
    )
    state = SimpleNamespace(message="Process exited with status code: -9.")
    call = {"flow": None, "flow_run": run, "state": state}  # as Prefect's runner calls its hooks
    notices.tell_crash(**call)
    assert told == [], "it was started by hand"
    serve_only(str(workspace.root), [], [], os.getpid())
    notices.tell_crash(**call)
    (message,) = told
    assert (message.events, message.subject) == (("crashed",), "cats")
    assert message.sentence == "Flow run cats 02:00 crashed: Process exited with status code: -9."

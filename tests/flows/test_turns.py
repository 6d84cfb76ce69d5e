"""One run works at a time, at most one of each kind waits; and how a run ends that somebody has stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from prefect.exceptions import TerminationSignal

from flows.stops import stopped_state
from flows.turns import Skipped, take_turn
from ganpipe.compute.locks import Busy
from ganpipe.compute.process_identity import this_process
from ganpipe.errors import Interrupted
from ganpipe.settings.schema import Settings
from ganpipe.stores.prefect_database import INTERRUPTED
from ganpipe.stores.run_records import load_record, new_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace


def test_a_scheduled_run_is_skipped_while_one_of_its_kind_works(workspace: Workspace) -> None:
    with take_turn(workspace, "retrain", "cats", "cats 02:00", "skip"):
        with (
            pytest.raises(Skipped, match=r"^run cats 02:00 is training$"),
            take_turn(workspace, "retrain", "cats", "cats 03:00", "skip"),
        ):
            pass
        with pytest.raises(Busy), take_turn(workspace, "retrain", "cats", "by hand", "leave"):
            pass
    with take_turn(workspace, "retrain", "cats", "cats 04:00", "skip"):
        pass


@pytest.mark.parametrize(("work", "dataset"), [("stylize", "cats"), ("retrain", "dogs")])
def test_one_of_another_kind_waits_and_a_second_is_skipped(
    workspace: Workspace, work: str, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[str] = []

    def wait_for_turn() -> None:
        with take_turn(workspace, work, dataset, "patient", "skip"):  # type: ignore[arg-type]
            events.append("its turn")

    with ExitStack() as first:
        first.enter_context(take_turn(workspace, "retrain", "cats", "cats 02:00", "skip"))
        waiting = threading.Thread(target=wait_for_turn)
        waiting.start()
        _soon(lambda: "Waiting: run cats 02:00 is training." in capsys.readouterr().err)
        with (
            pytest.raises(Skipped, match=r"run patient"),
            take_turn(workspace, work, dataset, "late", "skip"),  # type: ignore[arg-type]
        ):
            pass
        events.append("first ends")
    waiting.join(30)
    assert events == ["first ends", "its turn"]


def test_of_many_updates_during_a_run_one_waits_and_the_others_are_skipped(workspace: Workspace) -> None:
    """Each new version starts a run; the one that waits sees the last of them."""
    events: list[str] = []
    skipped: list[str] = []

    def update(name: str) -> None:
        try:
            with take_turn(workspace, "retrain", "cats", name, "next"):
                events.append(f"{name} works")
        except Skipped as why:
            skipped.append(str(why))

    waiting = [threading.Thread(target=update, args=(f"update {k}",)) for k in range(5)]
    with take_turn(workspace, "retrain", "cats", "cats 02:00", "skip"):
        for thread in waiting:
            thread.start()
        _soon(lambda: len(skipped) == 4)
        assert events == []
    for thread in waiting:
        thread.join(30)
    [worked] = events
    assert set(skipped) == {f"run {worked.removesuffix(' works')} waits and will see the same data"}


def test_an_update_that_comes_when_the_waiting_run_has_begun_waits_in_turn(workspace: Workspace) -> None:
    done = threading.Event()

    def update() -> None:
        with take_turn(workspace, "retrain", "cats", "second", "next"):
            done.set()

    with take_turn(workspace, "retrain", "cats", "first", "next"):
        later = threading.Thread(target=update)
        later.start()
        assert not done.wait(0.5)
    later.join(30)
    assert done.is_set()


def test_a_training_by_hand_is_named_and_concerns_only_those_who_train(
    workspace: Workspace, settings: Settings
) -> None:
    record = new_record("cats", "v", settings, ("cpu", "fp32"))
    run_folder(workspace, record.run_id).mkdir(parents=True)
    save_record(workspace, replace(record, state="running", process=this_process()))
    with workspace.lock("training", 0.0):
        with (
            pytest.raises(Skipped, match=f"^run {record.run_id} is training$"),
            take_turn(workspace, "retrain", "cats", "a", "skip"),
        ):
            pass
        with take_turn(workspace, "verify-data", "cats", "b", "skip"):
            pass


@pytest.mark.parametrize(
    ("stop", "state", "record_says"),
    [
        (KeyboardInterrupt(), "Cancelled", "cancelled"),
        (Interrupted(signal.SIGINT, "stopped at 3 images"), "Cancelled", "cancelled"),
        (Interrupted(signal.SIGTERM, "stopped at 3 images"), INTERRUPTED, "interrupted"),
        (Interrupted(signal.SIGHUP, "stopped at 3 images"), INTERRUPTED, "interrupted"),
        (TerminationSignal(signal=signal.SIGTERM), INTERRUPTED, "interrupted"),
    ],
)
def test_a_stop_is_no_failure(
    workspace: Workspace, settings: Settings, stop: BaseException, state: str, record_says: str
) -> None:
    own = new_record("cats", "v", settings, ("cpu", "fp32"))
    other = new_record("dogs", "v", settings, ("cpu", "fp32"))
    for record, process in ((own, this_process()), (other, "another/process/1/2")):
        run_folder(workspace, record.run_id).mkdir(parents=True)
        save_record(workspace, replace(record, state="interrupted", process=process))
    ended = stopped_state(workspace, stop)
    assert (ended.type.value, ended.name) == ("CANCELLED", state)
    assert "stopped" in str(ended.message)
    states = [found.state for run in (own, other) if (found := load_record(workspace, run.run_id))]
    assert states == [record_says, "interrupted"]


def _soon(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(300):
        if true():
            return
        pause.wait(0.1)
    raise AssertionError("It did not happen in time.")

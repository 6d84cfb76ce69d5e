"""Filters of the runs, as they stand in a page's address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ganpipe.stages.run_filter import COLUMNS, asked_of, choices_of, filter_runs, not_numbers
from ganpipe.stages.status import RunStatus

CATS = RunStatus(
    "cats-1",
    "finished",
    "cats",
    "abc123",
    True,
    "m1",
    "ganpipe-cats v1",
    "good",
    "promoted",
    "It is better.",
    train_s=300.0,
    model="dcgan",
    kd=0.5,
    energy=0.0,
)
DOGS = replace(
    CATS, run="dogs-1", dataset="dogs", verdict="fair", gate="kept", kd=2.0, energy=-0.1, train_s=60.0
)
FAILED = replace(
    CATS,
    run="cats-2",
    state="failed",
    verdict=None,
    gate=None,
    kd=None,
    energy=None,
    train_s=0.0,
    reason="The DISK is full.",
)
RUNS = [CATS, DOGS, FAILED]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({}, [CATS, DOGS, FAILED]),
        ({"dataset": "cats"}, [CATS, FAILED]),
        ({"dataset": "cat"}, []),
        ({"verdict": "fair"}, [DOGS]),
        ({"outcome": "promoted"}, [CATS]),
        ({"version": "C12"}, [CATS, DOGS, FAILED]),
        ({"why": "disk"}, [FAILED]),
        ({"kd_from": "0.5"}, [CATS, DOGS]),
        ({"kd_to": "0.5"}, [CATS]),
        ({"kd_from": "0.6", "kd_to": "1e9"}, [DOGS]),
        ({"energy_from": "0"}, [CATS]),
        ({"energy_to": "0"}, [CATS, DOGS]),
        ({"minutes_from": "2"}, [CATS]),
        ({"minutes_to": "1"}, [DOGS]),
        ({"any": "DOGS-"}, [DOGS]),
        ({"any": "v1", "dataset": "cats", "kd_to": "1"}, [CATS]),
        ({"dataset": "dogs", "verdict": "good"}, []),
        ({"kd_from": "many"}, [CATS, DOGS, FAILED]),
        ({"kd_from": "nan"}, [CATS, DOGS, FAILED]),
    ],
)
def test_a_run_is_shown_if_it_fits_everything_that_is_asked(
    asked: dict[str, str], left: list[RunStatus]
) -> None:
    assert filter_runs(RUNS, asked) == left


def test_of_an_address_only_filters_that_are_used_count() -> None:
    assert asked_of({"dataset": " cats ", "verdict": "", "kd_to": "1", "page": "2"}) == {
        "dataset": "cats",
        "kd_to": "1",
    }


def test_what_is_no_number_is_said_in_a_sentence() -> None:
    assert not_numbers({"kd_from": "many", "kd_to": "1", "why": "x"}) == [
        "kd_from is 'many'; a number is expected, so it filters nothing."
    ]


def test_choices_are_the_values_that_the_runs_have_and_a_name_that_is_not_utf8_can_be_chosen() -> None:
    dataset, verdict = COLUMNS[0], next(c for c in COLUMNS if c.name == "verdict")
    strange = replace(CATS, dataset="caf\udce9")
    assert choices_of(verdict, RUNS) == ["fair", "good"]
    assert choices_of(dataset, [strange]) == ["caf\\xe9"]
    assert filter_runs([strange, *RUNS], {"dataset": "caf\\xe9"}) == [strange]

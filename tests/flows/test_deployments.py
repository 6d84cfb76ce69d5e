"""The table of deployments, as Prefect and `ganpipe up` see it."""

from __future__ import annotations

import inspect

from flows.deployments import DEPLOYMENTS, RETRAIN
from ganpipe.commands.operations import WATCHED
from ganpipe.stages.requests import RunRequest


def test_every_row_gives_its_flow_parameters_that_it_takes() -> None:
    request = RunRequest("/w", "cats", "demo", ["training.seed=3"])
    for row in DEPLOYMENTS:
        parameters = row.parameters(request)
        assert set(parameters) <= set(inspect.signature(row.flow.fn).parameters), row.name
        assert parameters["workspace"] == "/w"
    assert RETRAIN.parameters(request)["overrides"] == ["training.seed=3"]


def test_new_images_run_a_row_of_the_table() -> None:
    """`ganpipe up` names it without importing Prefect."""
    assert WATCHED in {row.full_name for row in DEPLOYMENTS}
    assert len({row.full_name for row in DEPLOYMENTS}) == len(DEPLOYMENTS)

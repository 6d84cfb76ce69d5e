"""`ganpipe run`: the whole chain."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ganpipe.commands.context import (
    LEAST_ROOM_BYTES,
    explain_preset,
    make_request,
    open_named_workspace,
    request_of,
    require_utf8,
)
from ganpipe.commands.tables import relative_path, show_metrics
from ganpipe.console import duration, out, pairs, print_json, say
from ganpipe.errors import GanpipeError
from ganpipe.files import require_room
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.evaluation.gate_result import GateResult
    from ganpipe.stores.run_results import RunResult


def run(arguments: Namespace) -> int:
    """The chain through Prefect; nothing is started where all is there already."""
    from ganpipe.services.prefect import prefect_api
    from ganpipe.services.recovery import recover

    started = time.monotonic()
    workspace = open_named_workspace(arguments, tracks=True)
    require_utf8(workspace)
    request_of(arguments, workspace).check_settings()
    require_room(workspace.state, LEAST_ROOM_BYTES)
    recover(workspace, prefect=False)
    result = _already_done(arguments, workspace) if (workspace.state / "results").exists() else None
    if result is not None:
        recover(workspace)
    if result is None:
        with prefect_api(workspace, meanwhile=lambda: _check_and_import(arguments, workspace)):
            from flows.stops import result_of
            from flows.works import retrain

            recover(workspace)  # with this server
            request = make_request(arguments, workspace)
            if not arguments.json:
                explain_preset(arguments, workspace)
            from httpx import TransportError

            try:
                state: Any = retrain(
                    request.workspace,
                    request.dataset,
                    request.preset,
                    request.overrides,
                    quiet=arguments.json,
                    if_busy=arguments.if_busy,
                    return_state=True,
                )
                result = result_of(state)
            except TransportError as error:
                result = _finished_without_server(arguments, workspace, error)
    seconds_total = round(time.monotonic() - started, 2)
    if arguments.json:
        print_json(result.as_dict() | {"seconds_total": seconds_total})
    else:
        _show_run(workspace, result, seconds_total)
    return 0


def _finished_without_server(arguments: Namespace, workspace: Workspace, error: Exception) -> RunResult:
    """The result of a run that Prefect's server has not heard the end of, if it came to its end.

    Raises:
        GanpipeError: it did not.
    """
    lost = f"Prefect's server has gone away during the run ({str(error) or type(error).__name__})"
    result = _already_done(arguments, workspace)
    if result is None:
        raise GanpipeError(f"{lost}; what is finished is kept, and the same command goes on from there.")
    say(f"{lost}; the run is finished all the same.")
    return replace(result, state="finished")


def _already_done(arguments: Namespace, workspace: Workspace) -> RunResult | None:
    from ganpipe.stages import run
    from ganpipe.stores import dataset_versions, datasets

    request = make_request(arguments, workspace)
    name, settings = request.dataset_name(), request.settings()
    if name not in datasets.dataset_names(workspace):
        return None
    version = dataset_versions.open_version(workspace, name, settings.data).version
    return run.up_to_date(workspace, version, settings)


def _check_and_import(arguments: Namespace, workspace: Workspace) -> None:
    """Half of a cold start is imports: they run while the server starts. An unknown dataset ends it here."""
    from ganpipe.stages import train
    from ganpipe.stores import dataset_versions, datasets

    request = make_request(arguments, workspace)
    name = request.dataset_name()
    train.check_request(request.settings())
    if arguments.if_busy == "leave":
        train.check_free(workspace, request.settings())
    if name not in datasets.SAMPLE_SOURCES:
        dataset_versions.open_version(workspace, name, request.settings().data)
    import flows.pipeline
    import flows.works  # noqa: F401


def _gate_word(gate: GateResult) -> str:
    if not gate.waiting:
        return gate.outcome
    return "better, and waits for `ganpipe promote`" if gate.outcome == "promoted" else "not compared"


def _show_run(workspace: Workspace, result: RunResult, seconds_total: float) -> None:
    data = result.dataset
    if result.state == "up_to_date":
        out.print(
            f"up to date: same data, settings and code as run {result.run} "
            f"(MLflow run {result.mlflow_run_id}); nothing was trained."
        )
    rows = [
        ("dataset", f"{data['name']}, version {data['version']}, {data['images']:,} images"),
        ("run", f"{result.run}, fingerprint {result.fingerprint[:12]}"),
        ("model", f"{result.model_version}{', champion' if result.champion else ''}"),
        ("verdict", f"{result.verdict}: {' '.join(result.evidence)}"),
        ("next", result.advice),
        *([("gate", f"{_gate_word(result.gate)}: {result.gate.reason}")] if result.gate else []),
        *[("note", note) for note in result.notes],
        ("report card", relative_path(workspace, result.report_card)),
        ("sample grid", relative_path(workspace, result.grid)),
        ("film", relative_path(workspace, result.film)),
        ("stylized", relative_path(workspace, result.contact_sheet)),
        (
            "time",
            ", ".join(f"{k} {duration(s)}" for k, s in result.seconds.items())
            + f"; this command {duration(seconds_total)}",
        ),
    ]
    show_metrics(result.metrics)
    pairs("", rows)
    for failure in result.style_failures:
        say(f"Not stylized: {failure}")
    out.print(
        f"MLflow run {result.mlflow_run_id}, Prefect flow run {result.flow_run_id}: `ganpipe up` shows both."
    )

"""`sweep` and `tune-gamma`: the search for settings."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ganpipe.commands.context import (
    LEAST_ROOM_BYTES,
    explain_preset,
    make_request,
    open_named_workspace,
    require_utf8,
)
from ganpipe.commands.models import USAGE_ERROR
from ganpipe.commands.tables import relative_path
from ganpipe.console import Bars, out, pairs, print_json, say, table
from ganpipe.files import require_room
from ganpipe.settings.params import parse_assignments
from ganpipe.stages.requests import LENGTHS
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.stages.sweep import SweepResult, TrialResult
    from ganpipe.stages.tune_gamma import GammaResult, Probe

PROBE_MINUTES = 2  # of training, for each γ, if no length is asked for


def sweep(arguments: Namespace) -> int:
    """A search over settings through Prefect; goes on with an unfinished one."""
    from ganpipe.services.prefect import prefect_api
    from ganpipe.services.recovery import recover

    if arguments.trials < 1:
        say("ganpipe sweep: --trials must be at least 1.")
        return USAGE_ERROR
    workspace = open_named_workspace(arguments, tracks=True)
    require_utf8(workspace)
    request = make_request(arguments, workspace)
    require_room(workspace.state, LEAST_ROOM_BYTES)
    recover(workspace, prefect=False)
    if not arguments.json:
        explain_preset(arguments, workspace)
    with prefect_api(workspace):
        from flows.stops import result_of
        from flows.sweep import sweep as flow

        recover(workspace)  # with this server
        state: Any = flow(
            request.workspace,
            request.dataset,
            request.preset,
            request.overrides,
            arguments.trials,
            quiet=arguments.json,
            if_busy=arguments.if_busy,
            return_state=True,
        )
        result: SweepResult = result_of(state)
    if arguments.json:
        print_json(asdict(result))
    else:
        _show_sweep(workspace, result)
    return 0


def _show_sweep(workspace: Workspace, result: SweepResult) -> None:
    best = result.best
    if best is None:
        say("No trial has finished: each one diverged. Lower the learning rates of the space.")
        return
    names = list(best.params)
    rows = [_trial_row(trial, names, trial == best) for trial in result.trials]
    table(f"Trials on {result.dataset}", ("trial", "state", "energy", *names, "run"), rows)
    mattered = ", ".join(f"{name} {share:.2f}" for name, share in result.importances.items())
    pairs(
        "",
        [
            ("best", best.sentence()),
            ("what mattered", mattered or "not known: too few trials have finished"),
            ("chart", relative_path(workspace, result.chart)),
            ("params.yaml", relative_path(workspace, result.fragment)),
        ],
    )
    for line in result.settings.splitlines():
        out.print(line)


def _trial_row(trial: TrialResult, names: list[str], is_best: bool) -> tuple[str, ...]:
    energy = "" if trial.energy is None else f"{trial.energy:.3f}{' *' if is_best else ''}"
    return (
        str(trial.number),
        trial.state,
        energy,
        *(str(trial.params[name]) for name in names),
        trial.run or "",
    )


def tune_gamma(arguments: Namespace) -> int:
    """Finds γ by short trainings."""
    from ganpipe.files import plain
    from ganpipe.services.recovery import recover
    from ganpipe.stages.tune_gamma import check_gamma, tune_gamma
    from ganpipe.stores import datasets

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
    request = make_request(arguments, workspace)
    if not LENGTHS & parse_assignments(request.overrides).keys():
        request = request.with_overrides([f"training.minutes={PROBE_MINUTES}"])
    settings = request.settings()
    check_gamma(settings)
    require_room(workspace.state, LEAST_ROOM_BYTES)
    if not arguments.json:
        explain_preset(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        version = datasets.ensure_dataset(workspace, request.dataset_name(), settings.data, bars)
        result = tune_gamma(workspace, version, settings, bars, arguments.if_busy == "wait")
    if arguments.json:
        print_json(plain(result))
    else:
        _show_gamma(workspace, result)
    return 0


def _show_gamma(workspace: Workspace, result: GammaResult) -> None:
    columns = ("γ", "energy", "pairs told apart", "gradient norm of D", "of G", "run")
    rows = [_probe_row(probe, probe.gamma == result.gamma) for probe in result.probes]
    table("Probes", columns, rows)
    pairs(
        "",
        [
            ("grids", relative_path(workspace, result.picture)),
            ("params.yaml", f"loss: {{gamma: {result.gamma:g}}}"),
        ],
    )
    out.print(result.sentence)


def _probe_row(probe: Probe, is_best: bool) -> tuple[str, ...]:
    mark = " *" if is_best else ""
    energy = "diverged" if probe.energy is None else f"{probe.energy:.3f}{mark}"
    figures = (f"{probe.told_apart:.0%}", f"{probe.d_grad:.3g}", f"{probe.g_grad:.3g}")
    return (f"{probe.gamma:g}", energy, *figures, probe.run)

"""The promote stage: registers a model, and lets the gate decide whether it replaces the champion."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.evaluate import open_judge
from ganpipe.evaluation.gate_result import KEPT, PROMOTED, UNDECIDED, GateResult, refusal, side_picture
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.imaging.provenance import save_png
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import Settings
from ganpipe.stages.compare import (
    Candidate,
    common_data,
    decide_between,
    draw_equally,
    draw_sheets,
    save_sheets,
)
from ganpipe.stages.evaluate import check_model, evaluation_compute
from ganpipe.stages.generate import load_model
from ganpipe.stages.restore import restore_in_mlflow
from ganpipe.stores.activities import record_activity
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.model_registry import ModelRef, ModelRegistry, user_name
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.registered_models import CHALLENGER, CHAMPION, registered_name
from ganpipe.stores.run_files import GATE_PICTURE
from ganpipe.stores.run_records import (
    RECORD,
    RunRecord,
    all_records,
    load_record,
    run_folder,
    save_record,
)
from ganpipe.stores.workspace import Workspace

ROLES = (CHAMPION, CHALLENGER)


def register_model(
    workspace: Workspace,
    record: RunRecord,
    evaluation: Evaluation,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
) -> RunRecord:
    """Registers the run's model, and promotes it if the gate and `evaluation.promote` say so."""
    record = restore_in_mlflow(workspace, record)
    registry, folder = ModelRegistry(workspace), run_folder(workspace, record.run_id) / "model"
    check_model(record, folder)
    challenger = registry.register(record, folder)
    champion = registry.champion(challenger.name)
    if _is_champion(registry, challenger):
        gate = record.gate or GateResult(KEPT, "It is the champion already.", challenger=str(challenger))
    elif settings.evaluation.promote == "never":
        gate = _by_hand(evaluation, challenger)
    elif champion is None:
        gate = _first(evaluation, challenger)
    else:
        with record_activity(workspace, record.run_id, report) as activity:
            gate = _judge(workspace, record, evaluation, version, settings, (champion, challenger), activity)
    return _settle(workspace, registry, record, challenger, gate, settings)


def _is_champion(registry: ModelRegistry, reference: ModelRef) -> bool:
    champion = registry.champion(reference.name)
    return champion is not None and champion.version == reference.version


def _by_hand(evaluation: Evaluation, challenger: ModelRef) -> GateResult:
    why = refusal(evaluation.verdict)
    reason = why or "evaluation.promote is never: it was not compared with the champion."
    return GateResult(KEPT, reason, challenger=str(challenger), waiting=why is None)


def _first(evaluation: Evaluation, challenger: ModelRef) -> GateResult:
    """There is no champion: the verdict alone decides."""
    if why := refusal(evaluation.verdict):
        reason = f"There is no champion yet, and this model does not become one. {why}"
        return GateResult(KEPT, reason, challenger=str(challenger))
    reason = f"There was no champion, and its verdict is {evaluation.verdict}."
    return GateResult(PROMOTED, reason, challenger=str(challenger))


def _judge(
    workspace: Workspace,
    record: RunRecord,
    evaluation: Evaluation,
    version: DatasetVersion,
    settings: Settings,
    models: tuple[ModelRef, ModelRef],
    report: Report,
) -> GateResult:
    """The gate's answer: champion and challenger draw anew, and are compared on the held-out images of this version."""
    compute, options = evaluation_compute(settings), settings.evaluation
    try:
        loaded = [load_model(workspace, f"{m.name}/{m.version}", None, compute) for m in models]
    except GanpipeError as error:
        why = f"The champion cannot be compared with: {error}"
        return GateResult(UNDECIDED, why, champion=str(models[0]), challenger=str(models[1]))
    champion, challenger = (Candidate(str(m.reference), m) for m in loaded)
    sides = champion, challenger
    data = common_data(workspace, version, loaded[::-1], settings.data)
    drawn = draw_equally(champion, challenger, data, options)
    judge = open_judge(data, options, compute, workspace.features, report)
    gate = decide_between(sides, drawn, evaluation.verdict, judge)
    path = run_folder(workspace, record.run_id) / GATE_PICTURE
    _save_pictures(sides, draw_sheets(sides, data, options), path, record.origin() | {"kind": "comparison"})
    return replace(gate, picture=str(path))


def _save_pictures(
    sides: tuple[Candidate, Candidate], sheets: Sequence[Image.Image], path: Path, origin: dict[str, Any]
) -> None:
    """Both sides beside real images, and each side alone."""
    origin = origin | {role: side.name for role, side in zip(ROLES, sides, strict=True)}
    save_sheets(sheets, sides, ROLES, path, origin)
    for role, sheet in zip(ROLES, sheets[:2], strict=True):
        save_png(sheet, side_picture(path, role), origin)


def _settle(
    workspace: Workspace,
    registry: ModelRegistry,
    record: RunRecord,
    challenger: ModelRef,
    gate: GateResult,
    settings: Settings,
) -> RunRecord:
    """Does what the gate says, and records it: in the run, in MLflow's run, as tags of the version."""
    is_champion = _is_champion(registry, challenger)
    if gate.outcome == PROMOTED and not is_champion:
        if settings.evaluation.promote == "auto":
            registry.promote(challenger, "gate", gate.reason)
            is_champion = True
        else:
            gate = replace(gate, waiting=True)
    if not is_champion:
        registry.challenge(challenger)
    registry.record_gate(challenger, gate)
    record = save_record(workspace, replace(record, model_version=str(challenger), gate=gate))
    Outbox(workspace, record).gate()
    record_champion(workspace, registry, record.dataset)
    return load_record(workspace, record.run_id) or record


def promote_run(workspace: Workspace, record: RunRecord, force: bool = False, because: str = "") -> ModelRef:
    """Makes the model that a run registered the champion; a version that MLflow has lost is registered again.

    Raises:
        GanpipeError: the run registered none; or its verdict or the gate refused it, and not `force`.
    """
    record = restore_in_mlflow(workspace, record)
    registry = ModelRegistry(workspace)
    reference = registry.version_of(record)
    refused = record.refusal
    if refused and not force and not _is_champion(registry, reference):
        raise GanpipeError(
            f"{reference} of run {record.run_id} was refused: {refused} "
            f"Promote it all the same with: ganpipe promote {record.run_id} --force"
        )
    registry.promote(reference, "force" if refused else "promote", because)
    if record.gate and record.gate.waiting:
        _save_keeping_age(workspace, replace(record, gate=replace(record.gate, waiting=False)))
    record_champion(workspace, registry, record.dataset)
    return reference


def refuse_run(workspace: Workspace, record: RunRecord, because: str = "") -> ModelRef:
    """Keeps the champion, though a run's model waits for a person to promote it; who refused it and why joins the gate's reason.

    Raises:
        GanpipeError: the model does not wait for a person.
    """
    if record.gate is None or not record.gate.waiting:
        said = f"the gate's answer is {record.gate.outcome}" if record.gate else "the gate has not seen it"
        raise GanpipeError(
            f"Run {record.run_id} has no model that waits for a person: {said}. "
            "`ganpipe rollback` brings the champion before back."
        )
    gate = _refused_by_hand(record.gate, because)
    record = restore_in_mlflow(workspace, record)
    registry = ModelRegistry(workspace)
    reference = registry.version_of(record)
    registry.record_gate(reference, gate)
    _save_keeping_age(workspace, replace(record, gate=gate))
    Outbox(workspace, record).gate()
    return reference


def _refused_by_hand(gate: GateResult, because: str) -> GateResult:
    why = f" ({because})" if because else ""
    reason = f"Refused by {user_name()} on {datetime.now(UTC):%Y-%m-%d}{why}. {gate.reason}"
    return replace(gate, outcome=KEPT, reason=reason, waiting=False)


def roll_back(workspace: Workspace, dataset: str | None, because: str = "") -> ModelRef:
    """Makes the champion before the present one the champion again; `dataset`: of the model that changed last.

    Raises:
        GanpipeError: there is none.
    """
    registry = ModelRegistry(workspace)
    name = registered_name(dataset) if dataset else registry.find_model(CHAMPION, None).name
    reference = registry.rollback(name, because)
    record_champion(workspace, registry, name.removeprefix(registered_name("")))
    return reference


def record_champion(workspace: Workspace, registry: ModelRegistry, dataset: str) -> None:
    """Makes the records of a dataset's runs say which of them is champion, as the registry does; their age stays."""
    champion = registry.champion(registered_name(dataset))
    for record in all_records(workspace):
        is_champion = champion is not None and record.mlflow_run_id == champion.run_id
        if record.dataset == dataset and record.champion != is_champion:
            _save_keeping_age(workspace, replace(record, champion=is_champion))


def _save_keeping_age(workspace: Workspace, record: RunRecord) -> None:
    path = run_folder(workspace, record.run_id) / RECORD
    changed = path.stat()
    save_record(workspace, record)
    os.utime(path, ns=(changed.st_atime_ns, changed.st_mtime_ns))

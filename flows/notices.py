"""Who is told of how a flow run has ended: failures, verdicts, promotions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import runtime

from ganpipe.evaluation.gate_result import PROMOTED, REFUSED_VERDICTS, GateResult
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.services.notifications import Notification, notify
from ganpipe.settings.schema import Event, Work
from ganpipe.stages.served import served_workspace
from ganpipe.stores.addresses import running_servers
from ganpipe.stores.run_records import RunRecord, load_record
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.stores.run_results import RunResult


def tell_failure(workspace: Workspace, work: Work, dataset: str, sentence: str) -> None:
    """A flow run has failed."""
    _tell(workspace, ("failed",), dataset, f"{work} failed: {sentence}", None, None)


def tell_result(workspace: Workspace, result: RunResult) -> None:
    """A whole run has finished: its verdict if that is not healthy, and what became of its model."""
    events, sentences = _judged(result.verdict, result.evidence)
    if result.gate:
        gate_events, gate_sentences = _decided(result.gate, str(result.model_version))
        events, sentences = events + gate_events, sentences + gate_sentences
    dataset, text = str(result.dataset["name"]), f"Run {result.run}: {' '.join(sentences)}"
    record = load_record(workspace, result.run)
    _tell(workspace, events, dataset, text, result.report_card or result.grid, record)


def tell_evaluation(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> None:
    """A champion was judged again: its verdict if that is not healthy."""
    events, sentences = _judged(evaluation.verdict, evaluation.evidence)
    text = f"Champion of run {record.run_id}: {' '.join(sentences)}"
    _tell(workspace, events, record.dataset, text, evaluation.grid, record)


def tell_crash(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook: the runner of `ganpipe up` has found the process of a flow run dead. Prefect names the arguments."""
    workspace = served_workspace()
    if workspace is not None:
        dataset = str(flow_run.parameters.get("dataset") or workspace.params().dataset)
        sentence = f"Flow run {flow_run.name} crashed: {state.message}"
        _tell(workspace, ("crashed",), dataset, sentence, None, None, str(flow_run.id))


def _judged(verdict: str, evidence: list[str]) -> tuple[tuple[Event, ...], list[str]]:
    if verdict not in REFUSED_VERDICTS:
        return (), [f"The verdict is {verdict}."]
    return ("verdict",), [f"The verdict is {verdict}.", *evidence]


def _decided(gate: GateResult, model: str) -> tuple[tuple[Event, ...], list[str]]:
    if gate.outcome == PROMOTED:
        what = "is better and waits for `ganpipe promote`" if gate.waiting else "is the champion now"
        return ("promoted",), [f"{model} {what}: {gate.reason}"]
    return (("refused",) if gate.refused else ()), [f"{model} was not promoted: {gate.reason}"]


def _tell(
    workspace: Workspace,
    events: tuple[Event, ...],
    dataset: str,
    sentence: str,
    picture: str | None,
    record: RunRecord | None,
    flow_run_id: str | None = None,
) -> None:
    servers, flow_run_id, links = running_servers(workspace), flow_run_id or runtime.flow_run.id, []
    if servers and flow_run_id:
        links.append(f"Prefect: {servers.flow_run_page(flow_run_id)}")
    if servers and record and record.mlflow_run_id:
        page = servers.mlflow_run_page(record.mlflow_run_id, record.mlflow_experiment_id)
        links.append(f"MLflow: {page}")
    notify(workspace, Notification(events, dataset, sentence, picture, tuple(links)))

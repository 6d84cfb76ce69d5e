"""A batch of images as a flow of its own: one task for dozens of them, here or wherever a task runner sends it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from prefect import flow, unmapped
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows import tasks
from flows.runs import begin_run, end_if_cancelled
from ganpipe.errors import GanpipeError
from ganpipe.files import from_utf8
from ganpipe.stages.stylize import StyleRequest
from ganpipe.style.batch.report import StyleReport
from ganpipe.style.batch.sweep import plan_sweep


def _ray(workers: int) -> TaskRunner[Any]:
    """A Ray cluster: the one of RAY_ADDRESS, or a local one with so many workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # telemetry is off, as everybody else's
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise GanpipeError(
            "The runner ray needs Ray, which is not installed: pip install 'ganpipe[ray]'"
        ) from None
    if address := os.environ.get("RAY_ADDRESS"):
        return RayTaskRunner(address=address)
    return RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False})


RUNNERS: dict[str, Callable[[int], TaskRunner[Any]]] = {
    "threads": lambda workers: ThreadPoolTaskRunner(max_workers=workers),
    "processes": lambda workers: ProcessPoolTaskRunner(max_workers=workers),
    "ray": _ray,
}


def stylize_batch(job: StyleRequest, spread: bool, quiet: bool = False) -> StyleReport:
    """Plans a batch, stylizes it in shards and reports. `spread`: by the flow's task runner instead of one by one here.

    Called in a flow. Here a signal stops a shard between two steps; elsewhere the runner stops its workers.
    """
    plan = tasks.plan_batch(job)
    networks = tasks.train_feedforward(job, plan, quiet) if plan.tasks else {}
    shards = plan.shards(job.settings.style.shard_items)
    if spread:
        parts = tasks.stylize_shard.map(unmapped(job), unmapped(networks), shards, unmapped(quiet)).result()
    else:
        parts = [tasks.stylize_shard(job, networks, shard, quiet) for shard in shards]
    return tasks.finish_batch(job, plan, parts)


@flow(name="ganpipe-stylize", log_prints=False, validate_parameters=False, persist_result=False)
def stylize(
    workspace: str,
    contents: list[str],
    styles: list[str],
    out: str,
    overrides: list[str] | None = None,
    masks: list[str] | None = None,
    preset: str | None = None,
    sweep: list[str] | None = None,
) -> StyleReport:
    """Stylizes contents × styles, with `sweep` × variants of the settings; images that exist already are skipped.

    Prefect keeps parameters as JSON: a path that is not UTF-8 comes as `ganpipe.files.to_utf8` writes it.
    """
    from ganpipe.stages.requests import RunRequest

    begin_run("stylize")
    end_if_cancelled(runner=None)
    request = RunRequest(workspace, None, preset, overrides or [])
    settings = request.settings()
    variants = plan_sweep(sweep or [], lambda more: request.with_overrides(more).settings().style)
    given = (tuple(map(from_utf8, words)) for words in (contents, styles, masks or []))
    content_words, style_words, mask_words = given
    job = StyleRequest(workspace, content_words, style_words, from_utf8(out), settings, mask_words, variants)
    report = stylize_batch(job, spread=True)
    if report.done:
        tasks.log_batch_run(job, report)
    return report

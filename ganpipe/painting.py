"""Stylisation tied to the workspace: which pictures are meant, who paints them, and what MLflow hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganpipe.charts import quality_chart
from ganpipe.drawing import generate_images, load_model
from ganpipe.errors import GanpipeError
from ganpipe.inputs import image_paths
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import Settings
from ganpipe.style.batch import StyleReport, finished
from ganpipe.style.manifest import read_entries
from ganpipe.style.paint import sample_photos, sample_styles
from ganpipe.style.painter import Done, paint
from ganpipe.style.plan import Plan, Work, plan_batch
from ganpipe.style.schooling import school
from ganpipe.tracking import Tracker
from ganpipe.training.device import Compute, choose_compute
from ganpipe.workspace import Workspace

SAMPLES = {"sample:photos": sample_photos, "sample:styles": sample_styles}
MODEL = "model:"
MODEL_PICTURES = 16
CHART = "quality.png"


@dataclass(frozen=True)
class StyleJob:
    """A batch as it can be sent to another process or machine: words and settings, no pictures."""

    workspace: str
    contents: tuple[str, ...]
    styles: tuple[str, ...]
    out: str
    settings: Settings
    masks: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)

    def opened(self) -> Workspace:
        """The workspace, with the tools pointed into it."""
        workspace = Workspace(Path(self.workspace))
        workspace.activate()
        return workspace


def picture_paths(workspace: Workspace, words: Sequence[str], folder: Path) -> list[Path]:
    """The pictures that words mean: samples, pictures of a model, or what `image_paths` knows, relative to `folder`.

    `model:REFERENCE` or `model:REFERENCE:COUNT` draws pictures of a registered model (16 of them).

    Raises:
        GanpipeError: there is nothing of that name.
    """
    paths: list[Path] = []
    for word in words:
        if word in SAMPLES:
            paths += SAMPLES[word](workspace.styles)
        elif word.startswith("sample:"):
            raise GanpipeError(f"There are no pictures {word}; there are {', '.join(SAMPLES)}.")
        elif word.startswith(MODEL):
            paths += _pictures_of_model(workspace, word.removeprefix(MODEL))
        else:
            paths += image_paths([in_folder(word, folder)])
    return list(dict.fromkeys(paths))


def in_folder(word: str, folder: Path) -> str:
    """A path, a pattern or `@LIST`, made absolute."""
    mark, name = ("@", word[1:]) if word.startswith("@") else ("", word)
    return mark + str(folder / Path(name).expanduser())


def _pictures_of_model(workspace: Workspace, words: str) -> list[Path]:
    """Pictures of a registered model, drawn where they are not there yet."""
    reference, _, count = words.rpartition(":") if words.rpartition(":")[2].isdigit() else (words, "", "")
    model = load_model(workspace, reference, None)
    wanted = int(count or MODEL_PICTURES)
    folder = workspace.state / "generated" / f"{model.reference.name}-v{model.reference.version}"
    there = sorted(folder.glob("seed0000-*.png"))[:wanted]
    return there if len(there) == wanted else generate_images(model, wanted, 0, folder)


def plan_job(job: StyleJob) -> Plan:
    """What there is to paint, and what is there already."""
    workspace = job.opened()
    contents = picture_paths(workspace, job.contents, workspace.root)
    styles = picture_paths(workspace, job.styles, workspace.root)
    masks = [Path(in_folder(mask, workspace.root)) for mask in job.masks]
    return plan_batch(contents, styles, Path(job.out), job.settings.style, masks)


def school_styles(job: StyleJob, plan: Plan, report: Report = ignore) -> dict[Path, Path]:
    """The student of each style that has or is worth one; a new one is registered in MLflow."""
    workspace = job.opened()
    schooled = school(plan, job.settings.style, _compute(job), workspace.state / "students", report)
    for student in schooled:
        if student.new:
            Tracker(workspace).register_student(student.style.stem, student.folder, student.seconds)
    return {student.style: student.folder for student in schooled}


def paint_works(
    job: StyleJob, works: Sequence[Work], students: Mapping[Path, Path], report: Report = ignore
) -> Done:
    """Paints part of a plan, here: on whichever machine this is called."""
    return paint(works, job.settings.style, _compute(job), job.origin, report, students)


def _compute(job: StyleJob) -> Compute:
    return choose_compute(job.settings.training.device, job.settings.training.precision)


def finish_job(job: StyleJob, plan: Plan, parts: Sequence[Done]) -> StyleReport:
    """The report of a batch, its contact sheets and its chart of quality against time."""
    out = Path(job.out)
    result = finished(plan, parts, out, job.settings.style, job.origin)
    if result.done:
        result.chart = str(quality_chart(read_entries(out), out / CHART))
    elif (out / CHART).exists():
        result.chart = str(out / CHART)
    return result


def stylise_here(job: StyleJob, report: Report = ignore) -> StyleReport:
    """A whole batch in this process."""
    plan = plan_job(job)
    students = school_styles(job, plan, report)
    return finish_job(job, plan, [paint_works(job, plan.works, students, report)])


def track_batch(job: StyleJob, result: StyleReport) -> str:
    """An MLflow run for a batch: recipe, means, a table of all items, sheets and chart; returns its id."""
    return Tracker(job.opened()).style_batch(job.settings.style, result)

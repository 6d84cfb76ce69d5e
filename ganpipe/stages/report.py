"""The report stage: the report card of an evaluated run, and the film of its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ganpipe.imaging.provenance import save_png
from ganpipe.reports.card_page import write_page
from ganpipe.reports.card_picture import draw_card
from ganpipe.reports.film import write_film
from ganpipe.reports.report_card import Additions, ReportCard, make_card
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_files import FILM, REPORT_PAGE, REPORT_PICTURE, SUSPECTS_SHEET
from ganpipe.stores.run_records import RunRecord, run_folder
from ganpipe.stores.workspace import Workspace

ARTIFACTS = {
    REPORT_PAGE: "report",
    REPORT_PICTURE: "report",
    SUSPECTS_SHEET: "evaluation",
    FILM: "film",
}  # MLflow's folders


@dataclass(frozen=True)
class RunReport:
    """The report card of a run with its page and its picture, and the film of its training if it has grids."""

    card: ReportCard
    page: str
    picture: str
    film: str | None


def report_run(
    workspace: Workspace, record: RunRecord, version: DatasetVersion, additions: Additions | None = None
) -> RunReport:
    """Writes the report card of an evaluated run into its folder, and the film if it is not there; MLflow gets both."""
    folder = run_folder(workspace, record.run_id)
    card = make_card(record, version, folder, additions or Additions())
    page = write_page(card, folder / REPORT_PAGE)
    picture = save_png(draw_card(card), folder / REPORT_PICTURE, record.origin() | {"kind": "report card"})
    outbox = Outbox(workspace, record)
    outbox.artifacts([page, picture], ARTIFACTS[REPORT_PAGE])
    film: Path | None = folder / FILM
    if not (folder / FILM).exists() and (film := write_film(folder, record.origin())):
        outbox.artifacts([film], ARTIFACTS[FILM])
    return RunReport(card, str(page), str(picture), str(film) if film else None)


def report_files(folder: Path) -> list[tuple[Path, str]]:
    """The report's files that are in a run folder, each with its folder among MLflow's artifacts."""
    return [(folder / name, place) for name, place in ARTIFACTS.items() if (folder / name).exists()]

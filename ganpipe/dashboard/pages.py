"""The table of pages. To add one: a file with a function that draws it, and a row here."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from ganpipe.dashboard import datasets, gallery, models, now, picture, run, runs, schedules, trace
from ganpipe.dashboard.actions import Actions
from ganpipe.dashboard.layout import add_style
from ganpipe.dashboard.pictures import add_pictures
from ganpipe.dashboard.readings import Readings
from ganpipe.stores.workspace import Workspace

PATIENCE_S = 60.0  # for the first reading of a large workspace on a busy machine
PAGES = (
    ("/", now.draw),
    ("/runs", runs.draw),
    ("/runs/{run}", run.draw),
    ("/models", models.draw),
    ("/datasets", datasets.draw_all),
    ("/datasets/{name}", datasets.draw_one),
    ("/gallery", gallery.draw),
    ("/gallery/{folder}/{name}", picture.draw),
    ("/schedules", schedules.draw),
    ("/trace", trace.draw),
)


def add_pages(workspace: Workspace, acts: bool = False) -> None:
    """Registers every page and the pictures of a workspace with NiceGUI; `acts`: whether pages change the workspace."""
    add_style()
    add_pictures(workspace)
    readings = Readings(workspace, Actions(workspace) if acts else None)
    for path, draw in PAGES:
        ui.page(path, response_timeout=PATIENCE_S)(partial(draw, readings))

"""The lineage of a dataset, run, model or picture, as links to the pages of each and thumbnails of pictures."""

from __future__ import annotations

from pathlib import Path

from nicegui.element import Element

from ganpipe.dashboard.layout import Cell, image, link_cell, plain_table, text
from ganpipe.dashboard.links import dataset_url, run_url
from ganpipe.dashboard.pictures import has_thumbnail, picture_url, thumbnail_url
from ganpipe.stages.lineage import Lineage, Link
from ganpipe.stores.workspace import Workspace

SHOWN_PICTURES = 12


def draw_lineage(workspace: Workspace, lineage: Lineage, here: str = "") -> None:
    """The chain in the order in which it was made; `here`: the name to which the page itself belongs."""
    others = [step for step in lineage.chain if step.kind != "picture"]
    plain_table(("", "name", ""), [(step.kind, _name_cell(step, here), step.about) for step in others])
    paths = [Path(step.name) for step in lineage.chain if step.kind == "picture"]
    pictures = [path for path in paths if has_thumbnail(workspace, path)]
    with Element("div").classes("strip"):
        for path in pictures[:SHOWN_PICTURES]:
            with Element("a") as around:
                around.props["href"] = picture_url(workspace, path)
                image(thumbnail_url(workspace, path), path.name)
    if len(pictures) > SHOWN_PICTURES:
        text(f"and {len(pictures) - SHOWN_PICTURES:,} more pictures", classes="soft")


def _name_cell(step: Link, here: str) -> Cell:
    if step.name == here:
        return f"{step.name} (this page)"
    pages = {
        "dataset": dataset_url(step.name.partition("@")[0]),
        "run": run_url(step.name),
        "model": "/models",
    }
    return link_cell(step.name, pages[step.kind])

"""Gallery: stylized images with their content and style beside them, page by page."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from nicegui.element import Element

from ganpipe.dashboard.layout import card, frame, heading, image, link, nothing_yet, text, time_of
from ganpipe.dashboard.links import run_url
from ganpipe.dashboard.pictures import picture_url, thumbnail_url
from ganpipe.dashboard.readings import Readings
from ganpipe.stages.gallery import Made, Source, Stylized, list_stylized, made_of
from ganpipe.stores.workspace import Workspace

ON_PAGE = 24


async def draw(readings: Readings, page: int = 1) -> None:
    """Page `page` of the gallery."""
    status = await readings.status()
    workspace = readings.workspace
    with frame("/gallery", status):
        heading("Gallery", 1)
        found = await asyncio.to_thread(list_stylized, workspace)
        if not found:
            nothing_yet(
                "No stylized image yet. Every run makes some, and so does:",
                "ganpipe stylize --content sample:photos --style sample:styles --out .ganpipe/stylized/first",
            )
            return
        pages = -(-len(found) // ON_PAGE)
        page = min(max(page, 1), pages)
        shown = found[(page - 1) * ON_PAGE : page * ON_PAGE]
        sources = await asyncio.to_thread(lambda: [made_of(workspace, image.path) for image in shown])
        text(f"{len(found):,} stylized images, the latest first", classes="soft")
        with Element("div").classes("gallery"):
            for stylized, made in zip(shown, sources, strict=True):
                _draw_image(workspace, stylized, made)
        _draw_pages(page, pages)


def _draw_image(workspace: Workspace, stylized: Stylized, made: Made) -> None:
    with card():
        with Element("a") as around:
            around.props["href"] = picture_url(workspace, stylized.path)
            image(thumbnail_url(workspace, stylized.path), stylized.path.stem)
        text(stylized.path.stem.replace("__", " in "), classes="strong")
        with Element("div").classes("row soft"):
            text(f"{stylized.preset}, {stylized.seconds:.1f} s", "span")
            time_of(datetime.fromtimestamp(stylized.made_at, UTC).isoformat(timespec="seconds"))
            if made.run:
                link(made.run, run_url(made.run))
        with Element("div").classes("sources"):
            for what, source in (("content", made.content), ("style", made.style)):
                _draw_source(workspace, what, source)


def _draw_source(workspace: Workspace, what: str, source: Source | None) -> None:
    with Element("div"):
        if source and source.path:
            image(thumbnail_url(workspace, source.path), f"{what}: {source.name}")
        text(f"{what}: {source.name if source else 'not said by the file'}", classes="soft")


def _draw_pages(page: int, pages: int) -> None:
    if pages == 1:
        return
    with Element("nav").classes("row").props('aria-label="Pages of the gallery"'):
        if page > 1:
            link("Newer", f"/gallery?page={page - 1}")
        text(f"page {page:,} of {pages:,}", "span", "soft")
        if page < pages:
            link("Older", f"/gallery?page={page + 1}")

"""Gallery: stylized images with their content and style beside them, page by page; and what is stylized next."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

from nicegui.element import Element

from ganpipe.dashboard.layout import card, frame, heading, image, link, nothing_yet, text, time_of
from ganpipe.dashboard.links import gallery_url, run_url, stylized_url
from ganpipe.dashboard.pictures import thumbnail_url
from ganpipe.dashboard.queue import Queue
from ganpipe.dashboard.readings import Readings
from ganpipe.dashboard.stylizing import draw_form
from ganpipe.stages.gallery import Made, Source, Stylized, filter_stylized, list_stylized, made_of
from ganpipe.stores.uploads import without_hash
from ganpipe.stores.workspace import Workspace

ON_PAGE = 24


async def draw(readings: Readings, page: int = 1, style: str = "", since: str = "", until: str = "") -> None:
    """Page `page` of the gallery. `style`: of this one alone; `since`, `until`: days such as 2026-11-29."""
    status = await readings.status()
    filters = {"style": style, "since": since, "until": until}
    with frame("/gallery", status):
        heading("Gallery", 1)
        queue = Queue(readings)
        draw_form(readings, queue.refresh)
        queue.draw()
        place = Element("div")

    async def draw_images() -> None:
        found = await asyncio.to_thread(list_stylized, readings.workspace)
        chosen = filter_stylized(found, style, _day(since), _day(until))
        pages = max(1, -(-len(chosen) // ON_PAGE))
        number = min(max(page, 1), pages)
        shown = chosen[(number - 1) * ON_PAGE : number * ON_PAGE]
        made = await asyncio.to_thread(lambda: [made_of(readings.workspace, image.path) for image in shown])
        place.clear()
        with place:
            _draw_found(readings.workspace, found, chosen, filters)
            with Element("div").classes("gallery"):
                for stylized, sources in zip(shown, made, strict=True):
                    _draw_image(readings.workspace, stylized, sources)
            _draw_pages(number, pages, filters)

    await draw_images()
    await queue.keep_fresh(draw_images)


def _day(text_: str) -> date | None:
    """A day of the address; None if it is none."""
    try:
        return date.fromisoformat(text_)
    except ValueError:
        return None


def _draw_found(
    workspace: Workspace, found: list[Stylized], chosen: list[Stylized], filters: dict[str, str]
) -> None:
    if not found:
        nothing_yet(
            "No stylized image yet. Every run makes some, and so does:",
            "ganpipe stylize --content sample:photos --style sample:styles --out .ganpipe/stylized/first",
        )
        return
    _draw_filters({name: without_hash(name) for name in sorted({image.style for image in found})}, filters)
    of_all = "" if len(chosen) == len(found) else f" of {len(found):,}"
    images = "image" if len(found) == 1 else "images"
    text(f"{len(chosen):,}{of_all} stylized {images}, the latest first", classes="soft")


def _draw_filters(styles: dict[str, str], filters: dict[str, str]) -> None:
    """A form that the browser sends as the page's address."""
    with Element("form").classes("row filters").props("method=get action=/gallery"):
        with Element("label"):
            text("style ", "span", "soft")
            with Element("select").props("name=style"):
                for style, name in {"": "all", **styles}.items():
                    option = text(name, "option")
                    option.props["value"], option.props["selected"] = style, style == filters["style"]
        for name, label in (("since", "from "), ("until", "to ")):
            with Element("label"):
                text(label, "span", "soft")
                field = Element("input").props("type=date")
                field.props["name"], field.props["value"] = name, filters[name]
        Element("input").props("type=submit value=Filter")
        if any(filters.values()):
            link("Show all", "/gallery")


def _draw_image(workspace: Workspace, stylized: Stylized, made: Made) -> None:
    page = stylized_url(stylized.path.parent.name, stylized.path.name)
    with card():
        with Element("a") as around:
            around.props["href"] = page
            image(thumbnail_url(workspace, stylized.path), stylized.path.stem)
        link(stylized.title, page, "strong")
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
        text(f"{what}: {source.title if source else 'not said by the file'}", classes="soft")


def _draw_pages(page: int, pages: int, filters: dict[str, str]) -> None:
    if pages == 1:
        return
    with Element("nav").classes("row").props('aria-label="Pages of the gallery"'):
        if page > 1:
            link("Newer", gallery_url(**filters, page=str(page - 1)))
        text(f"page {page:,} of {pages:,}", "span", "soft")
        if page < pages:
            link("Older", gallery_url(**filters, page=str(page + 1)))

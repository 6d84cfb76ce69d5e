"""Files that a page receives: a place to drop them, and their bytes, within the limits of stores.uploads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui
from nicegui.elements.upload_files import FileUpload

from ganpipe.dashboard.acting import tell_problem
from ganpipe.errors import GanpipeError
from ganpipe.stores.uploads import MOST_BYTES, SUFFIXES, too_large


def drop_zone(label: str, receive: Callable[[events.UploadEventArguments], Awaitable[None]]) -> ui.upload:
    """Where one file is dropped or chosen; it is sent at once. The browser refuses one that is too large or no image."""
    refused = f"It was not sent: it must be {_kinds()}, of at most {MOST_BYTES // 2**20} MiB."

    async def take(event: events.UploadEventArguments) -> None:
        await receive(event)
        zone.reset()

    zone = ui.upload(
        label=label,
        auto_upload=True,
        max_file_size=MOST_BYTES,
        on_upload=take,
        on_rejected=lambda: tell_problem(refused),
    )
    return zone.props(f'flat bordered accept="{",".join(SUFFIXES.values())},.jpeg"').classes("drop")


def _kinds() -> str:
    *most, last = SUFFIXES
    return f"{', '.join(most)} or {last}"


async def read_upload(file: FileUpload) -> bytes:
    """The bytes of an uploaded file.

    Raises:
        GanpipeError: it is too large; the browser's own limit binds nobody who asks the server without it.
    """
    if file.size() > MOST_BYTES:
        raise GanpipeError(too_large(file.name, file.size()))
    return await file.read()

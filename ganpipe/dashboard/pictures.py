"""Pictures of the workspace over HTTP: whole, and as thumbnails. Nothing else of the workspace is served."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import FileResponse, Response
from nicegui import app

from ganpipe.imaging.image import RejectedImage
from ganpipe.reports.thumbnails import thumbnail
from ganpipe.stores.workspace import Workspace

PLACES = (".ganpipe/runs", ".ganpipe/reports", ".ganpipe/stylized", ".ganpipe/uploads", "data/styles")
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
# A file keeps its name when its contents change: a browser asks again each time, and is told if nothing has changed.
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


def add_pictures(workspace: Workspace) -> None:
    """Adds the two routes."""

    @app.get("/picture/{name:path}")
    def picture(name: str) -> FileResponse:
        path = find_picture(workspace, name)
        return FileResponse(path, media_type=KINDS[path.suffix.lower()], headers=HEADERS)

    @app.get("/thumbnail/{name:path}")
    def small(name: str) -> Response:
        path = find_picture(workspace, name)
        try:
            return Response(thumbnail(path, workspace.thumbnails), media_type="image/jpeg", headers=HEADERS)
        except (RejectedImage, OSError):
            raise HTTPException(404) from None


def find_picture(workspace: Workspace, name: str) -> Path:
    """The picture with this path in the workspace; HTTPException 404 if it may not be served, or is not there."""
    path = workspace.root / name
    try:
        real = path.resolve()
        inside = any(real.is_relative_to((workspace.root / place).resolve()) for place in PLACES)
        if inside and path.suffix.lower() in KINDS and real.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise HTTPException(404)


def picture_url(workspace: Workspace, path: Path) -> str:
    """The address of a whole picture."""
    return f"/picture/{_quoted(workspace, path)}"


def thumbnail_url(workspace: Workspace, path: Path) -> str:
    """The address of its thumbnail."""
    return f"/thumbnail/{_quoted(workspace, path)}"


def _quoted(workspace: Workspace, path: Path) -> str:
    return quote(str(path.relative_to(workspace.root)), errors="surrogateescape")

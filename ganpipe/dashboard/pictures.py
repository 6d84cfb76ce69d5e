"""Pictures, films and report cards of the workspace over HTTP; pictures also as thumbnails. Nothing else of it is served."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import FileResponse, Response
from nicegui import app

from ganpipe.imaging.image import RejectedImage
from ganpipe.reports.thumbnails import thumbnail
from ganpipe.stores.run_files import REPORT_PAGE
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.manifest import PREVIEW

PLACES = (
    ".ganpipe/runs",
    ".ganpipe/reports",
    ".ganpipe/stylized",
    ".ganpipe/drawn",
    ".ganpipe/uploads",
    "data/styles",
    "data/raw",
)
FILM_SUFFIX = ".mp4"
KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    FILM_SUFFIX: "video/mp4",
}
# A report card holds texts of strangers and its own pictures: it runs no script and loads nothing.
REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# A file keeps its name when its contents change: a browser asks again each time, and is told if nothing has changed.
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


def add_pictures(workspace: Workspace) -> None:
    """Adds the routes."""

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

    @app.get("/report/{run}")
    def report(run: str) -> FileResponse:
        path = find_report(workspace, run)
        return FileResponse(
            path, media_type="text/html", headers=HEADERS | {"Content-Security-Policy": REPORT_POLICY}
        )


def find_picture(workspace: Workspace, name: str) -> Path:
    """The picture with this path in the workspace; HTTPException 404 if it may not be served, or is not there."""
    if Path(name).suffix.lower() not in KINDS:
        raise HTTPException(404)
    return _find(workspace, name)


def find_report(workspace: Workspace, run: str) -> Path:
    """The page of a run's report card; HTTPException 404 if there is none."""
    return _find(workspace, f".ganpipe/runs/{run}/{REPORT_PAGE}")


def _find(workspace: Workspace, name: str) -> Path:
    """A file of one of the PLACES."""
    path = workspace.root / name
    try:
        real = path.resolve()
        if real.is_file() and any(
            real.is_relative_to((workspace.root / place).resolve()) for place in PLACES
        ):
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise HTTPException(404)


def has_thumbnail(workspace: Workspace, path: Path) -> bool:
    """Whether a picture of the workspace is served, also as a thumbnail."""
    if not path.is_relative_to(workspace.root) or path.suffix.lower() == FILM_SUFFIX:
        return False
    try:
        find_picture(workspace, str(path.relative_to(workspace.root)))
    except HTTPException:
        return False
    return True


def picture_url(workspace: Workspace, path: Path) -> str:
    """The address of a whole picture."""
    return f"/picture/{_quoted(workspace, path)}"


def thumbnail_url(workspace: Workspace, path: Path) -> str:
    """The address of its thumbnail."""
    return f"/thumbnail/{_quoted(workspace, path)}"


def preview_url(workspace: Workspace, folder: Path) -> str | None:
    """The address of what is being stylized into a folder; None if nothing of it can be shown."""
    path = folder / PREVIEW
    try:
        written_at = path.stat().st_mtime_ns
    except OSError:
        return None
    # A browser shows a picture again only if its address has changed.
    return f"{picture_url(workspace, path)}?{written_at}" if has_thumbnail(workspace, path) else None


def _quoted(workspace: Workspace, path: Path) -> str:
    return quote(str(path.relative_to(workspace.root)), errors="surrogateescape")

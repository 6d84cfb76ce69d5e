"""Trace: a dropped picture says where it comes from; whatever else is dropped gets a sentence, and is kept nowhere."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from nicegui import ui
from nicegui.testing.user import User

from ganpipe.dashboard.trace import draw_trace
from ganpipe.imaging.provenance import save_png
from ganpipe.stages.trace import trace_origin
from ganpipe.stores.uploads import MOST_BYTES
from ganpipe.stores.workspace import Workspace
from tests.conftest import noise_image
from tests.dashboard.reader import MARKUP, drop, run_of_seed, sees_soon, sources, visit


def bomb(side: int = 15_000) -> bytes:
    """A PNG of a few bytes that says it has side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def files_of(workspace: Workspace) -> list[Path]:
    """Every file of a workspace but the one by which git ignores its state."""
    return sorted(path for path in workspace.root.rglob("*") if path.is_file() and path.name != ".gitignore")


def trace(workspace: Workspace, name: str, data: bytes, *words: str, acts: bool = False) -> list[str]:
    """Drops a file, looks for the words, and returns the addresses that the page then has."""
    found: list[str] = []

    async def look(user: User) -> None:
        await drop(user, 0, name, data)
        await sees_soon(*words)(user)
        found.extend(sources(user))

    visit(workspace, "/trace", look, acts)
    return found


@pytest.mark.parametrize("acts", [False, True])
def test_a_picture_of_a_run_leads_to_dataset_run_model_and_command(noise: Workspace, acts: bool) -> None:
    record = run_of_seed(noise, 0)
    origin = record.origin() | {"kind": "generated", "model": "ganpipe-noise v1", "seed": 5, "index": 2}
    data = save_png(noise_image(1), noise.root.parent / "made.png", origin).read_bytes()
    before = files_of(noise)
    command = "ganpipe generate --model ganpipe-noise/1 --seed 5 -n 3 --out DIR"
    words = ("Where made.png comes from", f"noise@{record.version[:12]}", command, "training.seed")
    links = trace(noise, "made.png", data, *words, acts=acts)
    assert {"/datasets/noise", f"/runs/{record.run_id}", "/models"} <= set(links)
    assert files_of(noise) == before


def test_a_picture_of_another_workspace_says_that_its_run_is_not_here(workspace: Workspace) -> None:
    origin = {"kind": "generated", "run": MARKUP, "model": "x v1", "seed": 0, "index": 0}
    data = save_png(noise_image(1), workspace.root / "made.png", origin).read_bytes()
    links = trace(
        workspace, "made.png", data, MARKUP, "is not here: the picture was made in another workspace"
    )
    assert not [link for link in links if link.startswith("/runs/")]


def test_a_stylized_photo_shows_its_recipe_and_what_is_empty_is_left_out(workspace: Workspace) -> None:
    origin = {
        "kind": "stylized",
        "masks": [],
        "recipe": {"steps": 7},
        "preset": "draft",
        "style": {"name": "s"},
    }
    found = trace_origin(workspace, "x.png", origin)
    assert [name for name, _ in found.facts()] == ["kind", "recipe", "preset", "style"]
    data = save_png(noise_image(1), workspace.root / "made.png", origin).read_bytes()
    trace(workspace, "made.png", data, "style.steps", "7", "name s")


def noise_bytes() -> bytes:
    """A whole PNG that ganpipe has not made."""
    buffer = BytesIO()
    noise_image(3, (64, 64)).save(buffer, format="PNG")
    return buffer.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "photo.png": (noise_bytes, "it was not made by ganpipe, or another program saved it again"),
    "text.png": (lambda: b"no image at all", "is not a readable image (it is none of"),
    "empty.png": (lambda: b"", "is not a readable image"),
    "bomb.png": (bomb, "is over 200 megapixels"),
    "huge.png": (lambda: bomb(60_000), "it has too many pixels"),
    "cut.png": (lambda: noise_bytes()[:-200], "is not a readable image (it cannot be decoded"),
    "large.png": (lambda: bytes(100 * 2**20), "large.png has 100.0 MiB; at most 64 MiB are taken here"),
    "../../<img src=x onerror=alert(1)>.png": (lambda: b"x", MARKUP[:20]),
}


def test_what_ganpipe_did_not_make_gets_one_sentence_and_is_not_kept(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        for name, (make, sentence) in HOSTILE.items():
            await drop(user, 0, name, make())
            await sees_soon("Its origin is not known", sentence)(user)
        assert not [e for e in user.find(kind=ui.element).elements if "innerHTML" in e.props]

    visit(workspace, "/trace", look)
    assert files_of(workspace) == []


def test_the_browser_is_told_the_limit_of_the_server(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        (zone,) = user.find(ui.upload).elements
        assert zone.props["max-file-size"] == MOST_BYTES
        assert zone.props["accept"] == ".jpg,.png,.webp,.jpeg"

    visit(workspace, "/trace", look)


def test_a_recipe_of_a_stranger_may_be_anything(workspace: Workspace) -> None:
    recipes: list[object] = ["text", 3, [1], {"steps": {"deep": [1]}}, {MARKUP: MARKUP}]
    found = [trace_origin(workspace, f"{k}.png", {"recipe": r}) for k, r in enumerate(recipes)]
    assert [one.command for one in found] == [None] * len(found)

    async def look(user: User) -> None:
        with user:
            for one in found:
                draw_trace(one)
        await sees_soon(*(f"Where {k}.png comes from" for k in range(len(found))))(user)

    visit(workspace, "/trace", look)

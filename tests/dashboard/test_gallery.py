"""The gallery: one image compared and traced, filters, uploads, and runs that are queued at a real Prefect server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

import pytest
from nicegui import ui
from nicegui.testing.user import User
from PIL import Image

from ganpipe.dashboard import queue
from ganpipe.dashboard.links import gallery_url, stylized_url
from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import save_png
from ganpipe.reports.thumbnails import thumbnail
from ganpipe.services.prefect_api import Run, find_api
from ganpipe.settings.params import parse_assignments
from ganpipe.settings.schedules import FROM_GALLERY
from ganpipe.stages.gallery import (
    choices,
    filter_stylized,
    list_stylized,
    overrides_of,
    restyle_command,
    restyle_overrides,
)
from ganpipe.stores.uploads import MOST_BYTES, keep_upload, list_uploads, without_hash
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.manifest import ManifestEntry, add_entry
from tests.conftest import activated, noise_image
from tests.dashboard.reader import MARKUP, act, drop, press, sees_soon, sources, visit
from tests.dashboard.test_trace import bomb, files_of, noise_bytes
from tests.style.test_video import pan, write_video

RECIPE = {"steps": 7, "content_weight": 0.42, "style_weight": 0.9, "scales": 2}


def stylize(workspace: Workspace, style: str, day: str, content: Path | None = None) -> Path:
    """A stylized image of a day, of a content that the workspace has, or not."""
    folder = workspace.state / "stylized" / "abc"
    name = f"{content.stem if content else 'gone'}__{style}.png"
    origin = {
        "kind": "stylized",
        "content": {"name": content.name if content else "gone.png"},
        "style": {"name": f"{style}.png"},
        "preset": "draft",
        "recipe": RECIPE,
    }
    path = save_png(noise_image(1, (40, 30)), folder / name, origin)
    add_entry(folder, ManifestEntry(name, name, "", "draft", 1.5))
    noon = datetime.fromisoformat(f"{day}T12:00:00").timestamp()
    os.utime(path, (noon, noon))
    return path


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """Three stylized images; one of an uploaded photo in a style that the workspace has."""
    workspace.styles.mkdir(parents=True)
    noise_image(0).save(workspace.styles / "swirl.png")
    photo = keep_upload(workspace, "photo", "beach.png", noise_bytes())
    stylize(workspace, "swirl", "2026-11-20", photo)
    stylize(workspace, "glass", "2026-11-20")
    stylize(workspace, "swirl", "2026-11-28")
    return workspace


@pytest.fixture
def up(upped: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(queue, "REFRESH_S", 0.1)
    with activated(upped.root):
        yield upped


def latest(workspace: Workspace) -> Run:
    (run,) = asyncio.run(find_api(workspace).latest_runs(FROM_GALLERY, 1))
    return run


def test_images_are_filtered_by_style_and_by_day(filled: Workspace) -> None:
    images = list_stylized(filled)

    def names(*asked: object) -> list[str]:
        return [
            without_hash(i.path.stem.partition("__")[0]) + " " + i.style
            for i in filter_stylized(images, *asked)
        ]  # type: ignore[arg-type]

    day = date(2026, 11, 20)
    assert names() == ["gone swirl", "beach swirl", "gone glass"]
    assert names("swirl") == ["gone swirl", "beach swirl"]
    assert names("", None, day) == ["beach swirl", "gone glass"]
    assert names("", date(2026, 11, 21)) == ["gone swirl"]
    assert names("swirl", day, day) == ["beach swirl"]
    assert names("no such") == []


def test_the_address_of_the_gallery_holds_its_filters(filled: Workspace) -> None:
    address = gallery_url(style="swirl", since="", until="2026-11-20")
    assert address == "/gallery?style=swirl&until=2026-11-20"

    async def look(user: User) -> None:
        await sees_soon("1 of 3 stylized images", "beach in swirl", "Show all")(user)
        await user.should_not_see("gone in glass")
        with user:
            elements = list(ui.context.client.elements.values())
        options = {e.props["value"]: e.props["selected"] for e in elements if e.tag == "option"}
        assert options == {"": False, "glass": False, "swirl": True}
        fields = {e.props["name"]: e.props["value"] for e in elements if e.props.get("type") == "date"}
        assert fields == {"since": "", "until": "2026-11-20"}
        await user.open("/gallery?since=yesterday&page=99")
        await sees_soon("3 stylized images")(user)

    visit(filled, address, look)


def test_an_image_is_compared_with_its_content_traced_and_downloaded(filled: Workspace) -> None:
    photo = list_uploads(filled, "photo")[0]
    name = f"{photo.stem}__swirl.png"

    async def look(user: User) -> None:
        await sees_soon("beach in swirl", "content", "stylized", f"Where {name} comes from", "style.steps")(
            user
        )
        assert f"/picture/.ganpipe/uploads/photos/{photo.name}" in sources(user)
        with user:
            (download,) = [e for e in ui.context.client.elements.values() if "download" in e.props]
        assert download.props["download"] == name
        reply = await user.http_client.get(str(download.props["href"]))
        assert reply.headers["content-type"] == "image/png"
        await user.should_not_see(kind=ui.button)
        await sees_soon("style.strength=0.7")(user)

    visit(filled, stylized_url("abc", name), look)


def test_an_image_whose_content_is_not_here_is_shown_alone_with_the_command(filled: Workspace) -> None:
    words = (
        "Its content is not in the workspace",
        "name their files in the command",
        "ganpipe stylize --content gone.png",
    )
    act(filled, "/gallery/abc/gone__glass.png", sees_soon(*words))


def test_only_images_of_the_gallery_have_a_page(filled: Workspace) -> None:
    async def look(user: User) -> None:
        for name in ("no-such.png", "manifest.jsonl", "..%2F..%2Fprefect-secret", "%3Cimg%20src=x%3E.png"):
            reply = await user.http_client.get(f"/gallery/abc/{name}")
            assert ("There is no stylized image" in reply.text) or reply.status_code == 404, name
            assert "<img src=x>" not in reply.text

    act(filled, "/trace", look)


def test_an_upload_is_kept_once_under_a_name_that_is_made_here(workspace: Workspace) -> None:
    path = keep_upload(workspace, "photo", "../../My <b>photo</b> ünï.PNG", noise_bytes())
    assert path.parent == workspace.state / "uploads" / "photos"
    assert (without_hash(path.stem), path.suffix) == ("b-n", ".png")
    assert keep_upload(workspace, "photo", "../../My <b>photo</b> ünï.PNG", noise_bytes()) == path
    assert path.read_bytes() == noise_bytes()
    assert list_uploads(workspace, "photo") == [path]
    assert list_uploads(workspace, "style") == []
    assert keep_upload(workspace, "style", "...", noise_bytes()).stem.startswith("style-")


HOSTILE = {
    "text.png": (b"text", "text.png cannot be used: it is none of"),
    "bomb.png": (bomb(), "is over 200 megapixels"),
    "cut.png": (noise_bytes()[:-200], "cut.png cannot be used: it cannot be decoded"),
    "large.png": (bytes(MOST_BYTES + 1), "at most 64 MiB are taken here"),
    "../page.svg": (b"<svg onload='alert(1)'/>", "page.svg cannot be used: it is none of"),
}


def test_what_is_no_photo_is_refused_on_the_page_and_not_kept(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        for name, (data, sentence) in HOSTILE.items():
            await drop(user, 0, name, data)
            await sees_soon(sentence)(user)

    act(workspace, "/gallery", look)
    assert files_of(workspace) == []


def test_a_format_that_browsers_do_not_show_is_refused_with_the_command_that_reads_it(
    workspace: Workspace,
) -> None:
    path = workspace.root / "scan.tiff"
    noise_image(1).save(path)
    with pytest.raises(GanpipeError, match=r"scan.png is TIFF; JPEG, PNG, WEBP are taken here"):
        keep_upload(workspace, "photo", "scan.png", path.read_bytes())


def test_an_uploaded_photo_is_chosen_and_its_thumbnail_shown(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        await drop(user, 0, f"{MARKUP}.png", noise_bytes())
        await drop(user, 1, "paint.png", noise_bytes())
        for _ in range(50):
            chosen = [select.value for select in sorted(user.find(ui.select).elements, key=lambda e: e.id)][
                :2
            ]
            if all(".ganpipe/uploads" in str(word) for word in chosen):
                break
            await asyncio.sleep(0.1)
        assert [Path(str(word)).parent.name for word in chosen] == ["photos", "styles"]
        for word in chosen:
            assert f"/thumbnail/{word}" in sources(user)
            assert (await user.http_client.get(f"/thumbnail/{word}")).headers["content-type"] == "image/jpeg"

    act(workspace, "/gallery", look)


def test_sample_photos_are_no_styles_and_samples_can_always_be_chosen(workspace: Workspace) -> None:
    workspace.styles.mkdir(parents=True)
    save_png(noise_image(1), workspace.styles / "china.png", {"kind": "sample photo"})
    noise_image(2).save(workspace.styles / "it's: #1.png")
    (workspace.styles / "notes.txt").write_text("x")
    assert [c.word for c in choices(workspace, "photo")] == ["data/styles/china.png", "sample:photos"]
    styles = choices(workspace, "style")
    assert [c.word for c in styles] == ["data/styles/it's: #1.png", "sample:styles"]
    asked = parse_assignments(overrides_of("sample:photos", styles[0].word, 0.7, "draft"))
    assert asked == {
        "style.contents": "sample:photos",
        "style.styles": "data/styles/it's: #1.png",
        "style.preset": "draft",
        "style.strength": 0.7,
    }


def test_another_strength_keeps_the_recipe_but_its_weights(filled: Workspace) -> None:
    photo = list_uploads(filled, "photo")[0]
    origin = {
        "content": {"name": photo.name},
        "style": {"name": "swirl.png"},
        "preset": "draft",
        "recipe": RECIPE,
    }
    asked = parse_assignments(restyle_overrides(filled, origin, 0.8) or [])
    assert asked == {
        "style.contents": f".ganpipe/uploads/photos/{photo.name}",
        "style.styles": "data/styles/swirl.png",
        "style.preset": "draft",
        "style.scales": 2,
        "style.steps": 7,
        "style.strength": 0.8,
    }
    command = restyle_command(origin | {"kind": "stylized"})
    assert command == (
        f"ganpipe stylize --content {photo.name} --style swirl.png --set style.preset=draft --set style.scales=2 "
        "--set style.steps=7 --set style.strength=0.7 --out DIR"
    )
    for stranger in ({}, {"style": [1]}, origin | {"recipe": 3}, origin | {"style": {"name": "../../x.png"}}):
        assert restyle_overrides(filled, stranger, 0.8) is None
        assert restyle_command(stranger) is None  # they do not even say that they are stylized


def test_a_run_is_queued_for_what_is_chosen_shown_and_cancelled(up: Workspace) -> None:
    async def look(user: User) -> None:
        await drop(user, 0, "beach.png", noise_bytes())
        for _ in range(50):
            if list_uploads(up, "photo"):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.2)
        (slider,) = user.find(ui.slider).elements
        slider.value = 0.7
        await press(user, "Stylize")
        await sees_soon("It is queued", "beach in sample:styles, strength 0.7", "Scheduled")(user)
        await press(user, "Cancel")
        await sees_soon("Cancelled")(user)

    act(up, "/gallery", look)
    asked = parse_assignments(latest(up).overrides)
    (photo,) = list_uploads(up, "photo")
    assert asked["style.contents"] == f".ganpipe/uploads/photos/{photo.name}"
    assert (asked["style.styles"], asked["style.strength"], asked["training.seed"]) == (
        "sample:styles",
        0.7,
        3,
    )
    assert latest(up).state == "Cancelled"


def test_an_image_is_asked_for_again_with_another_strength(up: Workspace) -> None:
    photo = keep_upload(up, "photo", "beach.png", noise_bytes())
    up.styles.mkdir(parents=True, exist_ok=True)
    noise_image(0).save(up.styles / "swirl.png")
    path = stylize(up, "swirl", "2026-11-20", photo)

    async def look(user: User) -> None:
        (slider,) = user.find(ui.slider).elements
        slider.value = 0.25
        await press(user, "Restyle")
        await sees_soon("It is queued", "beach in swirl, strength 0.25")(user)

    act(up, stylized_url("abc", path.name), look)
    run = latest(up)
    assert "style.steps=7" in run.overrides
    assert json.dumps(f".ganpipe/uploads/photos/{photo.name}") in " ".join(run.overrides)
    asyncio.run(find_api(up).cancel(run))


def test_without_up_a_button_says_why_nothing_is_queued(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        await press(user, "Stylize")
        await sees_soon("`ganpipe up` is not running")(user)

    act(workspace, "/gallery", look)


def test_a_gallery_that_only_shows_has_no_button_but_the_command(workspace: Workspace) -> None:
    async def look(user: User) -> None:
        await sees_soon("ganpipe stylize --content PHOTO --style STYLE")(user)
        await user.should_not_see(kind=ui.button)
        await user.should_not_see(kind=ui.upload)

    visit(workspace, "/gallery", look)


def test_a_stylized_video_plays_and_has_a_thumbnail(workspace: Workspace) -> None:
    folder = workspace.state / "stylized" / "abc"
    folder.mkdir(parents=True)
    clip = write_video(folder / "clip__swirl.mp4", pan(2), sound=None)
    add_entry(folder, ManifestEntry("k", clip.name, "", "draft", 1.5))
    assert Image.open(BytesIO(thumbnail(clip, workspace.thumbnails))).size == (96, 64)

    async def look(user: User) -> None:
        await user.should_see("clip")
        assert f"/picture/.ganpipe/stylized/abc/{clip.name}" in sources(user)

    visit(workspace, stylized_url("abc", clip.name), look)

"""Pages of the dashboard, drawn for a simulated reader of real workspaces."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from nicegui import ui
from nicegui.element import Element
from nicegui.testing.user import User

from ganpipe.compute.process_identity import this_process
from ganpipe.dashboard.figures import CURVES, MEANINGS
from ganpipe.dashboard.pictures import preview_url
from ganpipe.data.manifest import read_manifest, write_manifest
from ganpipe.evaluation.drift import Drift
from ganpipe.evaluation.metrics import METRICS
from ganpipe.files import write_json
from ganpipe.imaging.provenance import save_png
from ganpipe.progress import Progress
from ganpipe.stages.run_filter import COLUMNS
from ganpipe.stores.activities import Activity, activities_folder
from ganpipe.stores.run_records import run_folder, save_record
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.manifest import PREVIEW, ManifestEntry, add_entry
from tests.conftest import noise_image
from tests.dashboard.reader import MARKUP, run_of_seed, sees, sources, visit
from tests.stages.test_last_day import ended, prefect_database_without_runs


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/", "ganpipe data add FOLDER --name NAME"),
        ("/runs", "No run yet"),
        ("/models", "No model yet"),
        ("/datasets", "ganpipe data add sample:flowers --name flowers"),
        ("/gallery", "No stylized image yet"),
        ("/runs/no-such-run", "No run is called no-such-run"),
        ("/datasets/cats", "There is no dataset cats"),
    ],
)
def test_an_empty_workspace_says_what_to_do_first(workspace: Workspace, path: str, word: str) -> None:
    visit(workspace, path, sees(word))
    assert not (workspace.state / "mlflow.db").exists(), "who only looks makes no database"


def test_now_shows_a_training_as_it_goes_on_and_takes_it_away_when_it_has_ended(
    noise: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganpipe.dashboard.now.REFRESH_S", 0.05)
    monkeypatch.setattr("ganpipe.dashboard.readings.MOST_AGE_S", 0.0)
    run = run_of_seed(noise, 1).run_id
    path = activities_folder(noise) / "activity-1-0.json"

    def tell(done: int, waits_for: str | None = None) -> None:
        progress = Progress("train", done, 64, "images", 2.0)
        write_json(path, Activity(this_process(), run, time.time(), time.time(), progress, waits_for))

    tell(16)

    async def look(user: User) -> None:
        await user.should_see("16 of 64 images, 8/s, 6 s left")
        assert f"/picture/.ganpipe/runs/{run}/grids/000000000064.png" in sources(user)
        await user.should_see(kind=ui.echart)
        tell(48)
        await user.should_see("48 of 64 images, 24/s, under 1 s left", retries=20)
        tell(48, "Another ganpipe (process 7) is busy with training in this workspace; waiting for it.")
        await user.should_see("process 7", retries=20)
        path.unlink()
        await user.should_see("Nothing runs at the moment.", retries=20)
        await user.should_not_see("48 of 64 images", retries=20)

    visit(noise, "/", look)


def test_now_shows_the_picture_that_is_being_stylized(
    noise: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganpipe.dashboard.now.REFRESH_S", 0.05)
    monkeypatch.setattr("ganpipe.dashboard.readings.MOST_AGE_S", 0.0)
    out = noise.state / "stylized" / "ab12"
    progress = Progress("stylize", 1, 4, "images", 2.0)
    told = Activity(this_process(), str(out), time.time(), time.time(), progress)
    write_json(activities_folder(noise) / "activity-1-0.json", told)
    shown = "/picture/.ganpipe/stylized/ab12/preview.png?"

    async def look(user: User) -> None:
        await user.should_see("1 of 4 images")
        assert not any(source.startswith(shown) for source in sources(user))
        save_png(noise_image(1), out / PREVIEW, {"kind": "preview"})
        for _ in range(40):
            if found := [source for source in sources(user) if source.startswith(shown)]:
                break
            await asyncio.sleep(0.05)
        assert found

    visit(noise, "/", look)


def test_a_preview_outside_the_workspace_is_not_served(noise: Workspace, tmp_path: Path) -> None:
    save_png(noise_image(1), tmp_path / PREVIEW, {"kind": "preview"})
    assert preview_url(noise, tmp_path) is None


def test_now_shows_champion_dataset_and_runs_with_their_reasons(noise: Workspace) -> None:
    visit(
        noise,
        "/",
        sees(
            "ganpipe-noise v1",
            "ganpipe-noise v2",
            "The champion was trained on this version.",
            "evaluation.promote is never: it was not compared with the champion.",
            "Nothing starts by itself: ganpipe up is not running.",
            "prepared shards",
        ),
    )


def test_now_tells_the_last_24_hours_and_how_many_more_there_were(workspace: Workspace) -> None:
    prefect_database_without_runs(workspace)
    for hours, name in enumerate(("cats", "dogs", MARKUP.replace(" ", ""), "birds")):
        ended(workspace, hours + 0.1, "Failed", name)
    look = sees("The last 24 hours", "retrain of cats failed.", "retrain of dogs failed.", "and 1 more")
    visit(workspace, "/", look)


def test_runs_are_filtered_by_the_address_and_a_damaged_one_hides_no_other(noise: Workspace) -> None:
    record = run_of_seed(noise, 0)
    (run_folder(noise, record.run_id) / "run.json").write_text("{")

    async def look(user: User) -> None:
        (table,) = user.find(ui.table).elements
        by_run = {row["run"]: row for row in table.rows}
        assert by_run[record.run_id]["state"] == "damaged"
        assert "ganpipe doctor --fix" in by_run[record.run_id]["reason"]
        other = by_run[run_of_seed(noise, 1).run_id]
        assert (other["state"], other["verdict"], other["kd_text"]) == ("finished", "fair", "12.5")

    async def filtered(user: User) -> None:
        (table,) = user.find(ui.table).elements
        assert [row["run"] for row in table.rows] == [run_of_seed(noise, 1).run_id]
        await sees("1 of 2 runs", "Show all", "minutes_to is 'x'; a number is expected")(user)
        with user:
            named = {
                str(e.props["name"]): e for e in ui.context.client.elements.values() if "name" in e.props
            }
        assert {name for column in COLUMNS for name in column.parameters} <= named.keys()
        assert named["kd_to"].props["value"] == "20"
        chosen = [e for e in named["verdict"].default_slot.children if e.props["selected"]]
        assert [e.props["value"] for e in chosen] == ["fair"]

    async def none(user: User) -> None:
        await sees("No run fits all of these filters.", "Show all 2 runs")(user)
        await user.should_not_see(kind=ui.table)
        assert "/runs" in sources(user)

    visit(noise, "/runs", look)
    visit(noise, "/runs?verdict=fair&kd_to=20&minutes_to=x", filtered)
    visit(noise, "/runs?verdict=memorized", none)
    visit(noise, f"/runs/{record.run_id}", sees("is damaged", "All runs"))


def test_a_run_folder_with_a_strange_name_breaks_no_page(noise: Workspace) -> None:
    strange = noise.runs / os.fsdecode(b"caf\xe9-<b>")
    strange.mkdir()
    (strange / "run.json").write_text("{")
    known = run_of_seed(noise, 0).run_id

    async def look(user: User) -> None:
        (table,) = user.find(ui.table).elements
        rows = {row["run"]: row for row in table.rows}
        assert rows["caf\\xe9-<b>"]["url"] == "/runs/caf%E9-%3Cb%3E"
        assert rows[known]["state"] == "finished"

    visit(noise, "/runs", look)
    visit(noise, "/", sees("caf\\xe9-<b>", known))
    visit(noise, "/runs/caf%E9-%3Cb%3E", sees("All runs"))


def test_a_run_shows_its_verdict_metrics_curves_and_what_its_settings_changed(noise: Workspace) -> None:
    first, second = run_of_seed(noise, 0), run_of_seed(noise, 1)

    async def look(user: User) -> None:
        await sees("fair", "It is blurred.", "Next: Train longer.", "12.5", "3.25", MEANINGS["kd"])(user)
        await sees("loss.gamma", "training.seed", "waiting")(user)
        charts = user.find(ui.echart).elements
        drawn = {series["name"] for chart in charts for series in chart.options["series"]}
        assert {"loss_g", "loss_d", "d_sign"} <= drawn
        assert f"/runs/{first.run_id}" in sources(user)

    visit(noise, f"/runs/{second.run_id}", look)
    visit(noise, f"/runs/{first.run_id}", sees("This is the first run of this dataset."))


def test_the_slider_shows_each_grid_of_the_training(noise: Workspace) -> None:
    run = run_of_seed(noise, 0).run_id

    async def look(user: User) -> None:
        grids = f"/picture/.ganpipe/runs/{run}/grids/"
        await user.should_see("after 64 images (2 of 2")
        assert f"{grids}000000000064.png" in sources(user)
        (slider,) = user.find(ui.slider).elements
        slider.value = 0
        await user.should_see("after 32 images (1 of 2")
        assert f"{grids}000000000032.png" in sources(user)
        user.find("Play").click()
        await user.should_see("after 64 images (2 of 2", retries=20)

    visit(noise, f"/runs/{run}", look)


def test_the_reconstructions_of_a_vae_have_a_slider_of_their_own(noise: Workspace) -> None:
    run = run_of_seed(noise, 0).run_id
    folder = noise.runs / run / "reconstructions"
    folder.mkdir()
    for nimg in (32, 64):
        noise_image(nimg, (64, 64)).save(folder / f"{nimg:012d}.png")

    async def look(user: User) -> None:
        shown = f"/picture/.ganpipe/runs/{run}/reconstructions/"
        await sees("each held-out image is left of its reconstruction")(user)
        assert f"{shown}000000000064.png" in sources(user)
        assert len(user.find(ui.slider).elements) == 2

    visit(noise, f"/runs/{run}", look)


def test_models_show_champion_beside_challenger_and_the_history(noise: Workspace) -> None:
    challenger = run_of_seed(noise, 1)

    async def look(user: User) -> None:
        await sees("Champion", "Challenger", "v1", "v2", f"ganpipe promote {challenger.run_id}")(user)
        await sees("Champions so far", "There was no champion, and its verdict is fair.", "12.5")(user)
        assert f"/runs/{challenger.run_id}" in sources(user)

    visit(noise, "/models", look)


@pytest.mark.slow
def test_mlflow_away_is_a_banner_and_everything_else_is_shown(noise: Workspace) -> None:
    (noise.state / "mlflow.db").write_bytes(b"garbage" * 1000)
    for path in ("/", "/runs", "/models", "/datasets/noise", f"/runs/{run_of_seed(noise, 0).run_id}"):
        visit(noise, path, sees("MLflow cannot be asked", "is damaged"))
    visit(noise, "/", sees(run_of_seed(noise, 0).run_id))


def test_a_dataset_shows_versions_sheet_and_what_was_refused(noise: Workspace) -> None:
    account = noise.reports / "noise-add.json"
    refused = {"file": MARKUP, "code": "broken", "reason": "it is cut off"}
    account.write_text(json.dumps(json.loads(account.read_text()) | {"quarantined": [refused]}))

    async def look(user: User) -> None:
        await sees("90", "the champion", MARKUP, "it is cut off")(user)
        pictures = [source for source in sources(user) if source.endswith("contact-sheet.png")]
        assert len(pictures) == 1
        assert (await user.http_client.get(pictures[0])).headers["content-type"] == "image/png"

    visit(noise, "/datasets/noise", look)
    visit(noise, "/datasets", sees("The champion was trained on this version.", "90"))


def test_a_dataset_shows_sizes_drift_labels_and_near_copies(noise: Workspace) -> None:
    raw, run = noise.raw("noise"), run_of_seed(noise, 0)
    first, second, *others = read_manifest(raw)
    write_manifest(raw, [replace(r, group=first.sha256) for r in (first, second)] + others)
    save_record(noise, replace(run, drift=Drift("0123456789abcdef", 0.2, 0.01, (40, 50))))
    page = max((noise.reports / "noise").glob("*/dataset.json"))
    page.write_text(json.dumps(json.loads(page.read_text()) | {"labels": {MARKUP: 90}}))

    async def look(user: User) -> None:
        await sees("20 to 20 px, median 20", "The data changed", "0123456789ab was trained on before")(user)
        await sees("Near copies", first.name, second.name, "Images of each label", MARKUP)(user)
        shown = [s for s in sources(user) if s.startswith("/thumbnail/data/raw/noise/files/")]
        assert len(shown) == 2
        assert (await user.http_client.get(shown[0])).headers["content-type"] == "image/jpeg"
        for name in ("manifest.jsonl", f"../raw/noise/{first.file}/../../../manifest.jsonl"):
            assert (await user.http_client.get(f"/picture/data/raw/noise/{name}")).status_code == 404

    visit(noise, "/datasets/noise", look)


def stylize(workspace: Workspace, count: int) -> Path:
    """`count` stylized images in a folder of the workspace."""
    folder = workspace.state / "stylized" / "abc"
    noise_image(0).save(workspace.styles.mkdir(parents=True) or workspace.styles / "swirl.png")
    for k in range(count):
        name = f"photo{k:03d}__swirl.png"
        origin = {
            "kind": "stylized",
            "run": "cats-1",
            "content": {"name": MARKUP},
            "style": {"name": "../swirl.png"},
        }
        save_png(noise_image(k, (640, 480)), folder / name, origin)
        add_entry(folder, ManifestEntry(str(k), name, "", "draft", 1.5))
    return folder


def test_the_gallery_shows_content_and_style_page_by_page(workspace: Workspace) -> None:
    stylize(workspace, 30)

    async def look(user: User) -> None:
        await sees("30 stylized images", "page 1 of 2", f"content: {MARKUP}", "style: ../swirl.png")(user)
        assert "/thumbnail/data/styles/swirl.png" in sources(user)
        assert sum(source.startswith("/thumbnail/.ganpipe/stylized/") for source in sources(user)) == 24
        await user.open("/gallery?page=2")
        await user.should_see("page 2 of 2")
        assert sum(source.startswith("/thumbnail/.ganpipe/stylized/") for source in sources(user)) == 6

    visit(workspace, "/gallery", look)


def test_a_thumbnail_is_made_once_and_again_when_the_picture_has_changed(workspace: Workspace) -> None:
    picture = stylize(workspace, 1) / "photo000__swirl.png"

    async def look(user: User) -> None:
        url = "/thumbnail/.ganpipe/stylized/abc/photo000__swirl.png"
        first = await user.http_client.get(url)
        assert first.headers["content-type"] == "image/jpeg"
        (kept,) = workspace.thumbnails.iterdir()
        kept.write_bytes(b"kept")
        assert (await user.http_client.get(url)).content == b"kept"
        noise_image(5, (100, 100)).save(picture)
        assert (await user.http_client.get(url)).content[:3] == b"\xff\xd8\xff"
        picture.write_bytes(b"no image")
        assert (await user.http_client.get(url)).status_code == 404

    visit(workspace, "/gallery", look)


def test_only_pictures_of_the_workspace_are_served(workspace: Workspace, tmp_path: Path) -> None:
    folder = stylize(workspace, 1)
    noise_image(1).save(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    shutil.copy(folder / "photo000__swirl.png", workspace.state / "secret.png")
    (folder / "page.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    refused = (
        ".ganpipe/stylized/abc/link.png",
        ".ganpipe/stylized/abc/page.svg",
        ".ganpipe/stylized/abc/manifest.jsonl",
        ".ganpipe/secret.png",
        ".ganpipe/stylized/..%2Fsecret.png",
        ".ganpipe/stylized/abc/%00.png",
        f"..%2F{tmp_path.name}%2Foutside.png",
        str(tmp_path / "outside.png"),
        ".ganpipe/prefect-secret",
    )

    async def look(user: User) -> None:
        own = await user.http_client.get("/picture/.ganpipe/stylized/abc/photo000__swirl.png")
        assert (own.status_code, own.headers["x-content-type-options"]) == (200, "nosniff")
        for name in refused:
            for route in ("picture", "thumbnail"):
                assert (await user.http_client.get(f"/{route}/{name}")).status_code == 404, name

    visit(workspace, "/gallery", look)


def test_every_metric_has_a_meaning_and_every_scalar_of_a_gan_a_chart(noise: Workspace) -> None:
    assert {name for row in METRICS for name in row.names} <= MEANINGS.keys()
    from ganpipe.stages.run_details import read_curve

    logged = {name for point in read_curve(noise, run_of_seed(noise, 0).run_id) for name in point.values}
    assert logged - {name for _, _, names in CURVES for name in names} <= {"d_skipped"}


def test_text_of_strangers_is_never_markup(noise: Workspace) -> None:
    record = run_of_seed(noise, 0)
    save_record(noise, replace(record, reason=MARKUP))

    async def look(user: User) -> None:
        await user.should_see(MARKUP)
        with user:
            elements: list[Element] = list(ui.context.client.elements.values())
        assert not [
            e for e in elements if "innerHTML" in e.props or e.tag in ("nicegui-html", "nicegui-markdown")
        ]

    visit(noise, f"/runs/{record.run_id}", look)

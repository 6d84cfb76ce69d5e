"""The page of a run: what people look at in its folder, what hangs together with it, and who else knows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fastapi import HTTPException
from nicegui import ui
from nicegui.testing.user import User

from ganpipe.dashboard.pictures import find_report
from ganpipe.stages import run_details
from ganpipe.stores.addresses import Addresses
from ganpipe.stores.mlflow_database import open_reading
from ganpipe.stores.run_files import FILM, REPORT_PAGE, REPORT_PICTURE, SUSPECTS_SHEET
from ganpipe.stores.run_records import newest_experiment, run_folder, save_record
from ganpipe.stores.run_results import RunResult, save_result
from ganpipe.stores.workspace import Workspace, mlflow_database
from tests.conftest import noise_image
from tests.dashboard.reader import run_of_seed, sees, sources, visit


def test_report_card_film_and_nearest_training_images_are_shown_if_they_are_there(noise: Workspace) -> None:
    run = run_of_seed(noise, 0).run_id
    folder = run_folder(noise, run)
    (folder / FILM).unlink(missing_ok=True)

    async def nothing(user: User) -> None:
        await user.should_not_see("Report card")
        await user.should_not_see("Nearest training images")
        await user.should_not_see("As a film")

    visit(noise, f"/runs/{run}", nothing)
    for name in (REPORT_PICTURE, SUSPECTS_SHEET):
        noise_image(0).save(folder / name)
    (folder / REPORT_PAGE).write_text("<!doctype html><p>the card</p><script>alert(1)</script>")
    (folder / FILM).write_bytes(b"film")

    async def all_of_it(user: User) -> None:
        await sees("Report card", "Nearest training images", "As a film")(user)
        place = f".ganpipe/runs/{run}"
        shown = {
            f"/picture/{place}/{REPORT_PICTURE}",
            f"/picture/{place}/{SUSPECTS_SHEET}",
            f"/report/{run}",
        }
        assert shown | {f"/picture/{place}/{FILM}"} <= set(sources(user))

    visit(noise, f"/runs/{run}", all_of_it)


def test_a_report_card_is_served_without_scripts_and_no_other_page_is(noise: Workspace) -> None:
    run = run_of_seed(noise, 0).run_id
    page = run_folder(noise, run) / REPORT_PAGE
    page.write_text("<!doctype html><p>the card</p>")
    (noise.state / REPORT_PAGE).write_text("outside the runs")

    async def look(user: User) -> None:
        reply = await user.http_client.get(f"/report/{run}")
        assert (reply.status_code, "the card" in reply.text) == (200, True)
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("sandbox;")
        assert "default-src 'none'" in policy
        for other in ("nothing", f"..%2Fruns%2F{run}"):
            assert (await user.http_client.get(f"/report/{other}")).status_code == 404, other
        assert (await user.http_client.get(f"/picture/.ganpipe/runs/{run}/{REPORT_PAGE}")).status_code == 404

    visit(noise, "/runs", look)
    assert find_report(noise, run) == page
    with pytest.raises(HTTPException):
        find_report(noise, "..")


def test_lineage_leads_to_what_it_came_from_and_to_what_came_of_it(noise: Workspace) -> None:
    first, second = run_of_seed(noise, 0), run_of_seed(noise, 1)
    save_record(noise, replace(second, continues=first.run_id))

    def links(user: User) -> set[str]:
        return set(sources(user))

    async def of_first(user: User) -> None:
        await sees("Lineage", f"{first.run_id} (this page)", "ganpipe-noise/1", "ganpipe-noise/2")(user)
        await sees(f"continues {first.run_id}", f"noise@{first.version[:12]}")(user)
        assert {f"/runs/{second.run_id}", "/datasets/noise", "/models"} <= links(user)

    async def of_second(user: User) -> None:
        await user.should_see(f"{second.run_id} (this page)")
        assert f"/runs/{first.run_id}" in links(user)

    visit(noise, f"/runs/{first.run_id}", of_first)
    visit(noise, f"/runs/{second.run_id}", of_second)


def test_a_run_links_to_its_pages_in_mlflow_and_prefect(
    noise: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_of_seed(noise, 0)
    result = RunResult(
        state="finished",
        fingerprint=record.fingerprint,
        dataset={},
        run=record.run_id,
        flow_run_id="0a1b-flow",
        mlflow_run_id=record.mlflow_run_id,
        model_version=None,
        champion=True,
        train=None,
        metrics={},
        verdict="fair",
        evidence=[],
        notes=[],
        grid=None,
        stylized=[],
        style_failures=[],
        contact_sheet=None,
        style_quality={},
        report_card=None,
        film=None,
    )
    save_result(noise, result)

    async def no_server(user: User) -> None:
        assert not [source for source in sources(user) if source.startswith("http")]

    visit(noise, f"/runs/{record.run_id}", no_server)
    up = Addresses(1, "", "http://127.0.0.1:4200/api", "http://127.0.0.1:5000")
    with open_reading(mlflow_database(noise)) as database:
        of_run = "SELECT experiment_id FROM runs WHERE run_uuid = ?"
        ((experiment,),) = database.execute(of_run, (record.mlflow_run_id,)).fetchall()
    assert newest_experiment(noise) == str(experiment)
    monkeypatch.setattr(run_details, "running_servers", lambda _: up)

    async def servers(user: User) -> None:
        assert {
            "http://127.0.0.1:4200/runs/flow-run/0a1b-flow",
            f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{record.mlflow_run_id}?workflowType=machine_learning",
        } <= set(sources(user))

    visit(noise, f"/runs/{record.run_id}", servers)
    other = run_of_seed(noise, 1)

    async def mlflow_alone(user: User) -> None:
        assert not [source for source in sources(user) if ":4200" in source]

    visit(noise, f"/runs/{other.run_id}", mlflow_alone)


def test_the_table_of_runs_has_version_and_outcome_to_sort_and_filter_by(noise: Workspace) -> None:
    record = run_of_seed(noise, 1)

    async def look(user: User) -> None:
        (table,) = user.find(ui.table).elements
        row = next(row for row in table.rows if row["run"] == record.run_id)
        assert (row["version"], row["gate"], row["gate_tone"]) == (record.version[:8], "waiting", "warn")
        sortable = {column["name"] for column in table.columns if column["sortable"]}
        wanted = {"dataset", "version", "model", "verdict", "kd", "energy", "train_s", "gate", "reason"}
        assert wanted <= sortable

    visit(noise, "/runs", look)

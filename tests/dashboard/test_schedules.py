"""Schedules: what the page says of a real Prefect server, and that its buttons change what that server does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from nicegui import ui
from nicegui.testing.user import User

from ganpipe.compute.process_identity import start_time
from ganpipe.dashboard import schedules
from ganpipe.errors import GanpipeError
from ganpipe.files import write_json
from ganpipe.services.prefect import free_port
from ganpipe.services.prefect_api import Deployment, PrefectApi, find_api
from ganpipe.services.timezone import local_timezone
from ganpipe.settings.schedules import BY_HAND, FROM_GALLERY, ON_NEW_DATA
from ganpipe.stages.retraining import Decision
from ganpipe.stores.addresses import Addresses, announce, announced
from ganpipe.stores.dvc import read_pointer
from ganpipe.stores.prefect_database import planned_runs
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated
from tests.dashboard.conftest import register
from tests.dashboard.reader import MARKUP, act, press, sees_soon, sources, visit


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page looks again at once."""
    monkeypatch.setattr(schedules, "REFRESH_S", 0.1)
    monkeypatch.setattr("ganpipe.dashboard.readings.MOST_AGE_S", 0.0)


@pytest.fixture
def up(upped: Workspace, quick: None) -> Iterator[Workspace]:
    with activated(upped.root):
        yield upped


def known(workspace: Workspace, name: str) -> Deployment:
    """Asks the server for a deployment as it is now."""
    return asyncio.run(find_api(workspace).deployment(name))


def test_without_up_the_page_says_what_to_type(workspace: Workspace, quick: None) -> None:
    act(workspace, "/schedules", sees_soon("`ganpipe up` is not running", 'ganpipe up --cron "0 2 * * *"'))
    workspace.params_file.write_text("schedules:\n- {name: nightly, cron: 0 2 * * *}\n")
    act(
        workspace,
        "/schedules",
        sees_soon("In params.yaml", "nightly: retrain, at 02:00 every day (0 2 * * *, local time)"),
    )


def test_each_deployment_says_what_it_does_when_and_what_came_of_it(up: Workspace) -> None:
    async def look(user: User) -> None:
        await sees_soon("nightly", "at 02:00 every day (0 2 * * *, Europe/Berlin)", "judge", "every 6 h")(
            user
        )
        await sees_soon("Judges the dataset's champion again", "It has not run yet.", ON_NEW_DATA)(user)
        await sees_soon("training.minutes=5.0", "only by hand", "when somebody asks for it in the gallery")(
            user
        )
        assert "/datasets/noise" in sources(user)
        assert {b.text for b in user.find(ui.button).elements} == {"Run now", "Pause"}

    act(up, "/schedules", look)


def test_a_dashboard_that_only_shows_has_no_button_and_says_where_they_are(up: Workspace) -> None:
    async def look(user: User) -> None:
        await sees_soon("nightly", "This dashboard only shows")(user)
        await user.should_not_see(kind=ui.button)

    visit(up, "/schedules", look)


def test_the_next_times_are_those_that_prefect_has_planned(up: Workspace) -> None:
    for _ in range(100):  # its scheduler plans every few seconds
        if planned := known(up, "nightly").planned:
            break
        asyncio.run(asyncio.sleep(0.2))
    assert len({run.expected_at for run in planned}) == len(planned) > 0
    timings = {run.deployment: run.timing for run in planned_runs(up, 200)}
    assert timings == {
        "nightly": "at 02:00 every day (0 2 * * *, Europe/Berlin)",
        "judge": f"every 6 h ({local_timezone()})",
    }

    async def look(user: User) -> None:
        shown = {
            str(e.props["datetime"]) for e in user.find(kind=ui.element).elements if "datetime" in e.props
        }
        assert {str(run.expected_at) for run in planned[: schedules.SHOWN_TIMES]} <= shown

    act(up, "/schedules", look)


def test_what_is_paused_stays_paused_when_up_starts_again_and_can_be_resumed(up: Workspace) -> None:
    async def pause(user: User) -> None:
        await press(user, "Pause", 1)  # judge, nightly: in the order of their names
        await sees_soon("nightly is paused until you resume it.", "paused")(user)

    act(up, "/schedules", pause)
    assert not known(up, "nightly").active
    assert known(up, "judge").active
    found = announced(up)
    assert found is not None
    register(up, found.prefect_api)
    assert not known(up, "nightly").active

    async def resume(user: User) -> None:
        await press(user, "Resume")
        await sees_soon("nightly starts runs again.")(user)

    act(up, "/schedules", resume)
    assert known(up, "nightly").active


def test_all_of_a_deployment_that_somebody_has_paused_in_prefect_is_resumed_here(up: Workspace) -> None:
    api = find_api(up)
    ask = httpx.post(
        f"{api.addresses.prefect_api}/deployments/{known(up, 'judge').id}/pause_deployment",
        auth=httpx.BasicAuth(*workspace_secret(up).split(":", 1)),
    )
    assert ask.is_success
    assert not known(up, "judge").active
    asyncio.run(api.set_active(known(up, "judge"), True))
    assert known(up, "judge").active


def test_a_run_is_started_shown_while_it_waits_and_cancelled(up: Workspace) -> None:
    async def look(user: User) -> None:
        await press(user, "Run now", 1)
        await sees_soon("A run of nightly is queued.", "Scheduled", "Cancel")(user)
        await press(user, "Cancel")
        await sees_soon(" is cancelled.")(user)

    act(up, "/schedules", look)
    deployment = known(up, "nightly")
    assert not deployment.open
    assert deployment.last is not None
    assert deployment.last.state == "Cancelled"
    page = find_api(up).page(deployment.last)
    assert page.endswith(f"/runs/flow-run/{deployment.last.id}")

    async def links(user: User) -> None:
        assert page in sources(user)

    act(up, "/schedules", links)


def test_the_watched_folder_says_how_near_the_next_run_is(up: Workspace) -> None:
    reason = "not worth retraining yet: 3 of 50 new images"
    decision = Decision("noise", read_pointer(up, "noise"), False, reason, new=3)
    write_json(up.state / "retraining" / "noise.json", decision)
    rule = "50 new images or 5% changed, at most every 1h"
    act(up, "/schedules", sees_soon("/photos/<b>", rule, "3 of 50 new images", reason))


def test_names_and_reasons_of_strangers_are_text(up: Workspace) -> None:
    api, deployment = find_api(up), known(up, BY_HAND)
    run = asyncio.run(api.start(deployment))
    auth = httpx.BasicAuth(*workspace_secret(up).split(":", 1))
    url = f"{api.addresses.prefect_api}/flow_runs/{run.id}"
    state = {"type": "FAILED", "name": "Failed", "message": MARKUP}
    assert httpx.post(f"{url}/set_state", json={"state": state, "force": True}, auth=auth).is_success

    async def look(user: User) -> None:
        await sees_soon(MARKUP, "Failed")(user)
        assert not [e for e in user.find(kind=ui.element).elements if "innerHTML" in e.props]

    act(up, "/schedules", look)


def test_runs_of_the_gallery_have_settings_besides_those_of_up(up: Workspace) -> None:
    api, deployment = find_api(up), known(up, FROM_GALLERY)
    run = asyncio.run(api.start(deployment, ["style.strength=0.70"]))
    asyncio.run(api.cancel(run))
    assert run.overrides == ("training.seed=3", "style.strength=0.70")
    assert (run.kind, run.planned) == ("SCHEDULED", False)
    latest = asyncio.run(api.latest_runs(FROM_GALLERY, 1))
    assert [(r.id, r.state) for r in latest] == [(run.id, "Cancelled")]


def test_a_server_that_is_away_refuses_or_is_elsewhere_is_one_sentence(
    up: Workspace, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(find_api(up).addresses, prefect_api=f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(GanpipeError, match="does not answer"):
        asyncio.run(PrefectApi(gone, "ganpipe:x").deployments())
    with pytest.raises(GanpipeError, match="answered 401"):
        asyncio.run(PrefectApi(find_api(up).addresses, "ganpipe:wrong").deployments())
    with pytest.raises(GanpipeError, match="has not registered 'no such' yet"):
        asyncio.run(find_api(up).deployment("no such"))
    for address in (gone.prefect_api, "http://192.0.2.1/api"):
        monkeypatch.setattr("ganpipe.stores.addresses.is_ours", lambda *_, there=address: "192" in there)
        announce(workspace, Addresses(os.getpid(), start_time(os.getpid()), address, ""))
        workspace_secret(workspace)
        with pytest.raises(GanpipeError, match="ganpipe up` is not running"):
            find_api(workspace)

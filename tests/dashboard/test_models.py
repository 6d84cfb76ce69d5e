"""Changes by the page of models: each action by its effect in the registry, through the command in its own process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from nicegui import ui
from nicegui.testing.user import User

from ganpipe.dashboard.actions import Actions, Outcome
from ganpipe.evaluation.gate_result import KEPT, PROMOTED, Change, Comparison, GateResult, side_picture
from ganpipe.imaging.provenance import read_origin
from ganpipe.models.generator_files import CONFIG
from ganpipe.stages.drawings import COUNT, FILM
from ganpipe.stores.registered_models import RegisteredModel, read_registered_models
from ganpipe.stores.run_records import RunRecord, load_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import noise_image
from tests.dashboard.reader import act, run_of_seed, sees, sources, visit

PATIENCE = 600  # tries, 0.1 s each: a command imports torch and MLflow


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def model(workspace: Workspace) -> RegisteredModel:
    (found,) = read_registered_models(workspace)
    return found


def with_gate(workspace: Workspace, gate: GateResult) -> RunRecord:
    """The challenger, of which the gate has said so."""
    return save_record(workspace, replace(run_of_seed(workspace, 1), gate=gate))


async def answer(user: User, label: str, reason: str) -> None:
    """Gives a reason in the dialog, and presses its button."""
    await user.should_see("Why? It is kept with the change.")
    user.find("Why? It is kept with the change.").type(reason)
    user.find(label).click()


def test_a_challenger_is_promoted_and_the_champion_rolled_back_each_with_a_reason(noise: Workspace) -> None:
    async def look(user: User) -> None:
        user.find(kind=ui.button, content="Promote").click()
        await user.should_see("use it instead of v1.")
        await answer(user, "Promote v2", "its petals are sharper")
        await user.should_see("Roll back to v1", retries=PATIENCE)
        assert model(noise).aliases == {"champion": "2", "previous": "1"}
        (*_, change) = model(noise).history
        assert (change.version, change.action, change.why) == ("2", "promote", "its petals are sharper")
        user.find("Roll back to v1").click()
        await user.should_see("v2 is the champion now")
        await answer(user, "Roll back", "they were noise")
        await user.should_see("rollback", retries=PATIENCE)
        assert model(noise).aliases["champion"] == "1"
        assert model(noise).history[-1].action == "rollback"

    act(noise, "/models", look)


def test_who_cancels_changes_nothing(noise: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: Actions, *words: str) -> Outcome:
        raise AssertionError(words)

    monkeypatch.setattr(Actions, "run", run)

    async def look(user: User) -> None:
        user.find(kind=ui.button, content="Promote").click()
        await user.should_see("Promote v2")
        user.find("Cancel").click()
        await user.should_not_see("Promote v2")

    act(noise, "/models", look)
    assert model(noise).aliases == {"champion": "1", "challenger": "2"}


def test_a_refused_model_says_why_and_is_promoted_by_force(noise: Workspace) -> None:
    with_gate(noise, GateResult(KEPT, "It draws fewer tulips."))

    async def look(user: User) -> None:
        user.find(kind=ui.button, content="Promote").click()
        await user.should_see("It was refused: It draws fewer tulips.")
        await answer(user, "Promote all the same", "nobody wants tulips")
        await user.should_see("Roll back to v1", retries=PATIENCE)
        assert model(noise).aliases["champion"] == "2"
        assert (model(noise).history[-1].action, model(noise).history[-1].why) == (
            "force",
            "nobody wants tulips",
        )

    act(noise, "/models", look)


@pytest.mark.slow
def test_a_model_refused_since_the_page_was_drawn_is_not_promoted_and_the_page_says_why(
    noise: Workspace,
) -> None:
    async def look(user: User) -> None:
        with_gate(noise, GateResult(KEPT, "It draws fewer tulips."))
        user.find(kind=ui.button, content="Promote").click()
        await answer(user, "Promote v2", "why not")
        await user.should_see("was refused: It draws fewer tulips.", retries=PATIENCE)
        assert model(noise).aliases == {"champion": "1", "challenger": "2"}

    act(noise, "/models", look)


@pytest.mark.slow
def test_keeping_the_champion_ends_the_waiting(noise: Workspace) -> None:
    record = with_gate(noise, GateResult(PROMOTED, "It is better.", waiting=True))

    async def look(user: User) -> None:
        await user.should_see("It waits for a person:")
        user.find("Keep the champion").click()
        await user.should_see("Keep the champion?")
        await answer(user, "Keep v1", "its colors are wrong")
        await user.should_see("(its colors are wrong). It is better.", retries=PATIENCE)
        await user.should_not_see("It waits for a person:")
        gate = getattr(load_record(noise, record.run_id), "gate", None)
        assert gate is not None
        assert (gate.outcome, gate.waiting) == (KEPT, False)
        assert "(its colors are wrong). It is better." in gate.reason
        assert model(noise).aliases == {"champion": "1", "challenger": "2"}

    act(noise, "/models", look)


def test_pages_that_only_show_have_the_commands_instead_of_buttons(noise: Workspace) -> None:
    run = with_gate(noise, GateResult(PROMOTED, "It is better.", waiting=True)).run_id

    async def look(user: User) -> None:
        await sees(f"ganpipe promote {run}", f"ganpipe refuse {run}")(user)
        await sees(f"ganpipe generate --model ganpipe-noise/2 -n {COUNT} --seed 0 --out DIR")(user)
        await user.should_not_see(kind=ui.button)

    visit(noise, "/models", look)
    with_gate(noise, GateResult(KEPT, "It is worse."))
    visit(noise, "/models", sees(f"ganpipe promote {run} --force"))


@pytest.mark.slow
def test_images_and_a_film_are_drawn_from_what_the_form_says_and_once(
    noise: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    run = Actions.run

    async def counted(self: Actions, *words: str) -> Outcome:
        ran.append(words)
        return await run(self, *words)

    monkeypatch.setattr(Actions, "run", counted)

    def drawn(user: User) -> list[str]:
        return [source for source in sources(user) if source.startswith("/picture/.ganpipe/drawn/")]

    async def look(user: User) -> None:
        user.find("model").elements.pop().value = "challenger"
        user.find("seed").elements.pop().value = 7
        user.find("truncation").elements.pop().value = 0.5
        for _ in range(2):
            user.find(f"Draw {COUNT}").click()
            await user.should_see("ganpipe-noise/2, seed 7, ψ = 0.5", retries=PATIENCE)
        pictures = drawn(user)
        assert len(pictures) == COUNT
        origins = [read_origin(noise.root / picture.removeprefix("/picture/")) for picture in pictures]
        assert [origin["index"] for origin in origins] == list(range(COUNT))
        assert {(o["model"], o["seed"], o["truncation"]) for o in origins} == {("ganpipe-noise v2", 7, 0.5)}
        assert (await user.http_client.get(pictures[0])).headers["content-type"] == "image/png"
        user.find("Interpolate").click()
        await asyncio.sleep(0.5)
        for _ in range(PATIENCE):
            if FILM in "".join(drawn(user)):
                break
            await asyncio.sleep(0.1)
        (film,) = drawn(user)
        reply = await user.http_client.get(film, headers={"Range": "bytes=4-7"})
        assert (reply.status_code, reply.content) == (206, b"ftyp")
        assert len(ran) == 2, "images that are there are not drawn again"

    act(noise, "/models", look)


def test_only_a_class_conditional_model_is_asked_for_a_label(noise: Workspace) -> None:
    path = run_folder(noise, run_of_seed(noise, 1).run_id) / "model" / CONFIG

    def labels(user: User) -> list[str]:
        (label,) = user.find(kind=ui.select, content="label").elements
        return list(label.options) if label.visible else []

    async def hidden(user: User) -> None:
        await user.should_not_see(kind=ui.select, content="label")

    act(noise, "/models", hidden)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": {"rose": 3, "tulip": 4}}))

    async def asked(user: User) -> None:
        assert labels(user) == ["", "rose", "tulip"]

    act(noise, "/models", asked)


def test_both_pages_lay_champion_and_challenger_over_each_other_with_the_gates_figures(
    noise: Workspace,
) -> None:
    run = run_of_seed(noise, 1).run_id
    picture = run_folder(noise, run) / "gate.png"
    change = Change.of(0.25, 0.05)
    comparison = Comparison(
        64, 32, change, 0.01, 0.01, 0.5, 0.25, 1.0, Change.of(0.0, 0.02), Change.of(-0.125, 0.02)
    )
    names = {"champion": "ganpipe-noise v1", "challenger": "ganpipe-noise v2"}
    with_gate(noise, GateResult(KEPT, "It is worse.", comparison, picture=str(picture), **names))
    noise_image(0, (60, 20)).save(picture)

    def own(user: User) -> set[str]:
        return {Path(source).name for source in sources(user) if "/gate" in source}

    async def one_picture(user: User) -> None:
        await sees("It is worse.", "+0.25", "0.152 to 0.348", "-0.125", "64 images of each")(user)
        assert own(user) == {"gate.png"}

    async def a_wipe(user: User) -> None:
        await sees("champion v1", "challenger v2")(user)
        assert own(user) == {"gate.png", "gate-champion.png", "gate-challenger.png"}

    for path in ("/models", f"/runs/{run}"):
        visit(noise, path, one_picture)
    for side in names:
        noise_image(1).save(side_picture(picture, side))
    for path in ("/models", f"/runs/{run}"):
        visit(noise, path, a_wipe)

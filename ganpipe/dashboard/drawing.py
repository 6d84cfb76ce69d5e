"""Images and an interpolation from the champion or the challenger, as a reader asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.acting import button, perform
from ganpipe.dashboard.actions import Actions
from ganpipe.dashboard.layout import card, code, film, image, text
from ganpipe.dashboard.pictures import picture_url
from ganpipe.files import escape_control
from ganpipe.stages.drawings import COUNT, FILM, Drawing, drawn_images, open_drawing
from ganpipe.stores.registered_models import CHALLENGER, CHAMPION, RegisteredModel
from ganpipe.stores.workspace import Workspace

MOST_SEED = 2**31 - 1
AS_IN_DATASET = ""  # instead of a label


def draw_drawing(
    workspace: Workspace, actions: Actions | None, model: RegisteredModel, labels: Sequence[str]
) -> None:
    """The card with the form; `labels`: of class-conditional models."""
    sides = [alias for alias in (CHAMPION, CHALLENGER) if model.with_alias(alias)]
    if not sides:
        return
    with card("Draw"):
        if actions is not None:
            DrawingForm(workspace, actions, model, sides, labels)
            return
        for side in sides:
            with Element("p"):
                code(
                    f"ganpipe generate --model {model.name}/{model.aliases[side]} -n {COUNT} --seed 0 --out DIR"
                )


class DrawingForm:
    """Which model draws, and from what; below it what was drawn last."""

    def __init__(
        self,
        workspace: Workspace,
        actions: Actions,
        model: RegisteredModel,
        sides: Sequence[str],
        labels: Sequence[str],
    ) -> None:
        self.workspace, self.actions, self.model = workspace, actions, model
        with Element("div").classes("row form"):
            names = {side: f"{side} v{model.aliases[side]}" for side in sides}
            self.side = ui.select(names, value=sides[0], label="model")
            self.seed = ui.number("seed", value=0, min=0, max=MOST_SEED, precision=0)
            self.truncation = ui.number("truncation ψ", value=1.0, min=0.05, max=1.0, step=0.05)
            options = {AS_IN_DATASET: "as in the dataset"} | {name: escape_control(name) for name in labels}
            self.label = ui.select(options, value=AS_IN_DATASET, label="label")
            self.label.set_visibility(bool(labels))
            button(f"Draw {COUNT}", self.draw_images)
            button("Interpolate", self.draw_film).props("outline")
        self.place = Element("div")

    def wanted(self) -> Drawing:
        """Returns the drawing that the form describes."""
        version = self.model.with_alias(str(self.side.value))
        assert version is not None
        return Drawing(
            f"{self.model.name}/{version.version}",
            version.mlflow_run_id,
            int(self.seed.value or 0),
            float(self.truncation.value or 1),
            str(self.label.value or "") or None,
        )

    async def draw_images(self) -> None:
        """Shows COUNT images, which are drawn unless they are there."""
        drawing = self.wanted()
        folder = await asyncio.to_thread(open_drawing, self.workspace, drawing)
        if drawn_images(folder) or await self._run(drawing, drawing.images_command(folder)):
            self._show(drawing, lambda: self._draw_images(drawn_images(folder)))

    async def draw_film(self) -> None:
        """Shows a closed walk between latents, which is written unless it is there."""
        drawing = self.wanted()
        folder = await asyncio.to_thread(open_drawing, self.workspace, drawing)
        film = folder / FILM
        if film.exists() or await self._run(drawing, drawing.film_command(folder)):
            self._show(drawing, lambda: self._draw_film(film))

    async def _run(self, drawing: Drawing, command: list[str]) -> bool:
        outcome = await perform(self.actions, f"{drawing.model} draws …", *command)
        return not outcome.error

    def _show(self, drawing: Drawing, draw: Callable[[], None]) -> None:
        if self.place.is_deleted:  # the page was drawn anew meanwhile
            return
        self.place.clear()
        with self.place:
            text(str(drawing), classes="soft")
            draw()

    def _draw_images(self, paths: Sequence[Path]) -> None:
        with Element("div").classes("drawn"):
            for number, path in enumerate(paths):
                image(picture_url(self.workspace, path), f"image {number}")

    def _draw_film(self, path: Path) -> None:
        film(picture_url(self.workspace, path), "interpolation between six latents")

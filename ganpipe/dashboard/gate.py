"""The gate's answer on a challenger, as the pages of runs and of models show it."""

from __future__ import annotations

from pathlib import Path

from nicegui.element import Element

from ganpipe.dashboard.figures import number
from ganpipe.dashboard.layout import image, link, number_cell, plain_table, text, word
from ganpipe.dashboard.pictures import picture_url, thumbnail_url
from ganpipe.dashboard.wipe import wipe
from ganpipe.evaluation.gate_result import Comparison, GateResult, side_picture
from ganpipe.stores.registered_models import CHALLENGER, CHAMPION
from ganpipe.stores.workspace import Workspace


def draw_gate(workspace: Workspace, gate: GateResult) -> None:
    """The outcome, its reason and figures, and both models' images from the same latents."""
    with Element("div").classes("gate"):
        with Element("div"):
            word(gate.word)
            text(gate.reason)
            if gate.comparison:
                _draw_changes(gate.comparison)
        if gate.picture and Path(gate.picture).is_file():
            _draw_pictures(workspace, gate, Path(gate.picture))


def _draw_changes(comparison: Comparison) -> None:
    rows = [
        (name, f"{change.value:+.3g}", number_cell(change.interval), number(change.z))
        for name, change in comparison.changes.items()
    ]
    plain_table(("challenger minus champion", "change", "95% interval", "z"), rows)
    text(
        f"Measured on {comparison.images:,} images of each and {comparison.holdout:,} held-out ones. "
        "z above 1.6: surely better; below −2.3: surely worse.",
        classes="soft",
    )


def _draw_pictures(workspace: Workspace, gate: GateResult, picture: Path) -> None:
    names = {CHAMPION: gate.champion, CHALLENGER: gate.challenger}
    alone = {side: side_picture(picture, side) for side in names}
    with Element("div"):
        if all(path.is_file() for path in alone.values()):
            wipe(
                *(
                    (picture_url(workspace, path), f"{side} {_version(names[side])}")
                    for side, path in alone.items()
                )
            )
            link("Beside real images", picture_url(workspace, picture))
        else:  # of an earlier ganpipe, or brought back from MLflow
            with Element("a") as around:
                around.props["href"] = picture_url(workspace, picture)
                image(thumbnail_url(workspace, picture), "champion and challenger from the same latents")


def _version(model: str | None) -> str:
    """Such as v3 of ganpipe-cats v3."""
    return (model or "").rpartition(" ")[2]

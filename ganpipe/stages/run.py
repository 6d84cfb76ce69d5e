"""What fixes a whole run, and whether it has been done."""

from __future__ import annotations

from typing import Any

from ganpipe.settings.schema import Settings
from ganpipe.stages.stylize import _pictures_id
from ganpipe.stages.train import compute_names
from ganpipe.stores.fingerprint import run_fingerprint, train_fingerprint
from ganpipe.stores.run_records import finished_result
from ganpipe.stores.workspace import Workspace
from ganpipe.vgg19.weights import style_weights, weights_id


def fingerprint_of(workspace: Workspace, version: str, settings: Settings) -> str:
    """The fingerprint of a whole run on this version of the data."""
    training = train_fingerprint(version, settings, compute_names(settings))
    style = settings.style
    pictures = {name: _pictures_id(workspace, getattr(style, name)) for name in ("contents", "styles")}
    networks = {"network": weights_id(), "style_network": style_weights(style.weights).id}
    return run_fingerprint(training, settings, pictures | networks)


def up_to_date(workspace: Workspace, version: str, settings: Settings) -> dict[str, Any] | None:
    """What the finished run with the same fingerprint made, if it is all still there."""
    return finished_result(workspace, fingerprint_of(workspace, version, settings))

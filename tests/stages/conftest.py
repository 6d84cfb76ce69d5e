"""The fixture that tests of trials share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.stages import trials
from ganpipe.stores.workspace import Workspace
from ganpipe.training import validation
from tests.conftest import copied


@pytest.fixture
def comparable(
    migrated: Workspace, prepared_noise: Path, monkeypatch: pytest.MonkeyPatch, pixel_features: None
) -> Workspace:
    """The dataset `noise`, whose trainings can be compared: on few held-out images."""
    for module in (validation, trials):
        monkeypatch.setattr(module, "LEAST_HELD_OUT", 4)
    return copied(prepared_noise, migrated)

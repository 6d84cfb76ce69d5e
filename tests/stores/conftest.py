"""A workspace with one small dataset, which the tests of stores change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.settings.schema import Settings
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, with_data


@pytest.fixture(scope="session")
def added_pets(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    return with_data(tmp_path_factory.mktemp("pets"), "pets", 12, settings, prepare=False)


@pytest.fixture
def pets(workspace: Workspace, added_pets: Path) -> Workspace:
    """A workspace with the dataset `pets`: 12 images."""
    return copied(added_pets, workspace)

"""Commands that a page runs."""

from __future__ import annotations

import asyncio

from ganpipe.dashboard.actions import Actions
from ganpipe.stores.workspace import Workspace


def test_a_command_that_fails_gives_its_sentence_alone(workspace: Workspace) -> None:
    outcome = asyncio.run(Actions(workspace).run("promote", "nosuch"))
    assert outcome.error == "No run is called nosuch; the latest are: none yet."
    assert outcome.result == {}

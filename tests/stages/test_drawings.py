"""The folders of what the dashboard draws: one for each model version and settings, and not more than KEPT."""

from __future__ import annotations

import os

from ganpipe.stages.drawings import COUNT, KEPT, Drawing, drawn_images, open_drawing
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder


def test_another_model_or_setting_has_another_folder_and_the_same_one_has_the_same(
    workspace: Workspace,
) -> None:
    drawings = [
        Drawing("cats/1", "a"),
        Drawing("cats/1", "b"),
        Drawing("cats/2", "a"),
        Drawing("cats/1", "a", seed=1),
        Drawing("cats/1", "a", truncation=0.5),
        Drawing("cats/1", "a", label="tabby"),
    ]
    assert len({open_drawing(workspace, drawing) for drawing in drawings}) == len(drawings)
    assert open_drawing(workspace, drawings[0]) == open_drawing(workspace, Drawing("cats/1", "a"))


def test_what_was_asked_for_longest_ago_is_deleted(workspace: Workspace) -> None:
    folders = [open_drawing(workspace, Drawing("cats/1", "a", seed=k)) for k in range(KEPT)]
    for age, folder in enumerate(reversed(folders)):
        (folder / "image.png").write_bytes(b"x")
        os.utime(folder, (1e9 - age, 1e9 - age))
    assert open_drawing(workspace, Drawing("cats/1", "a", seed=0)) == folders[0]
    open_drawing(workspace, Drawing("cats/1", "a", seed=KEPT))
    assert folders[0].exists()
    assert not folders[1].exists()
    assert all(folder.exists() for folder in folders[2:])


def test_a_drawing_that_was_cut_short_is_drawn_again(workspace: Workspace) -> None:
    folder = open_drawing(workspace, Drawing("cats/1", "a"))
    fill_folder(folder, COUNT - 1)
    assert drawn_images(folder) == []
    fill_folder(folder, COUNT)
    assert len(drawn_images(folder)) == COUNT


def test_a_label_cannot_be_taken_for_an_option(workspace: Workspace) -> None:
    folder = open_drawing(workspace, Drawing("cats/1", "a", label="--out=/"))
    command = Drawing("cats/1", "a", label="--out=/").images_command(folder)
    assert "--label=--out=/" in command
    assert f"--out={folder}" in command

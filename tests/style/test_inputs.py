"""The words that name contents and styles: files, folders, patterns and lists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.imaging.paths import image_paths
from ganpipe.style.batch.plan import Variant, plan_batch
from tests.style.test_batch import QUICK, save_images


def test_files_folders_patterns_and_lists_are_inputs(tmp_path: Path) -> None:
    a, b = save_images(tmp_path / "c", "a.png", "b.jpg")
    (tmp_path / "c/notes.txt").write_text("no image")
    (tmp_path / "list.txt").write_text("# two of them\nc/b.jpg\n\nc/a.png\n")
    assert image_paths([tmp_path / "c"]) == [a, b]
    assert image_paths([tmp_path / "c/*.png", a]) == [a]
    assert image_paths([f"@{tmp_path}/list.txt"]) == [b, a]
    assert image_paths([f"{tmp_path}/**/*.jpg"]) == [b]


def test_paths_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match="There is no file or folder"):
        image_paths([tmp_path / "nowhere"])
    with pytest.raises(GanpipeError, match="No image was found"):
        image_paths([tmp_path])
    with pytest.raises(GanpipeError, match="Nothing matches"):
        image_paths([tmp_path / "*.png"])
    with pytest.raises(GanpipeError, match="cannot be read"):
        image_paths([f"@{tmp_path}/none.txt"])


@pytest.mark.parametrize(
    "word", ["x" * 10_000, "a/" * 3_000, "a\0b", "@" + "x" * 10_000, "@a\0b", "*" + "x" * 10_000]
)
def test_a_path_that_cannot_be_is_one_sentence(word: str) -> None:
    with pytest.raises(GanpipeError):
        image_paths([word])


def test_a_list_holds_names_of_any_bytes(tmp_path: Path) -> None:
    """Only a line feed ends a line: U+0085 and U+2028 may be in a name."""
    names = [b"caf\xe9.png", "a\u2028b.png".encode(), b"\xc2\x85c.png", b"~nobody.png"]
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        path.write_bytes(b"x")
    (tmp_path / "list").write_bytes(b"\n".join(names) + b"\r\n")
    assert image_paths([f"@{tmp_path}/list"]) == paths


def test_a_missing_line_of_a_list_fails_alone(tmp_path: Path) -> None:
    save_images(tmp_path / "c", "a.png")
    (tmp_path / "list").write_text("c/gone.png\nc/a.png\n")
    contents, styles = image_paths([f"@{tmp_path}/list"]), save_images(tmp_path / "s", "x.png")
    plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", QUICK)])
    assert [Path(task.content).name for task in plan.tasks] == ["a.png"]
    assert [item.reason.split(":")[0] for item in plan.items if item.reason] == [str(tmp_path / "c/gone.png")]

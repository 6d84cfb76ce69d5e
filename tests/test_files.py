"""Files are whole or absent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.files import (
    from_utf8,
    read_json,
    replacing,
    require_room,
    sha256_of_json,
    to_utf8,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="stop"), replacing(path) as file:
        file.write(b"half")
        raise ValueError("stop")
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter: file write failed"),
        OSError("Not enough free space to write 9 bytes"),
    ],
)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(GanpipeError, match="the disk is full"), replacing(path):
        raise error
    assert read_json(path) == {"old": 1}


def test_a_folder_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(GanpipeError, match="Could not write"):
        write_json(tmp_path / "a", 1)


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(GanpipeError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_the_order_of_keys_does_not_change_a_hash() -> None:
    assert sha256_of_json({"a": 1, "b": [2]}) == sha256_of_json({"b": [2], "a": 1})
    assert sha256_of_json({"a": 1}) != sha256_of_json({"a": 2})


def test_a_name_that_is_not_utf8_survives_json(tmp_path: Path) -> None:
    value = {"caf\udce9": ["\ud800", "é \\udce9"]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "é" in (tmp_path / "x.json").read_text()
    write_text(tmp_path / "x.md", "caf\udce9")
    assert (tmp_path / "x.md").read_text() == r"caf\udce9"


@pytest.mark.parametrize("path", ["/tmp/é", "/tmp/caf\udce9 *?%41/x", "@/tmp/caf\udce9", "sample:photos"])
def test_a_path_passes_as_utf8(path: str) -> None:
    assert from_utf8(to_utf8(path)) == path
    assert to_utf8(path).encode()
    assert (to_utf8(path) == path) == ("\udce9" not in path)


def test_deep_json_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(GanpipeError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")
    with pytest.raises(GanpipeError, match="cannot be read"):
        read_json(tmp_path)


def test_a_folder_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/art"):
        with pytest.raises(GanpipeError, match="is a file, or below one; a folder is expected"):
            require_room(folder)


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    require_room(tmp_path / "new", 1000)
    with pytest.raises(GanpipeError, match=r"MiB free; about .* MiB are needed"):
        require_room(tmp_path / "new", 2**60)
    assert list((tmp_path / "new").iterdir()) == []

"""Archives: read member by member; what leads out, links, bombs and archives inside are refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ganpipe.data.ingest import add_items
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import read_manifest
from ganpipe.data.sources.registry import read_source
from ganpipe.errors import GanpipeError
from tests.conftest import fill_folder, noise_image


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise_image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def tarred(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"pets/{path.name}")
    return buffer.getvalue()


PACKERS = {
    "a.tar": bytes,
    "a.tar.gz": gzip.compress,
    "a.tgz": gzip.compress,
    "a.tar.zst": zstandard.ZstdCompressor().compress,
    "called.wrongly": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", PACKERS)
def test_every_kind_of_tar_gives_the_same_images(tmp_path: Path, name: str) -> None:
    folder = fill_folder(tmp_path / "in", 5)
    (tmp_path / name).write_bytes(PACKERS[name](tarred(folder)))
    report = add_items(tmp_path / "raw", read_source(str(tmp_path / name), tmp_path))
    assert (report.found, report.accepted) == (5, 5)
    assert {r.label for r in read_manifest(tmp_path / "raw")} == {"pets"}


def test_what_leads_out_and_archives_inside_are_refused_with_nothing_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (
            "../../out.png",
            "/abs.png",
            "C:\\evil.png",
            "..\\up.png",
            "inner.zip",
            "deep/inner.tar.gz",
            "ok.png",
        ):
            archive.writestr(name, png(1))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    report = add_items(tmp_path / "w/raw", read_source(str(tmp_path / "a.zip"), tmp_path))
    codes = {entry["file"]: entry["code"] for entry in report.quarantined}
    assert codes == {
        "../../out.png": "traversal",
        "/abs.png": "traversal",
        "C:\\evil.png": "traversal",
        "..\\up.png": "traversal",
        "inner.zip": "nested_archive",
        "deep/inner.tar.gz": "nested_archive",
        "link.png": "link",
    }
    assert (report.found, report.accepted) == (8, 1)
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip", "w"}


def test_a_zip_bomb_is_refused_unread_and_the_others_are_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bmp", b"BM" + bytes(64 * 2**20))
        archive.writestr("huge.bmp", b"BM" + bytes(300 * 2**20))
        archive.writestr("ok.png", png(1))
    report = add_items(tmp_path / "raw", read_source(str(tmp_path / "a.zip"), tmp_path))
    assert [(e["file"], e["code"]) for e in report.quarantined] == [
        ("bomb.bmp", "bomb"),
        ("huge.bmp", "too_large"),
    ]
    assert report.accepted == 1


def test_a_tar_that_unpacks_to_far_more_than_it_is_stops_the_addition(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for k in range(3):
            info = tarfile.TarInfo(f"{k}.bmp")
            info.size = 32 * 2**20
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    with pytest.raises(GanpipeError, match="unpacks to more than 200 times its size"):
        add_items(tmp_path / "raw", read_source(str(tmp_path / "a.tar.gz"), tmp_path))
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("pack", "share"),
    [(bytes, 0.5), (bytes, 0.95), *((gzip.compress, share) for share in (0.1, 0.5, 0.8, 0.95))],
)
def test_a_cut_archive_is_one_sentence_and_changes_nothing(
    tmp_path: Path, share: float, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(tarred(fill_folder(tmp_path / "in", 3))[: -10240 + 4096])
    (tmp_path / "a.tar.gz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(GanpipeError, match="damaged archive"):
        add_items(tmp_path / "raw", read_source(str(tmp_path / "a.tar.gz"), tmp_path))
    assert not (tmp_path / "raw").exists()


def test_an_archive_that_was_read_before_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganpipe.data.sources.items.SETTLED_NS", 0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for k in range(4):
            archive.writestr(f"{k}.png", png(k))
    with InspectionCache(tmp_path / "ledger") as cache:
        for read in (4, 0):
            report = add_items(tmp_path / "raw", read_source(str(tmp_path / "a.zip"), tmp_path), cache=cache)
            assert (report.found, report.read) == (4, read)


def test_a_zip_whose_names_are_not_what_it_says_is_one_sentence(tmp_path: Path) -> None:
    """Marked as UTF-8, and not UTF-8: zipfile raises UnicodeDecodeError."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.png", png(1))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(GanpipeError, match="damaged archive"):
        list(read_source(str(path), tmp_path))

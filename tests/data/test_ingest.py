"""Datasets: every file is accounted for, nothing is ruined, a kill leaves the old or the new."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.data.ingest import AddReport, IngestPolicy, add_items
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import Record, is_held_out, read_manifest, split_records
from ganpipe.data.prepare import prepare
from ganpipe.data.raw_store import find_damaged, remove_empty_folders, sweep
from ganpipe.data.shards import load_prepared
from ganpipe.data.sources.registry import read_source
from ganpipe.errors import GanpipeError
from ganpipe.samples.flowers import IMAGES, MODES, draw_flower, mode_of
from ganpipe.settings.schema import DataSettings
from tests.conftest import fill_folder, noise_image

SMALL = DataSettings(height_px=16, width_px=16)


def add(source: Path | str, raw: Path) -> AddReport:
    """Adds and checks the sum that always holds."""
    scratch = raw.parent / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    report = add_items(raw, read_source(str(source), scratch))
    assert report.found == report.accepted + len(report.quarantined) + report.duplicates
    return report


def test_every_file_of_a_messy_folder_is_accounted_for(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "in" / "deep", 5)
    (folder / "copy of 0 (é ☺).png").write_bytes((folder / "000.png").read_bytes())
    (folder / "note.txt").write_text("hello")
    (folder / "empty.jpg").touch()
    (folder / "half.png").write_bytes((folder / "001.png").read_bytes()[:700])
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(b"junk")
    report = add(tmp_path / "in", tmp_path / "raw")
    assert (report.found, report.accepted, report.duplicates) == (12, 5, 1)
    reasons = {entry["file"]: entry["reason"].split(":")[0] for entry in report.quarantined}
    assert reasons == {
        "deep/note.txt": "not_an_image",
        "deep/empty.jpg": "empty",
        "deep/half.png": "damaged",
        "deep/dangling.png": "dangling_link",
        "deep/pipe.png": "not_a_file",
        "deep/\\xff\\xfe.png": "not_an_image",
    }
    assert {r.label for r in read_manifest(tmp_path / "raw")} == {"deep"}


def test_adding_the_same_again_changes_nothing(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "in", 4)
    add(folder, tmp_path / "raw")
    before = (tmp_path / "raw/manifest.jsonl").read_bytes()
    report = add(folder, tmp_path / "raw")
    assert (report.accepted, report.duplicates) == (0, 4)
    assert (tmp_path / "raw/manifest.jsonl").read_bytes() == before


def test_adding_more_moves_no_image_between_the_splits(tmp_path: Path) -> None:
    add(fill_folder(tmp_path / "in", 60), tmp_path / "raw")
    _, held_out = split_records(read_manifest(tmp_path / "raw"), 0.25)
    add(fill_folder(tmp_path / "in", 120), tmp_path / "raw")
    _, later = split_records(read_manifest(tmp_path / "raw"), 0.25)
    assert {r.sha256 for r in held_out} < {r.sha256 for r in later}


def test_a_folder_without_images_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(GanpipeError, match="No image was found"):
        add(tmp_path / "in", tmp_path / "raw")
    (tmp_path / "in/a.txt").write_text("x")
    with pytest.raises(GanpipeError, match="not_an_image"):
        add(tmp_path / "in", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "spec", ["/no/such/folder", "sample:roses", "sklearn:faces", "torchvision:NoSuchSet"]
)
def test_a_source_that_is_not_there_is_one_sentence(tmp_path: Path, spec: str) -> None:
    with pytest.raises(GanpipeError):
        list(read_source(spec, tmp_path))


def test_zip_and_tar_give_what_the_folder_gives(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "in", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z, tarfile.open(tmp_path / "a.tar.gz", "w:gz") as t:
        for path in folder.iterdir():
            z.write(path, path.name)
            t.add(path, path.name)
    hashes = set()
    for source in ("in", "a.zip", "a.tar.gz"):
        add(tmp_path / source, tmp_path / f"raw-{source}")
        hashes.add(frozenset(r.sha256 for r in read_manifest(tmp_path / f"raw-{source}")))
    assert len(hashes) == 1


def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path) -> None:
    good = io.BytesIO()
    noise_image(0).save(good, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("../../escaped.png", "/absolute.png", "good.png"):
            info = tarfile.TarInfo(name)
            info.size = len(good.getvalue())
            archive.addfile(info, io.BytesIO(good.getvalue()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    report = add(tmp_path / "a.tar", tmp_path / "w/x/raw")
    assert (report.found, report.accepted, report.duplicates) == (4, 1, 0)
    assert [entry["code"] for entry in report.quarantined] == ["traversal", "traversal", "link"]
    assert not list(tmp_path.rglob("escaped.png"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(GanpipeError):
        list(read_source(str(tmp_path / name), tmp_path))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_keep_their_pixels_labels_and_test_split(tmp_path: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for split, count in (("train", 6), ("t10k", 3)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (count, 28, 28), np.uint8)),
            ("labels-idx1", np.arange(count, dtype=np.uint8)),
        ):
            data = idx(array)
            name = f"{split}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(data) if packed else data)
    report = add(folder, tmp_path / "raw")
    assert report.accepted == 9
    train, held_out = split_records(read_manifest(tmp_path / "raw"), 0.1)
    assert ([r.label for r in train], len(held_out)) == (["0", "1", "2", "3", "4", "5"], 3)


def test_a_short_idx_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 28, 28), np.uint8))[:-5])
    with pytest.raises(GanpipeError, match="damaged IDX"):
        list(read_source(str(tmp_path), tmp_path))


def test_digits_come_with_their_labels(tmp_path: Path) -> None:
    report = add("sklearn:digits", tmp_path / "raw")
    assert report.found == 1797
    meta = prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    assert (meta["channels"], meta["label_names"]) == (1, [str(k) for k in range(10)])


def test_prepared_shards_hold_the_images_themselves(tmp_path: Path) -> None:
    """16×16 images need no resizing, so that what is trained on is what was given, bit for bit."""
    folder = tmp_path / "in"
    folder.mkdir()
    images = [np.asarray(noise_image(k, (16, 16))) for k in range(8)]
    for k, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{k}.png")
    add(folder, tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    data = load_prepared(tmp_path / "out", "v")
    both = torch.cat([data.train.pixels, data.holdout.pixels]).numpy()
    assert {p.tobytes() for p in both} == {p.tobytes() for p in images}
    assert len(data.holdout) >= 1


def test_a_damaged_shard_is_found_before_training(tmp_path: Path) -> None:
    add(fill_folder(tmp_path / "in", 6), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    shard = next((tmp_path / "out").glob("train-00000-*.npy"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(GanpipeError, match="is damaged"):
        load_prepared(tmp_path / "out", "v")


def test_verify_names_the_file_whose_bytes_changed(tmp_path: Path) -> None:
    add(fill_folder(tmp_path / "in", 6), tmp_path / "raw")
    assert find_damaged(tmp_path / "raw") == []
    victim = read_manifest(tmp_path / "raw")[2]
    (tmp_path / "raw" / victim.file).write_bytes(b"other")
    assert find_damaged(tmp_path / "raw") == [victim]


def test_an_addition_that_was_killed_leaves_no_orphan(tmp_path: Path) -> None:
    """Images written without a manifest are swept before the next version: the same bytes as with no kill."""
    folder = fill_folder(tmp_path / "in", 4)
    add(fill_folder(tmp_path / "more", 6), tmp_path / "raw")  # 004.png and 005.png are the orphans
    (tmp_path / "raw/manifest.jsonl").unlink()
    (tmp_path / "raw/.manifest.jsonl.x1_y.tmp").write_text("half")
    add(folder, tmp_path / "raw")
    assert sweep(tmp_path / "raw", read_manifest(tmp_path / "raw"), tmp_path / "aside") == []
    remove_empty_folders(tmp_path / "raw")
    add(folder, tmp_path / "clean")
    listed = [
        sorted(str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*") if p.is_file())
        for n in ("raw", "clean")
    ]
    assert listed[0] == listed[1]


def test_too_few_images_to_train_is_one_sentence(tmp_path: Path) -> None:
    add(fill_folder(tmp_path / "in", 1), tmp_path / "raw")
    with pytest.raises(GanpipeError, match="at least 2 are needed"):
        prepare(tmp_path / "raw", tmp_path / "out", SMALL)


def test_two_images_are_split_one_and_one() -> None:
    records = [Record(f"{k}" * 64, f"{k}", f"{k}") for k in "ab"]
    train, held_out = split_records(records, 0.1)
    assert (len(train), len(held_out)) == (1, 1)


def test_the_held_out_share_is_what_was_asked_for() -> None:
    import hashlib

    records = [Record(hashlib.sha256(bytes([k % 256, k // 256])).hexdigest(), "", "") for k in range(4000)]
    share = sum(is_held_out(r, 0.1) for r in records) / len(records)
    assert 0.08 < share < 0.12


def test_a_flower_is_a_function_of_seed_and_index() -> None:
    first, again, other = draw_flower(7), draw_flower(7), draw_flower(7 + len(MODES))
    assert first.tobytes() == again.tobytes()
    assert mode_of(7) == mode_of(7 + len(MODES))
    assert first.tobytes() != other.tobytes()


def test_all_modes_of_the_flowers_are_equally_frequent() -> None:
    assert len(MODES) == 36
    assert IMAGES % len(MODES) == 0


def test_images_beside_an_idx_file_are_counted_too(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "in", 4)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 8, 8), np.uint8)))
    (folder / "idx-images-ubyte.png").write_bytes((folder / "000.png").read_bytes())
    report = add(folder, tmp_path / "raw")
    assert (report.found, report.accepted, report.duplicates) == (7, 5, 2)


def test_a_folder_whose_name_is_not_utf8_is_a_label_that_any_program_reads(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff cats"))
    folder.mkdir(parents=True)
    for k in range(3):
        noise_image(k).save(folder / f"{k}.png")
    add(tmp_path / "in", tmp_path / "raw")
    assert {r.label for r in read_manifest(tmp_path / "raw")} == {"\\xff cats"}
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["label_names"] == ["\\xff cats"]


def test_very_deep_folders_are_walked(tmp_path: Path) -> None:
    deep = tmp_path / "in" / "/".join("d" * 400)
    deep.mkdir(parents=True)
    noise_image(0).save(deep / "a.png")
    assert add(tmp_path / "in", tmp_path / "raw").accepted == 1


def test_a_panorama_of_a_hundred_megapixels_is_taken_and_prepared(tmp_path: Path) -> None:
    """Halves of one brightness each."""
    (tmp_path / "in").mkdir()
    for k in range(2):
        image = Image.new("RGB", (20_000, 5_000), (200, 180, 40 + 9 * k))
        image.paste((20, 40, 60), (0, 2_500, 20_000, 5_000))
        image.save(tmp_path / f"in/{k}.jpg")
    items = read_source(str(tmp_path / "in"), tmp_path / "scratch")
    assert add_items(tmp_path / "raw", items).accepted == 2
    settings = DataSettings(height_px=16, width_px=16, fit="cover-many", holdout_fraction=0.0)
    prepare(tmp_path / "raw", tmp_path / "out", settings)
    pixels = load_prepared(tmp_path / "out", "v").train.pixels.numpy().astype(int)
    assert len(pixels) == 2 * 4
    assert np.abs(pixels[:, 2] - (200, 180, 45)).max() <= 8
    assert np.abs(pixels[:, -2] - (20, 40, 60)).max() <= 8


def test_the_limit_of_megapixels_is_a_setting_and_may_be_raised_later(tmp_path: Path) -> None:
    """The verdict of a lower limit is not remembered."""
    fill_folder(tmp_path / "in", 2)
    Image.new("L", (1200, 1000), 7).save(tmp_path / "in/large.png")
    with InspectionCache(tmp_path / "cache.db") as cache:
        for limit, accepted in ((1, 2), (2, 1)):
            items = read_source(str(tmp_path / "in"), tmp_path)
            report = add_items(
                tmp_path / "raw", items, cache=cache, policy=IngestPolicy(max_megapixels=limit)
            )
            assert report.accepted == accepted

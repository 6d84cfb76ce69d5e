"""Near copies: found, kept together, and dropped only where that is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image

from ganpipe.data.ingest import AddReport, IngestPolicy, add_items
from ganpipe.data.inspect import Facts, perceptual_hash
from ganpipe.data.manifest import Record, is_held_out, read_manifest, split_records
from ganpipe.data.near_duplicates import NEAR_BITS, group_near, near_pairs
from ganpipe.data.raw_store import sweep
from ganpipe.data.sources.registry import read_source
from ganpipe.samples.flowers import draw_flower
from tests.conftest import fill_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five strangers, and the photograph `china` four times: as it is, smaller, recompressed, brighter."""
    place = fill_folder(tmp_path / "in", 5)
    china = Image.fromarray(load_sample_image("china.jpg"))
    china.save(place / "china.png")
    china.resize((320, 213)).save(place / "d-smaller.png")
    china.save(place / "e-again.jpg", quality=60)
    ImageEnhance.Brightness(china).enhance(1.1).save(place / "f-brighter.png")
    return place


def add(folder: Path, raw: Path, policy: IngestPolicy | None = None) -> AddReport:
    return add_items(raw, read_source(str(folder), raw.parent / "scratch"), policy=policy or IngestPolicy())


def test_near_copies_form_a_group_on_one_side_of_the_split(folder: Path, tmp_path: Path) -> None:
    report = add(folder, tmp_path / "raw")
    assert (report.accepted, report.near_duplicates, report.duplicates) == (9, 3, 0)
    assert report.near_groups == [["china.png", "d-smaller.png", "e-again.jpg", "f-brighter.png"]]
    records = [r for r in read_manifest(tmp_path / "raw") if r.group]
    for fraction in (0.1, 0.3, 0.5, 0.7):
        assert len({is_held_out(r, fraction) for r in records}) == 1


def test_near_copies_are_dropped_on_request_and_counted(folder: Path, tmp_path: Path) -> None:
    report = add(folder, tmp_path / "raw", IngestPolicy(drop_near=True))
    assert (report.found, report.accepted, report.duplicates) == (9, 6, 3)
    assert "d-smaller.png" not in {r.name for r in read_manifest(tmp_path / "raw")}
    assert sweep(tmp_path / "raw", read_manifest(tmp_path / "raw"), tmp_path / "aside") == []
    assert len([p for p in (tmp_path / "raw/files").rglob("*") if p.is_file()]) == 6


def test_a_copy_that_comes_later_joins_its_original_and_moves_nobody(folder: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    late.mkdir()
    (folder / "d-smaller.png").rename(late / "smaller.png")
    add(folder, tmp_path / "raw")
    before = {r.sha256: is_held_out(r, 0.5) for r in read_manifest(tmp_path / "raw")}
    add(late, tmp_path / "raw")
    after = {r.sha256: is_held_out(r, 0.5) for r in read_manifest(tmp_path / "raw")}
    assert {k: after[k] for k in before} == before
    records = {r.name: r for r in read_manifest(tmp_path / "raw")}
    assert records["smaller.png"].group == records["china.png"].group is not None


def pairs_of(hashes: np.ndarray, first_new: int = 0) -> list[list[int]]:
    is_new = np.arange(len(hashes)) >= first_new
    return [pair for block in near_pairs(hashes, is_new) for pair in block.tolist()]


def test_strangers_are_no_copies() -> None:
    """Flowers of one kind look alike and are 4,320 different images; random images differ in half their bits."""
    flowers = [perceptual_hash(draw_flower(36 * k).convert("L")) for k in range(40)]
    hashes = np.frombuffer(b"".join(flowers), np.uint8).reshape(40, 32)
    assert pairs_of(hashes) == []


def test_pairs_are_those_that_differ_in_few_bits() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (50, 32), np.uint8)
    bits = np.unpackbits(hashes[7])
    for place, flips in ((20, NEAR_BITS), (30, NEAR_BITS + 1)):
        changed = bits.copy()
        changed[rng.permutation(256)[:flips]] ^= 1
        hashes[place] = np.packbits(changed)
    assert pairs_of(hashes) == [[20, 7]]
    assert pairs_of(hashes, first_new=21) == []
    assert pairs_of(hashes, first_new=8) == [[20, 7]]


def test_images_of_one_color_are_no_copies_of_each_other(tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for k in range(4):
        Image.new("RGB", (32, 32), (60 * k, 20, 90)).save(place / f"{k}.png")
    assert add(place, tmp_path / "raw").near_duplicates == 0


def test_both_sides_of_a_split_get_whole_groups() -> None:
    records = [Record(f"{k:02x}" * 32, str(k), "", group="ff" * 32) for k in range(4)]
    records.append(Record("fe" * 32, "alone", ""))
    train, holdout = split_records(records, 0.01)
    assert sorted([len(train), len(holdout)]) == [1, 4]
    assert replace(records[0], group=None) != records[0]


def record(name: str, group: str | None = None, holdout: bool | None = None) -> Record:
    return Record(hashlib.sha256(name.encode()).hexdigest(), name, "", group=group, holdout=holdout)


def looks(*same: str) -> Facts:
    """Facts of images that look alike where the words are equal."""
    return Facts(9, 9, 3, False, 0.5, 9.0, hashlib.sha256(" ".join(same).encode()).digest())


def test_a_replacement_that_sorts_before_its_original_does_not_lead_the_group() -> None:
    old, new = record("b"), record("a")
    facts = {old.sha256: looks("cat"), new.sha256: looks("cat")}
    grouped = group_near([new, old], facts, settled=[1]).records
    assert {r.group for r in grouped} == {old.sha256}


def test_a_still_camera_makes_one_group_without_a_pair_for_every_two() -> None:
    records = [record(str(k)) for k in range(5000)]
    facts = {r.sha256: looks("the same yard") for r in records}
    groups = group_near(records, facts)
    assert len(groups.repeats) == 4999
    assert {r.group for r in groups.records} == {records[0].sha256}


def test_links_count_over_several_images() -> None:
    """A near B, B near C: one group, though A and C differ in more bits."""
    bits = np.unpackbits(np.frombuffer(looks("a").phash, np.uint8))
    records, facts = [record(name) for name in "abc"], {}
    for step, r in enumerate(records):
        changed = bits.copy()
        changed[: step * NEAR_BITS] ^= 1
        facts[r.sha256] = replace(looks("a"), phash=np.packbits(changed).tobytes())
    assert {r.group for r in group_near(records, facts).records} == {records[0].sha256}


def test_a_group_that_reaches_into_a_sources_own_test_split_is_held_out_whole() -> None:
    records = [
        record("t", "ab" * 32, True),
        record("u", "ab" * 32),
        record("v", "ab" * 32, False),
        record("w", None, False),
    ]
    train, holdout = split_records(records, 0.1)
    assert ([r.name for r in train], [r.name for r in holdout]) == (["w"], ["t", "u", "v"])

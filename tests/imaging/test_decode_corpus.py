"""A few hundred kinds of bad and odd file: none crashes or hangs the addition, none is dropped, none is ruined."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from ganpipe.data.ingest import AddReport, IngestPolicy, add_items, printable
from ganpipe.data.manifest import Record, read_manifest
from ganpipe.data.raw_store import RawImages
from ganpipe.data.sources.registry import read_source
from ganpipe.imaging.decode import over_white, pixels_of
from tests.imaging.corpus import Case, cases

CASES = [case for case in cases() if not (case.root_reads_it and os.geteuid() == 0)]


@dataclass(frozen=True)
class Taken:
    """The corpus after `data add`."""

    report: AddReport
    records: dict[str, Record]
    images: RawImages


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    """One folder with every file of the corpus, added as it is."""
    place = tmp_path_factory.mktemp("corpus")
    folder = place / "in"
    folder.mkdir()
    for case in CASES:
        case.make(folder / os.fsdecode(case.file))
    report = add_items(
        place / "raw", read_source(str(folder), place / "scratch"), policy=IngestPolicy(min_edge_px=1)
    )
    records = {record.name: record for record in read_manifest(place / "raw")}
    return Taken(report, records, RawImages(place / "raw"))


def test_every_file_is_accounted_for(taken: Taken) -> None:
    report = taken.report
    assert report.found == len(CASES) == report.accepted + len(report.quarantined) + report.duplicates
    assert len(CASES) > 300


def name_of(case: Case) -> str:
    return printable(os.fsdecode(case.file))


@pytest.mark.parametrize("case", [c for c in CASES if c.code is not None], ids=lambda case: case.name)
def test_what_cannot_be_an_image_is_refused_with_its_reason(taken: Taken, case: Case) -> None:
    codes = {entry["file"]: entry["code"] for entry in taken.report.quarantined}
    assert case.code is not None
    assert codes.get(name_of(case), "taken") in case.code


@pytest.mark.parametrize("case", [c for c in CASES if c.code is None], ids=lambda case: case.name)
def test_what_is_an_image_is_taken_and_looks_as_it_should(taken: Taken, case: Case) -> None:
    copies = [group[0] for group in taken.report.duplicate_groups if name_of(case) in group]
    reasons = {entry["file"]: entry["reason"] for entry in taken.report.quarantined}
    record = taken.records.get(copies[0] if copies else name_of(case))
    assert record is not None, reasons[name_of(case)]
    seen = np.asarray(over_white(taken.images.decode(record)).convert("RGB"), dtype=np.int16)
    if case.expected is not None:
        wanted = case.expected().astype(np.int16)
        assert seen.shape == wanted.shape
        assert np.abs(seen - wanted).max() <= case.tolerance


def test_pixels_are_the_same_bits_whichever_decoder_gives_them(taken: Taken) -> None:
    for record in taken.records.values():
        wanted = pixels_of(taken.images.decode(record))
        found = taken.images.pixels(record, lambda width, height: 1)
        assert np.array_equal(found, wanted), record.name


def test_a_jpeg_that_its_decoder_divides_is_the_same_bits_too(taken: Taken) -> None:
    jpegs = [r for r in taken.records.values() if r.file.endswith(".jpg")]
    assert len(jpegs) > 20
    for record, by in itertools.product(jpegs, (2, 4, 8)):
        divide = partial(lambda by, width, height: by if min(width, height) >= by else 1, by)
        wanted = pixels_of(taken.images.decode(record, divide))
        assert np.array_equal(taken.images.pixels(record, divide), wanted), record.name

"""Edited images replace what their files held before; what is gone from a source goes only from its mirror."""

from __future__ import annotations

import hashlib

import pytest

from ganpipe.data.manifest import Record, is_held_out
from ganpipe.data.source_listing import SourceListing, settle_replacement


def record(name: str, content: str, group: str | None = None, label: str | None = None) -> Record:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Record(sha256, name, f"files/{sha256[:2]}/{sha256}.png", None, label, None, group)


def listed(records: list[Record]) -> dict[str, list[str]]:
    return {r.name: [r.sha256[:16]] for r in records}


def add(
    before: list[Record],
    source: dict[str, str],
    history: dict[str, list[str]],
    mirror: bool = False,
    others: tuple[Record, ...] = (),
) -> tuple[list[Record], SourceListing]:
    """The dataset after the files of `source` (contents by name) were added; as `ingest` does it."""
    listing = SourceListing(history, {r.sha256[:16] for r in others}, mirror)
    found = [record(name, content) for name, content in source.items()]
    for r in found:
        listing.note(r.name, r.sha256, None)
    known = {r.sha256 for r in before}
    new = list({r.sha256: r for r in found if r.sha256 not in known}.values())
    return listing.settle([*before, *new], len(before)).records, listing


def brief(records: list[Record]) -> list[tuple[str, str]]:
    return [(r.name, r.sha256[:6]) for r in records]


A1, A2, B1, C1 = record("a", "one"), record("a", "two"), record("b", "bee"), record("c", "sea")


def test_an_edited_image_takes_the_place_and_the_side_of_the_earlier_one() -> None:
    records, _ = add([A1, B1], {"a": "two", "b": "bee"}, listed([A1, B1]))
    assert brief(records) == brief([A2, B1])
    for fraction in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert is_held_out(records[0], fraction) == is_held_out(A1, fraction)


def test_an_edit_that_is_undone_leaves_no_trace() -> None:
    edited, listing = add([A1, B1], {"a": "two", "b": "bee"}, listed([A1, B1]))
    again, _ = add(edited, {"a": "one", "b": "bee"}, listing.next_history())
    assert again == [A1, B1]


def test_an_image_of_another_source_with_the_same_name_stays() -> None:
    records, _ = add([A1], {"a": "two"}, {})
    assert brief(records) == brief([A1, A2])


def test_bytes_that_another_file_or_source_still_has_stay() -> None:
    before, history = [A1], {"a": [A1.sha256[:16]], "copy": [A1.sha256[:16]]}
    records, _ = add(before, {"a": "two", "copy": "one"}, history)
    assert brief(records) == [("copy", A1.sha256[:6]), ("a", A2.sha256[:6])]
    records, _ = add(before, {"a": "two"}, listed(before), others=(A1,))
    assert brief(records) == brief([A1, A2])


def test_two_files_that_change_places_change_names_alone() -> None:
    records, _ = add([A1, B1], {"a": "bee", "b": "one"}, listed([A1, B1]))
    assert brief(records) == [("b", A1.sha256[:6]), ("a", B1.sha256[:6])]


def test_a_file_that_becomes_a_copy_of_another_is_gone() -> None:
    records, _ = add([A1, B1], {"a": "bee", "b": "bee"}, listed([A1, B1]))
    assert brief(records) == brief([B1])


@pytest.mark.parametrize("mirror", [False, True])
def test_what_is_gone_from_the_source_is_gone_from_its_mirror_alone(mirror: bool) -> None:
    records, listing = add([A1, B1, C1], {"a": "one"}, listed([A1, B1]), mirror)
    assert brief(records) == brief([A1, C1] if mirror else [A1, B1, C1])
    assert ("b" in listing.held()) is not mirror


def test_a_file_that_cannot_be_read_any_more_is_not_gone() -> None:
    listing = SourceListing(listed([A1, B1]), (), mirror=True)
    listing.note("a", A1.sha256, None)
    listing.reject("b")
    assert listing.settle([A1, B1], 2).records == [A1, B1]


def test_a_mirror_renames_what_was_moved() -> None:
    listing = SourceListing(listed([A1]), (), mirror=True)
    listing.note("cats/a", A1.sha256, "cats")
    (moved,) = listing.settle([A1], 1).records
    assert (moved.name, moved.label, moved.sha256) == ("cats/a", "cats", A1.sha256)


def test_an_earlier_version_that_was_checked_out_is_still_known_as_edited() -> None:
    _, listing = add([A1], {"a": "two"}, listed([A1]))
    records, _ = add([A1], {"a": "two"}, listing.next_history())
    assert brief(records) == brief([A2])


def test_a_replacement_keeps_an_edited_image_on_its_side() -> None:
    settled = settle_replacement([A2, C1], [A1, B1])
    assert (settled.replaced, settled.removed) == (["a"], ["b"])
    assert [r.group for r in settled.records] == [A1.sha256, None]

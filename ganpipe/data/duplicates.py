"""Pictures that are nearly the same: groups by perceptual hash, which no split may divide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ganpipe.data.inspect import PHASH_SIDE, Facts
from ganpipe.data.records import Record

BITS = PHASH_SIDE**2
NEAR_BITS = (
    24  # of 256 may differ: scaled and recompressed copies differ by up to about 14, strangers by 80 (LOG.md)
)
FLAT_SHARPNESS = (
    0.01  # pictures of one colour have a hash of rounding noise; only equal bytes make them copies
)
BLOCK = 2048


@dataclass(frozen=True)
class Groups:
    """Records with their groups, and which new ones nearly repeat an earlier one (places in the list)."""

    records: list[Record]
    repeats: list[int]


def near_pairs(hashes: npt.NDArray[np.uint8], first_new: int = 0) -> npt.NDArray[np.int64]:
    """Pairs `[P, 2]`, smaller place first, of `hashes: [N, 32]` that differ in at most NEAR_BITS; with one new at least.

    All against all, as a product of signs: a·b of ±1 vectors is BITS − 2 × the bits that differ.
    """
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    found = [np.zeros((0, 2), np.int64)]
    for start in range(first_new, len(signs), BLOCK):
        block = signs[start : start + BLOCK]
        for other in range(0, start + len(block), BLOCK):
            rows, columns = np.nonzero(block @ signs[other : other + BLOCK].T >= BITS - 2 * NEAR_BITS)
            pairs = np.stack([columns + other, rows + start], axis=1)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def group_near(records: Sequence[Record], facts: Mapping[str, Facts], first_new: int = 0) -> Groups:
    """Gives near copies among `records[first_new:]`, and of earlier ones, a common `Record.group`.

    A group is called after its first image, whose hash decides the split of all. What was there before keeps its
    group, so that an addition moves no image between the splits; a new picture near two old groups joins the older.
    """
    from scipy.sparse import coo_array  # half a second, which an addition of nothing new need not wait
    from scipy.sparse.csgraph import connected_components

    known = [k for k, r in enumerate(records) if r.row is None and _has_detail(facts.get(r.sha256))]
    grouped = list(records)
    fresh = next((place for place, k in enumerate(known) if k >= first_new), len(known))
    if fresh == len(known):
        return Groups(grouped, [])
    hashes = np.frombuffer(b"".join(facts[records[k].sha256].phash for k in known), np.uint8)
    pairs = near_pairs(hashes.reshape(len(known), -1), fresh)
    if not len(pairs):
        return Groups(grouped, [])
    size = len(known)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    components = connected_components(links, directed=False)[1]
    places = np.argsort(components, kind="stable")
    cuts = np.flatnonzero(np.diff(components[places])) + 1
    repeats: list[int] = []
    for start, end in pairwise([0, *cuts.tolist(), size]):
        members = [known[place] for place in places[start:end]]
        if len(members) == 1:
            continue
        leader = records[members[0]]
        group = leader.group or leader.sha256
        for k in members:
            if k >= first_new or k == members[0]:
                grouped[k] = replace(records[k], group=group)
        repeats += [k for k in members[1:] if k >= first_new]
    return Groups(grouped, sorted(repeats))


def _has_detail(facts: Facts | None) -> bool:
    return facts is not None and facts.sharpness > FLAT_SHARPNESS


def groups_of(records: Sequence[Record]) -> list[list[Record]]:
    """Groups of two or more, in the order of their first images."""
    by_group: dict[str, list[Record]] = {}
    for record in records:
        if record.group is not None:
            by_group.setdefault(record.group, []).append(record)
    return [members for members in by_group.values() if len(members) > 1]

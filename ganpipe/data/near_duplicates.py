"""Images that are nearly the same: groups by perceptual hash, which no split may divide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganpipe.data.inspect import PHASH_SIDE, Facts
from ganpipe.data.manifest import Record

BITS = PHASH_SIDE**2
NEAR_BITS = (
    24  # of 256 may differ: scaled and recompressed copies differ by up to about 14, strangers by 80 (LOG.md)
)
FLAT_SHARPNESS = 0.01  # images of one color have a hash of rounding noise; only equal bytes make them copies
BLOCK = 2048


@dataclass(frozen=True)
class NearDuplicates:
    """Records with their groups, and which new ones nearly repeat an earlier one (places in the list)."""

    records: list[Record]
    repeats: list[int]


def near_pairs(
    hashes: npt.NDArray[np.uint8], is_new: npt.NDArray[np.bool_]
) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs `[P, 2]`, larger place first, of `hashes: [N, 32]` that differ in at most NEAR_BITS; with one new at least.

    All against all, as a product of signs: a·b of ±1 vectors is BITS − 2 × the bits that differ. Block by block: a
    camera that stands still makes every image a copy of every other.
    """
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    for start in range(0, len(signs), BLOCK):
        block, block_new = signs[start : start + BLOCK], is_new[start : start + BLOCK]
        for other in range(0, start + len(block), BLOCK):
            other_new = is_new[other : other + BLOCK]
            if not (block_new.any() or other_new.any()):
                continue
            near = block @ signs[other : other + BLOCK].T >= BITS - 2 * NEAR_BITS
            near &= block_new[:, None] | other_new[None, :]
            rows, columns = np.nonzero(near)
            pairs = np.stack([rows + start, columns + other], axis=1)
            yield pairs[pairs[:, 0] > pairs[:, 1]]


def _components(size: int, blocks: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """For each of `size` places the smallest place that it is linked with, over any number of links."""
    from scipy.sparse import coo_array  # half a second, which an addition of nothing new need not wait
    from scipy.sparse.csgraph import connected_components

    first = np.arange(size)
    for pairs in blocks:
        if len(pairs):
            ends = np.concatenate([pairs, np.stack([np.arange(size), first], axis=1)])
            links = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
            labels = connected_components(links, directed=False)[1]
            smallest = np.full(labels.max() + 1, size)
            np.minimum.at(smallest, labels, np.arange(size))
            first = smallest[labels]
    return first


def group_near(
    records: Sequence[Record], facts: Mapping[str, Facts], settled: Collection[int] = ()
) -> NearDuplicates:
    """Gives near copies a common `Record.group`; `settled`: the places of images that were there before.

    A group is called after its first image, settled ones first, and that one's hash decides the split of all. What is
    settled keeps its group, so that no image moves between the splits; a new image near two old groups joins the
    older. Links count over any number of images: A near B and B near C puts A and C in one group.
    """
    old = set(settled)
    known = [k for k, r in enumerate(records) if r.row is None and _has_detail(facts.get(r.sha256))]
    grouped = list(records)
    is_new = np.array([k not in old for k in known], dtype=bool)
    if not is_new.any():
        return NearDuplicates(grouped, [])
    hashes = np.frombuffer(b"".join(facts[records[k].sha256].phash for k in known), np.uint8)
    first = _components(len(known), near_pairs(hashes.reshape(len(known), -1), is_new))
    members_of: dict[int, list[int]] = {}
    for place, head in enumerate(first.tolist()):
        members_of.setdefault(head, []).append(known[place])
    repeats: list[int] = []
    for members in members_of.values():
        if len(members) == 1:
            continue
        leader = next((k for k in members if k in old), members[0])
        group = records[leader].group or records[leader].sha256
        for k in members:
            if k not in old or k == leader:
                grouped[k] = replace(records[k], group=group)
        repeats += [k for k in members if k not in old and k != leader]
    return NearDuplicates(grouped, sorted(repeats))


def _has_detail(facts: Facts | None) -> bool:
    return facts is not None and facts.sharpness > FLAT_SHARPNESS


def groups_of(records: Sequence[Record]) -> list[list[Record]]:
    """Groups of two or more, in the order of their first images."""
    by_group: dict[str, list[Record]] = {}
    for record in records:
        if record.group is not None:
            by_group.setdefault(record.group, []).append(record)
    return [members for members in by_group.values() if len(members) > 1]

"""Groups near duplicates by perceptual hash; a split keeps each group together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganpipe.data.inspect import PHASH_SIDE, Facts
from ganpipe.data.manifest import Record

BITS = PHASH_SIDE**2
NEAR_BITS = 24  # of 256 may differ: scaled and recompressed copies differ by up to about 14, unrelated images by 80 (LOG.md)
FLAT_SHARPNESS = 0.01  # the hash of a uniform image is rounding noise, so only equal bytes make it a copy
BLOCK = 2048


@dataclass(frozen=True)
class NearDuplicates:
    """Records with their groups, and the indices of new records that nearly repeat an earlier one."""

    records: list[Record]
    repeats: list[int]


def near_pairs(
    hashes: npt.NDArray[np.uint8], is_new: npt.NDArray[np.bool_]
) -> Iterator[npt.NDArray[np.int64]]:
    """Index pairs `[P, 2]`, larger first, of `hashes: [N, 32]` that differ in at most NEAR_BITS and of which one is new.

    Compares all pairs as a product of signs: a·b of ±1 vectors is BITS − 2 × the differing bits. Yields block by
    block, as in images of a fixed camera every pair is near.
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
    """For each of `size` indices, the smallest index that it is linked to over any number of links."""
    from scipy.sparse import coo_array  # takes half a second, needed only for new images
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
    """Gives near duplicates a common `Record.group`; `settled`: indices of images that were in the dataset before.

    A group is named after its first image, settled ones first, whose hash decides the split of all. Settled images
    keep their group, so that no image moves between the splits; a new image near two old groups joins the older.
    Links count over any number of images: A near B and B near C puts A and C in one group.
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

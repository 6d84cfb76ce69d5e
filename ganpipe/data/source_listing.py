"""The images that a source held by name, last time and now: by it an edited image is told from a new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ganpipe.data.manifest import Record

HASH_CHARACTERS = 16  # of a SHA-256: enough to tell the images of one dataset apart


@dataclass(frozen=True)
class Settled:
    """The records of a dataset after an addition.

    `successors`: hashes of images that came in place of others. `replaced`, `removed`: names of images that are gone
    because their file holds another image now, or, of a mirror, because it is no longer there.
    """

    records: list[Record]
    successors: set[str]
    replaced: list[str]
    removed: list[str]


@dataclass
class SourceListing:
    """One source: `history` has, by name, the hashes that each file has had, the present one last; "" if it is gone.

    `others`: hashes that other sources hold. `mirror`: what is no longer in the source is to go.
    """

    history: Mapping[str, Sequence[str]] = field(default_factory=dict)
    others: Collection[str] = ()
    mirror: bool = False
    now: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str | None] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)

    def note(self, name: str, sha256: str, label: str | None) -> None:
        """Notes an image of the source."""
        self.now[name], self.labels[name] = _short(sha256), label

    def reject(self, name: str) -> None:
        """Notes a file that is there and cannot be used: it replaces nothing, and is not gone."""
        self.rejected.add(name)

    def held(self) -> dict[str, str]:
        """Names and hashes of what the source holds, after this addition."""
        earlier = present(self.history)
        return {n: h for n, h in earlier.items() if not self.mirror or self._is_rejected(n)} | self.now

    def _is_rejected(self, name: str) -> bool:
        """Whether a file, or the folder or archive that it lies in, is there and could not be used."""
        places = (name, *map(str, PurePosixPath(name).parents))
        return not self.rejected.isdisjoint(places)

    def next_history(self) -> dict[str, list[str]]:
        """The history to keep for the next addition."""
        held = self.held()
        names = dict.fromkeys([*self.history, *held])
        return {n: _appended(self.history.get(n, ()), held.get(n, "")) for n in names}

    def settle(self, records: Sequence[Record], first_new: int) -> Settled:
        """Puts edited images in place of what their files held before; `records` from `first_new` on are new.

        An edited image keeps the place and, through its group, the side of the split. An image that the source still
        has under another name, or another source has, stays.
        """
        held = self.held()
        name_of = {sha256: name for name, sha256 in reversed(held.items())}
        new_at = {_short(r.sha256): k for k, r in enumerate(records) if k >= first_new}
        result, gone, found = list(records), set[int](), Settled([], set(), [], [])
        for k, record in enumerate(records[:first_new]):
            sha256 = _short(record.sha256)
            if sha256 not in self.history.get(record.name, ()) or held.get(record.name) == sha256:
                continue
            if name := name_of.get(sha256):
                result[k] = replace(record, name=name, label=self.labels.get(name, record.label))
            elif sha256 not in self.others:
                (found.replaced if record.name in held else found.removed).append(record.name)
                at = new_at.pop(held.get(record.name, ""), k)
                gone.add(at)
                if at != k:
                    result[k] = succeed(record, records[at])
                    found.successors.add(result[k].sha256)
        kept = [r for k, r in enumerate(result) if k not in gone]
        return replace(found, records=without_lone_groups(kept, found.successors))


def settle_replacement(records: Sequence[Record], before: Sequence[Record]) -> Settled:
    """The same for a dataset that holds these records instead of those `before`."""
    stays, old = {r.sha256 for r in records}, {r.name: r for r in before}
    known = {r.sha256 for r in before}
    edited = {
        r.sha256: old[r.name]
        for r in records
        if r.sha256 not in known and r.name in old and old[r.name].sha256 not in stays
    }
    result = [succeed(edited[r.sha256], r) if r.sha256 in edited else r for r in records]
    replaced = [r.name for r in edited.values()]
    gone = {r.sha256 for r in edited.values()} | stays
    removed = [r.name for r in before if r.sha256 not in gone]
    return Settled(without_lone_groups(result, set(edited)), set(edited), replaced, removed)


def succeed(old: Record, new: Record) -> Record:
    """The record of an image that comes in place of another: in its group, therefore on its side of the split."""
    label = old.label if new.label is None else new.label
    return replace(new, label=label, group=old.group or old.sha256)


def without_lone_groups(records: list[Record], successors: Collection[str]) -> list[Record]:
    """The same, without groups that are named after their only image: an edit that was undone leaves no trace."""
    sizes = Counter(r.group for r in records)
    return [
        replace(r, group=None)
        if r.sha256 in successors and r.group == r.sha256 and sizes[r.group] == 1
        else r
        for r in records
    ]


def _short(sha256: str) -> str:
    return sha256[:HASH_CHARACTERS]


def present(history: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Names and hashes of what a source held when it was last added."""
    return {name: hashes[-1] for name, hashes in history.items() if hashes and hashes[-1]}


def _appended(hashes: Sequence[str], now: str) -> list[str]:
    return [*(h for h in hashes if h != now), now]

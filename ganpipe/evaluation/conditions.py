"""The conditions of an evaluation. Scores are compared only if they are equal. Imports nothing heavy: records hold them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from ganpipe.files import sha256_of_json


@dataclass(frozen=True)
class Conditions:
    """Everything that scores depend on besides the generated images.

    `extractor_sha256`: of its weights. `version`: of the dataset. `held_out_sha256`: of the pixels of the held-out images
    that were measured, which depend on the split and the preparation, too.
    """

    extractor: str
    extractor_sha256: str
    resize: str
    neighbors: int
    generated: int
    held_out: int
    held_out_sha256: str
    version: str

    @property
    def id(self) -> str:
        """The first 12 digits of the SHA-256 of all of it: equal for evaluations that may be compared."""
        return sha256_of_json(asdict(self))[:12]

    def __str__(self) -> str:
        return (
            f"{self.extractor} {self.extractor_sha256[:12]}; {self.resize}; {self.generated:,} generated and "
            f"{self.held_out:,} held-out images of version {self.version[:12]}; k = {self.neighbors}"
        )


def find_difference(a: Conditions | None, b: Conditions | None) -> str | None:
    """Why scores measured under `a` and under `b` cannot be compared, in a sentence; None if they can."""
    if a is None or b is None:
        return "They cannot be compared: one does not say how it was measured."
    pairs = [(f.name, getattr(a, f.name), getattr(b, f.name)) for f in fields(Conditions)]
    found = [f"{name} {_short(x)} and {_short(y)}" for name, x, y in pairs if x != y]
    return f"They cannot be compared: {'; '.join(found)}." if found else None


def _short(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value[:60]

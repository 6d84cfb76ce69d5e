"""The anchor of a dataset: held-out images of its first version, the same in every later one.

An image never changes sides (data/manifest), so models of all versions can be compared on the anchor, by a score and by eye.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganpipe.data.shards import PreparedData


def anchor_rows(data: PreparedData) -> Tensor:
    """Rows of `data.holdout` that the first version held out, too, in the order of their hashes.

    All rows if the first version is not known, or if none of its held-out images is left.
    """
    rows = _rows_by_key(data)
    kept = [rows[key] for key in sorted(data.first_holdout_keys) if key in rows]
    return torch.tensor(kept or list(rows.values()), dtype=torch.long)


def reference_rows(data: PreparedData, count: int) -> Tensor:
    """At most `count` rows of `data.holdout` that all grids of the dataset show, in whichever version.

    They are the first of the anchor by hash. An image that is gone leaves its place to the next of the anchor, then to the
    newer held-out images; the others stay in theirs.
    """
    rows = _rows_by_key(data)
    order = [*sorted(data.first_holdout_keys), *sorted(rows.keys() - set(data.first_holdout_keys))]
    spare = (rows[key] for key in order[count:] if key in rows)
    chosen = [rows[key] if key in rows else next(spare, None) for key in order[:count]]
    return torch.tensor([row for row in chosen if row is not None], dtype=torch.long)


def _rows_by_key(data: PreparedData) -> dict[bytes, int]:
    """The row of each held-out image by its key, in the order of the keys."""
    keys = data.holdout_keys or [k.to_bytes(32, "big") for k in range(len(data.holdout))]
    return dict(sorted((key, row) for row, key in enumerate(keys)))

"""Times every peer for a few steps, with the same weights, and prints a table."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from torchvision.transforms import functional as TF

from benchmarks.style_peers.crowsonkb import POOLINGS, run_crowsonkb
from benchmarks.style_peers.gatys import run_gatys


def main() -> None:
    """Runs each peer for a few steps and prints the table."""
    from ganpipe.samples.photos import sample_photos
    from ganpipe.samples.styles import sample_styles

    parser = argparse.ArgumentParser("python -m benchmarks.style_peers", description=__doc__)
    parser.add_argument("--checkout", type=Path, help="of crowsonkb/style-transfer-pytorch")
    parser.add_argument("--steps", type=int, default=5, help="at each size")
    parser.add_argument("--edge", type=int, default=256, help="longer edge in pixels")
    parser.add_argument("--min-edge", type=int, help="smallest size of the pyramid; without it, one size")
    parser.add_argument("--pooling", default="max", choices=list(POOLINGS))
    parser.add_argument("--out", type=Path, help="folder for the images")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        content, style = sample_photos(Path(scratch))[0], sample_styles(Path(scratch))[0]
        sizes: dict[str, Any] = {"min_edge_px": given.min_edge or given.edge, "pooling": given.pooling}
        checkouts = [given.checkout, None] if given.checkout else [None]
        runs = [run_gatys(content, style, given.steps, given.edge)]
        runs += [
            run_crowsonkb(content, style, given.steps, given.edge, where, **sizes) for where in checkouts
        ]
    print(f"{'peer':<24}{'size':>9}{'s a step':>10}{'of Gatys':>10}{'total s':>9}")
    for run in runs:
        size = f"{run.picture.shape[3]}×{run.picture.shape[2]}"
        ratio = run.seconds_per_step / runs[0].seconds_per_step
        print(f"{run.name:<24}{size:>9}{run.seconds_per_step:>10.2f}{ratio:>10.2f}{run.total_s:>9.1f}")
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            TF.to_pil_image(run.picture[0]).save(
                given.out / f"{run.name.translate(str.maketrans(' ', '-', '()'))}.png"
            )


if __name__ == "__main__":
    main()

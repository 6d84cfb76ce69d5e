"""Flicker of a stylized video against the same video stylized frame by frame.

    python -m benchmarks.video [--frames N] [--long-edge-px N] [--set style.KEY=VALUE ...] [--out DIR]

The content is a pan over a sample photo, with a disc that moves in it; the style is a sample style. Frame by frame: every
frame like a photo, from its own content. Flicker: `ganpipe.style.video.flicker`. Both videos stay in --out to be looked at.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.models import describe_cpu
from ganpipe.compute.device import choose_compute
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.tensors import from_pixels, to_pixels
from ganpipe.imaging.video import encode_video
from ganpipe.imaging.video_reading import read_frames
from ganpipe.samples.photos import sample_photos
from ganpipe.samples.styles import sample_styles
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.plan import Variant, plan_batch
from ganpipe.style.batch.runner import run_batch
from ganpipe.style.optimize import resize
from ganpipe.style.video import Frame, flicker

RATE = Fraction(12)
STEP_PX = (3, 1)  # of the camera, per frame


def pan(photo: Path, frames: int, long_edge_px: int) -> list[Image.Image]:
    """Frames of 3:2 of a camera that moves over the photo, before which a disc moves."""
    width, height = long_edge_px, long_edge_px * 2 // 3 // 2 * 2
    picture = Image.open(photo).convert("RGB")
    scale = max(
        (width + STEP_PX[0] * frames) / picture.width, (height + STEP_PX[1] * frames) / picture.height
    )
    picture = picture.resize((round(picture.width * scale) + 1, round(picture.height * scale) + 1))
    shown, disc = [], height // 4
    for k in range(frames):
        x, y = (step * k for step in STEP_PX)
        frame = picture.crop((x, y, x + width, y + height))
        left = width // 8 + 2 * STEP_PX[0] * k
        ImageDraw.Draw(frame).ellipse((left, disc, left + disc, 2 * disc), fill=(220, 70, 50))
        shown.append(frame)
    return shown


def stylized(
    content: Sequence[Path], style: Path, out: Path, settings: StyleSettings
) -> tuple[list[Path], float, float]:
    """The files, the seconds, and the mean distance from the style."""
    started = time.monotonic()
    plan = plan_batch(content, [style], out, [Variant("", settings)])
    done = run_batch(plan.tasks, choose_compute("auto", "auto"))
    items = [done.items[task.place] for task in plan.tasks]
    distances = [item.quality["style_distance"] for item in items]
    return [Path(item.output) for item in items], time.monotonic() - started, float(np.mean(distances))


def main() -> None:
    """Prints both, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--long-edge-px", type=int, default=256)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/video"))
    given = parser.parse_args()
    size = f"style.long_edge_px={given.long_edge_px}"
    settings = resolve(Params(), "demo", [size, "style.feedforward=never", *given.overrides]).style
    given.out.mkdir(parents=True, exist_ok=True)
    photo, style = sample_photos(given.out / "samples")[0], sample_styles(given.out / "samples")[0]
    contents = pan(photo, given.frames, given.long_edge_px)
    clip = given.out / "content.mp4"
    encode_video(contents, clip, int(RATE), {"kind": "benchmark"})
    folder = given.out / "frames"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{k:03d}.png" for k in range(given.frames)]
    shown: list[Pixels] = list(read_frames(clip))
    for path, frame in zip(paths, shown, strict=True):
        Image.fromarray(frame).save(path)

    [video], video_s, video_distance = stylized([clip], style, given.out / "video", settings)
    single, single_s, single_distance = stylized(paths, style, given.out / "single", settings)
    alone = [np.asarray(Image.open(path).convert("RGB")) for path in single]
    encode_video(
        [Image.fromarray(frame) for frame in alone],
        given.out / "frame-by-frame.mp4",
        int(RATE),
        {"kind": "benchmark"},
    )

    def flicker_of(made: Sequence[Pixels]) -> float:
        size = made[0].shape[:2]
        same = [to_pixels(resize(from_pixels(frame), size)) for frame in shown]
        return flicker(Frame(a, from_pixels(b)) for a, b in zip(same, made, strict=True))

    together, apart = flicker_of(list(read_frames(video))), flicker_of(alone)
    print(f"{describe_cpu()}; {given.frames} frames of {given.long_edge_px} px\n")
    print("| | flicker | distance from the style | s per frame |\n|---|---|---|---|")
    print(f"| video | {together:.4f} | {video_distance:.3f} | {video_s / given.frames:.2f} |")
    print(f"| frame by frame | {apart:.4f} | {single_distance:.3f} | {single_s / given.frames:.2f} |")
    print(
        f"| ratio | {together / apart:.2f} | {video_distance / single_distance:.2f} | {video_s / single_s:.2f} |"
    )


if __name__ == "__main__":
    main()

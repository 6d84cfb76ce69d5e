"""Style presets by size: seconds, distance from the style, structure and peak memory of each, on the same pairs.

    python -m benchmarks.sizes [--presets standard screen print] [--pairs 2] [--contents DIR] [--set style.KEY=VALUE ...]
        [--out DIR]

The pairs are the sample photos, or the images of --contents, in the sample styles, enlarged to the size of the preset if they
are smaller. The distance is that of `ganpipe.style.metrics`, measured at 256 pixels for every size; it was not optimized. The
pictures stay in --out to be looked at.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import describe_cpu
from ganpipe.compute.device import choose_compute
from ganpipe.compute.memory import measure_step
from ganpipe.imaging.paths import folder_images
from ganpipe.samples.photos import sample_photos
from ganpipe.samples.styles import sample_styles
from ganpipe.settings.params import Params, resolve
from ganpipe.style.batch.plan import BatchTask, Variant, plan_batch
from ganpipe.style.batch.runner import BatchOutcome, run_batch
from ganpipe.style.params import resolve_params


def main() -> None:
    """Prints a row for each preset and pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["standard", "screen", "print"], metavar="NAME")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--contents", type=Path, help="folder of images, instead of the sample photos")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/sizes"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    samples = given.out / "samples"
    photos = folder_images(given.contents).paths if given.contents else sample_photos(samples)
    pairs = list(itertools.product(photos, sample_styles(samples)))[: given.pairs]
    print(
        f"{describe_cpu()}\n\n| preset | px | pair | s | steps | distance | structure | MiB |\n"
        + "|---" * 8
        + "|"
    )
    for preset, (photo, style) in itertools.product(given.presets, pairs):
        words = [f"style.preset={preset}", "style.feedforward=never", *given.overrides]
        settings = resolve(Params(), "demo", words).style
        plan = plan_batch([photo], [style], given.out / preset, [Variant("", settings)])
        cells = [preset, resolve_params(settings).long_edge_px, f"{photo.stem}, {style.stem}"]
        print(f"| {' | '.join(map(str, [*cells, *measure(plan.tasks)]))} |", flush=True)


def measure(tasks: Sequence[BatchTask]) -> list[str]:
    """Seconds, steps, distance, structure and MiB of a task; nothing if its picture is there already."""
    if not tasks:
        return ["there already: delete it to measure it again"]
    compute, outcomes = choose_compute("auto", "auto"), list[BatchOutcome]()
    seconds, peak = measure_step(lambda _: outcomes.append(run_batch(tasks, compute)), 1, compute.device)
    quality = outcomes[0].items[tasks[0].place].quality
    scores = [f"{quality[name]:.3f}" for name in ("style_distance", "structure")]
    return [f"{seconds:.0f}", str(outcomes[0].steps), *scores, f"{peak / 2**20:,.0f}"]


if __name__ == "__main__":
    main()

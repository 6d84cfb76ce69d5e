"""Style transfer against its peers: seconds a step, a batch against its items, and quality against time.

    python -m benchmarks.style [--checkout DIR] [--rounds 3] [--steps 8] [--pairs 0] [--out benchmarks/out]

All sides have the same VGG19 and stylize 256×171 pixels. The peers are crowsonkb's style-transfer-pytorch (the real code
where `--checkout` names it, else a replica of its loop) and the plain loop of Gatys et al. 2016 as tutorials write it,
both float32 as they come; ganpipe chooses its own precision. They run in turn, and medians over the rounds are
compared. With `--pairs N` ganpipe and crowsonkb stylize N content × style pairs, and the
time is given that ganpipe needs to reach the peer's final style distance and structure, neither of which was optimized.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from benchmarks.style_peers.crowsonkb import run_crowsonkb
from benchmarks.style_peers.gatys import run_gatys
from benchmarks.style_peers.timing import PeerRun
from ganpipe.compute.device import Compute, choose_compute
from ganpipe.imaging.encode import write_float_image
from ganpipe.imaging.float_image import read_float_image
from ganpipe.samples.photos import sample_photos
from ganpipe.samples.styles import sample_styles
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.metrics import structure_similarity, style_distance
from ganpipe.style.objective import style_network
from ganpipe.style.optimize import StyleTask, resize, size_at, stylize
from ganpipe.style.params import StyleParams, resolve_params
from ganpipe.vgg19.network import Vgg19

EDGE_PX = 256
BATCH = 8


def seconds_a_step(
    network: Vgg19, commissions: list[StyleTask], recipe: StyleParams, compute: Compute
) -> float:
    """Median seconds of a step at one size; the first, which allocates, is left out."""
    moments: list[float] = []
    stylize(network, commissions, recipe, compute, on_step=lambda _: moments.append(time.monotonic()))
    return statistics.median(b - a for a, b in itertools.pairwise(moments))


def speed(content: Path, style: Path, checkout: Path | None, rounds: int, steps: int) -> None:
    """Prints seconds a step of each side, and of a batch for each of its items."""
    compute = choose_compute("auto", "auto")
    recipe = replace(resolve_params(StyleSettings(preset="standard")), steps=steps, scales=1, stop_below=0.0)
    network = style_network(recipe.last).to(compute.device)
    one = StyleTask(resize(pixels(content), size_at(427, 640, EDGE_PX)), (pixels(style),))
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        peer = run_crowsonkb(content, style, steps, EDGE_PX, checkout, min_edge_px=EDGE_PX)
        gatys = run_gatys(content, style, steps, EDGE_PX)
        for name, seconds in (
            (peer.name, peer.seconds_per_step),
            (gatys.name, gatys.seconds_per_step),
            (f"ganpipe, {compute.precision}", seconds_a_step(network, [one], recipe, compute)),
            (
                f"ganpipe, {BATCH} at once, each",
                seconds_a_step(network, [one] * BATCH, recipe, compute) / BATCH,
            ),
            (
                "ganpipe, wasserstein",
                seconds_a_step(network, [one], replace(recipe, statistics="wasserstein"), compute),
            ),
        ):
            found.setdefault(name, []).append(seconds)
    ours = statistics.median(found[f"ganpipe, {compute.precision}"])
    print(f"{'256×171 pixels':<36}{'s a step':>10}{'against ganpipe':>17}")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:<36}{median:>10.3f}{median / ours:>16.2f}×", flush=True)


def pixels(path: Path) -> Tensor:
    """`[1, 3, H, W]` in [0, 1]."""
    return read_float_image(path).pixels


class Judge:
    """Style distance and structure of images of one content in one style."""

    def __init__(self, content: Tensor, style: Tensor) -> None:
        self.network, self.compute = Vgg19("relu4_1"), choose_compute("auto", "fp32")
        self.content, self.style = content, style

    def scores(self, image: Tensor) -> tuple[float, float]:
        """(distance from the style, likeness to the content) at the content's size."""
        shown = resize(image, (self.content.shape[2], self.content.shape[3]))
        return style_distance(self.network, shown, self.style, self.compute), structure_similarity(
            shown, self.content
        )


def our_history(content: Tensor, style: Tensor, recipe: StyleParams) -> list[tuple[float, Tensor]]:
    """Images by seconds: those of runs of 10, 25, 50 and 100 steps at the first size, each timed whole."""
    compute = choose_compute("auto", "auto")
    network = style_network(recipe.last).to(compute.device)
    history = []
    for steps in (10, 25, 50, 100):
        started = time.monotonic()
        image = stylize(network, [StyleTask(content, (style,))], replace(recipe, steps=steps), compute).images
        history.append((time.monotonic() - started, image))
    return history


def first_reach(history: list[tuple[float, tuple[float, float]]], which: int, goal: float) -> float | None:
    """Seconds until the style distance (0) is at most, or the structure (1) at least, the goal."""
    for seconds, scores in history:
        if (scores[0] <= goal) if which == 0 else (scores[1] >= goal):
            return seconds
    return None


def curves(pairs: list[tuple[Path, Path]], checkout: Path | None, steps: int, out: Path) -> None:
    """Prints, for each pair, the peer's final scores and ganpipe's time to each of them."""
    print(
        f"{'pair':<18}{'peer s':>8}{'distance':>10}{'structure':>11}{'our s to distance':>19}{'to structure':>14}{'share':>8}"
    )
    for content_path, style_path in pairs:
        photo = pixels(content_path)
        content = resize(photo, size_at(photo.shape[2], photo.shape[3], EDGE_PX))
        style = pixels(style_path)
        judge = Judge(content, style)
        peer: PeerRun = run_crowsonkb(content_path, style_path, steps, EDGE_PX, checkout)
        goal = judge.scores(peer.picture)
        recipe = replace(resolve_params(StyleSettings(preset="standard")), stop_below=0.0)
        ours = our_history(content, style, recipe)
        scored = [(seconds, judge.scores(image)) for seconds, image in ours]
        reached = [first_reach(scored, which, goal[which]) for which in (0, 1)]
        name = f"{content_path.stem} × {style_path.stem}"
        text = ["never" if r is None else f"{r:.0f}" for r in reached]
        share = "" if None in reached else f"{max(r for r in reached if r is not None) / peer.total_s:.2f}"
        print(
            f"{name:<18}{peer.total_s:>8.0f}{goal[0]:>10.3f}{goal[1]:>11.3f}{text[0]:>19}{text[1]:>14}{share:>8}",
            flush=True,
        )
        for seconds, (distance, structure) in scored:
            print(f"{'':<18}{seconds:>8.1f}{distance:>10.3f}{structure:>11.3f}   ganpipe", flush=True)
        for who, image in (("peer", peer.picture), ("ganpipe", ours[-1][1])):
            write_float_image(
                out / f"style-{content_path.stem}-{style_path.stem}-{who}.png", image[0], None, "png", 8, {}
            )


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, help="of crowsonkb/style-transfer-pytorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="of each timed run")
    parser.add_argument(
        "--pairs", type=int, default=0, help="content × style pairs for quality against time, at most 6"
    )
    parser.add_argument(
        "--peer-steps", type=int, default=60, help="of the peer, at each of its sizes, for the pairs"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos, styles = sample_photos(Path(scratch)), sample_styles(Path(scratch))
        if given.rounds:
            speed(photos[0], styles[0], given.checkout, given.rounds, given.steps)
        corner = write_float_image(
            Path(scratch, "corner.png"), pixels(photos[0])[0, :, 60:300, 120:480], None, "png", 8, {}
        )
        pairs = [(photo, style) for photo in (*photos, corner) for style in styles][: given.pairs]
        if pairs:
            given.out.mkdir(parents=True, exist_ok=True)
            curves(pairs, given.checkout, given.peer_steps, given.out)


if __name__ == "__main__":
    main()

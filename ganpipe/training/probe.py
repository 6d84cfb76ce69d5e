"""Trial steps before training: the expected duration and memory, and the microbatch that fits."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ganpipe.compute.device import Compute
from ganpipe.compute.memory import USABLE_SHARE, free_memory, is_out_of_memory, measure_step
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.progress import format_duration

log = logging.getLogger(__name__)


PROBE_FILE = "plan.json"  # in the run folder
PROBE_IMAGES = 4
SHORT_STEP_S = 2.0  # a step that is expected to take no longer is timed with its own number of images, too


@dataclass(frozen=True)
class ProbeResult:
    """How many images are computed at once, and what that is expected to take.

    `seconds_a_step`: of the dearest phase, the mean over lazy regularization. `shares`: of it that a step of each earlier phase
    takes.
    """

    microbatch_images: int
    seconds_a_step: float
    peak_bytes: int
    free_bytes: int
    shares: Sequence[float] = ()

    def work(self, images: Sequence[int]) -> float:
        """Converts the work of so many images of each phase into images of the dearest phase."""
        return sum(count * share for count, share in zip(images, (*self.shares, 1.0), strict=True))

    def sentence(self, images_left: Sequence[int], batch_images: int, processes: int, where: str) -> str:
        """For people, before the first step. `images_left`: by phase."""
        seconds = self.work(images_left) / batch_images * self.seconds_a_step
        each = batch_images // processes
        split = (
            f", each batch in parts of {self.microbatch_images} images"
            if self.microbatch_images < each
            else ""
        )
        return (
            f"On {where}: about {format_duration(max(1.0, seconds))}, with {self.peak_bytes / 2**30:.1f} GiB of memory "
            f"({self.free_bytes / 2**30:.1f} GiB are free){split}."
        )


TrialStep = Callable[[int], None]  # computes a step of so many images on scratch copies


def probe_steps(
    path: Path,
    batch_images: int,
    asked_images: int,
    compute: Compute,
    step: TrialStep,
    cheaper: Sequence[TrialStep] = (),
    lazy: Sequence[TrialStep] = (),
) -> ProbeResult:
    """Measures trial steps and writes the result to `path` before the first real step.

    How a batch is split changes the last digits of a gradient, so a resumed training reads its first result again.
    `step` is that of the dearest phase with all its regularization, `cheaper` are those of the phases before it, `lazy` the
    others of the dearest phase, until the lazy regularization comes round again.

    Raises:
        GanpipeError: not even the smallest part fits.
    """
    free = free_memory(compute.device)
    small = max(2, min(PROBE_IMAGES, batch_images // 2))
    try:
        for images in (small, 2 * small):  # allocates and tunes
            step(images)
        times, peaks = zip(*(measure_step(step, n, compute.device) for n in (small, 2 * small)), strict=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise GanpipeError(
            f"{2 * small} images at once do not fit into the {free / 2**30:.1f} GiB that are free on {compute.device}; "
            "make the model (model.width, model.g_channels, model.d_channels) or the images smaller."
        ) from None
    per_image = max(0.0, (peaks[1] - peaks[0]) / small)
    fixed = max(0.0, peaks[1] - 2 * small * per_image)
    room = USABLE_SHARE * free
    fitting = int((room - fixed) / per_image) if per_image > 0 else batch_images
    micro = asked_images or batch_images
    while micro > max(1, fitting) and not asked_images:
        micro = -(-micro // 2)
    micro = min(micro, batch_images)
    # Time per image, and the fixed time per step; small steps are noisy, so neither is negative.
    per_image_s = max(0.0, min((times[1] - times[0]) / small, times[1] / (2 * small))) or times[1] / (
        2 * small
    )
    seconds = max(times[1] - 2 * small * per_image_s, 0.0) + per_image_s * batch_images
    if seconds < SHORT_STEP_S:  # the time of small steps is mostly overhead
        step(micro)
        seconds = measure_step(step, micro, compute.device)[0] * batch_images / micro
    seconds *= statistics.mean([1.0, *(_share(other, 2 * small, times[1], compute) for other in lazy)])
    shares = [_share(earlier, 2 * small, times[1], compute) for earlier in cheaper]
    plan = ProbeResult(micro, seconds, int(fixed + per_image * micro), free, shares)
    if micro < batch_images and not asked_images:
        log.warning(
            "A batch of %s images would take %.1f GiB, and %.1f GiB are free: it is computed in parts of %s.",
            f"{batch_images:,}",
            (fixed + per_image * batch_images) / 2**30,
            free / 2**30,
            micro,
        )
    write_json(path, asdict(plan))
    return plan


def _share(step: TrialStep, images: int, dearest_s: float, compute: Compute) -> float:
    """The time of a step as a share of the dearest one's."""
    step(images)
    return min(1.0, measure_step(step, images, compute.device)[0] / dearest_s)


def read_probe(path: Path) -> ProbeResult:
    """The plan that was made before."""
    return ProbeResult(**read_json(path))

"""The verdict on a set of generated images, with its evidence in sentences and what to do next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from ganpipe.evaluation.conditions import Conditions
from ganpipe.files import plain

if TYPE_CHECKING:  # records hold verdicts, and are read without torch and SciPy
    from ganpipe.evaluation.memorization import CopyTest

# JSON has no NaN: what is not finite is stored as null.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]

# Measured with made cases (LOG.md, `python -m benchmarks.judging`); shares are of what real images score.
GOOD_SHARE = 0.93  # of precision and of coverage
FAIR_SHARE = (
    0.15  # the demo's flowers, recognizable and blurred, reach 0.18 to 0.3 of the coverage at 64 pixels
)
POOR_PRECISION = 0.1
GOOD_ENERGY = 0.01
PEAK_DB = 6.0
UNSHARP_DB = 0.75  # above three standard errors
REPEATED = 0.5
LEAST_INSIDE = 0.5  # share of the images inside the real manifold, to speak of modes among them
FEW_MODES = (
    0.68  # half of ten kinds without labels cover 0.43 to 0.63 of 40 clusters; eight 0.73 to 0.89 (LOG.md)
)
FEW_VENDI = 0.5
SHOWN_MODES = 6  # named of those missing
MOSTLY_COPIES = 0.5
IDENTICAL = 0.03  # share of images that may be all but identical with a training image
LEAST_HELD_OUT = 100  # below it the nearest held-out images say too little about an honest model
LEAST_JUDGED = (
    50  # generated and held-out images; with fewer, precision and coverage of blurred images are perfect
)


@dataclass(frozen=True)
class Metric:
    """A metric's value, its extractor and sample count; `floor` is the score of real images at the same sizes."""

    value: Number
    extractor: str
    samples: int
    floor: Number | None = None
    note: str = ""
    error: Number | None = None  # standard error over generated and held-out images

    @property
    def number(self) -> str:
        """The value with its error, such as "0.93 ± 0.01"."""
        value = f"{self.value:.4g}" if math.isfinite(self.value) else "not finite"
        if self.error is None or not math.isfinite(self.error):
            return value
        return f"{value} ± {float(f'{self.error:.2g}'):g}"

    @property
    def text(self) -> str:
        """The same with the note."""
        return f"{self.number} {self.note}".rstrip()


@dataclass(frozen=True)
class Suspect:
    """A generated image beside the training image (row `row`) that it could be a copy of.

    Distances are relative to the one below which 5% of the held-out images lie: 1 and more is as for real images.
    """

    image: int
    row: int
    by_thumbnail: Number
    by_features: Number


MEMORIZED = "Add training images, use augment.mode=adaptive, or stop earlier (training.total_images)."
COLLAPSED = "Raise loss.gamma or halve training.g_lr and training.d_lr; if it happens again, use another preset or model."
POOR = "Look at the grids: if they still improve, train longer; if not, halve the learning rates or use another preset."
VARIETY = (
    "Train longer (training.total_images), or raise loss.gamma, so that more kinds of images are generated."
)
PATTERN = "Train longer; if the pattern stays in the grids, use another model (model.name)."
BLURRED = "The images are blurred: train longer, or use a larger network (model.g_channels)."
NOISY = "The images are noisy: train longer, or halve the learning rates at the end."
LONGER = "Train longer (training.total_images), or a larger network."
TOO_FEW = "Add images or raise data.holdout_fraction, and evaluate more images (evaluation.images)."
GOOD = "Nothing has to be done: more training will hardly show."


@dataclass
class Evaluation:
    """All metrics, the verdict (`good`, `fair`, `poor`, `collapsed`, `memorized` or `inconclusive`), why, and what to do."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    verdict: str = ""
    evidence: list[str] = field(default_factory=list)
    advice: str = ""
    grid: str | None = None
    conditions: Conditions | None = None
    suspects: list[Suspect] = field(default_factory=list)  # the likeliest copies first

    def as_dict(self) -> dict[str, Any]:
        """Plain values; NaN and infinity become None, as JSON has neither."""
        values: dict[str, Any] = plain(self)
        return values


class Finding(NamedTuple):
    """A sentence with figures on a fault, and the next step."""

    sentence: str
    advice: str


class Rule(NamedTuple):
    """A verdict, whether it holds, and why."""

    verdict: str
    holds: bool
    why: Finding


@dataclass(frozen=True)
class Facts:
    """The input of the rules: metrics, tests for copies (by thumbnails, by features), number of held-out images."""

    metrics: dict[str, Metric]
    copy_tests: tuple[CopyTest, ...]
    held_out: int

    def value(self, name: str) -> float:
        """A metric's value; NaN if it was not measured."""
        return self.metrics[name].value if name in self.metrics else math.nan

    def share(self, name: str) -> float:
        """A metric's value as a share of what real images score; NaN if it was not measured."""
        metric = self.metrics.get(name)
        return metric.value / max(metric.floor or 0.0, 1e-9) if metric else math.nan

    def good_share(self, name: str) -> float:
        """The share of the real images' score that is good: a standard error less than GOOD_SHARE."""
        floor = min(self.metrics[name].floor or 0.0, 1.0)
        return GOOD_SHARE - math.sqrt(floor * (1 - floor) * (1 / self.generated + 1 / self.held_out))

    @property
    def generated(self) -> int:
        """Generated images."""
        return self.metrics["precision"].samples

    @property
    def copied(self) -> float:
        """The largest share of images nearer to a training image than 95% of held-out images are."""
        return max(test.share for test in self.copy_tests)

    @property
    def mostly_copied(self) -> bool:
        """Whether most images are copies. Images that repeat each other must be all but identical with training images:
        a single one may be near to a training image by chance."""
        identical = max(test.identical for test in self.copy_tests)
        return self.copies and (self.copied if self.repeats <= REPEATED else identical) > MOSTLY_COPIES

    @property
    def some_copied(self) -> bool:
        """Whether some images are copies; with few held-out images only those that are all but identical count."""
        identical = any(test.identical > IDENTICAL for test in self.copy_tests)
        return self.copies if self.held_out >= LEAST_HELD_OUT else identical

    @property
    def copies(self) -> bool:
        """Whether either test finds copies."""
        return any(test.copies for test in self.copy_tests)

    @property
    def modes_tell(self) -> bool:
        """Whether most images lie inside the real manifold, so that it makes sense to speak of modes."""
        return self.value("inside") >= LEAST_INSIDE

    @property
    def repeats(self) -> float:
        """The share of repeated images; by features only if the images look real, since noise is alike there."""
        by_features = self.value("near_duplicates") if self.share("precision") >= 0.8 else 0.0
        return max(self.value("near_duplicates_thumbnails"), by_features)


def decide(facts: Facts) -> Evaluation:
    """The verdict by the first rule that holds, with evidence and advice."""
    faults = _faults(facts)
    verdict, _, why = next(rule for rule in [*_rules(facts), *_grades(facts, faults)] if rule.holds)
    evidence = [why.sentence, *[fault.sentence for fault in faults if verdict in ("fair", "poor")]]
    return Evaluation(facts.metrics, verdict, [*evidence, *_limits(facts)], why.advice)


def _rules(facts: Facts) -> list[Rule]:
    """The ordered rules on what is wrong altogether."""
    few = min(facts.generated, facts.held_out)
    vendi = facts.share("vendi_inside")
    farther = min(test.farther for test in facts.copy_tests)
    copied = (
        f"{facts.copied:.0%} of the images are nearer to a training image than 95% of held-out images are (5% is usual); "
        f"{farther:.0%} are farther than a held-out one (50% is usual)."
    )
    repeated = f"{facts.repeats:.0%} of the images repeat another one (5% among real images)."
    various = f"The effective number of different images (Vendi) is {vendi:.0%} of the real images'."
    too_few = (
        f"{facts.generated:,} generated and {facts.held_out:,} held-out images are too few to judge; "
        f"{LEAST_JUDGED} of each are needed."
    )
    return [
        Rule("memorized", facts.mostly_copied, Finding(copied, MEMORIZED)),
        Rule("collapsed", facts.repeats > REPEATED, Finding(repeated, COLLAPSED)),
        Rule("poor", facts.share("precision") < POOR_PRECISION, Finding(_against_real(facts), POOR)),
        Rule(
            "collapsed",
            facts.modes_tell and facts.share("modes_covered") < FEW_MODES,
            Finding(_modes(facts), COLLAPSED),
        ),
        Rule("collapsed", vendi < FEW_VENDI, Finding(various, COLLAPSED)),
        Rule("memorized", facts.some_copied, Finding(copied, MEMORIZED)),
        Rule("inconclusive", few < LEAST_JUDGED, Finding(too_few, TOO_FEW)),
    ]


def _grades(facts: Facts, faults: list[Finding]) -> list[Rule]:
    """Good, fair or poor; the last rule holds always."""
    fair = min(facts.share("precision"), facts.share("coverage")) >= FAIR_SHARE
    sentence = _against_real(facts)
    return [
        Rule("good", not faults, Finding(sentence, GOOD)),
        Rule("fair", fair, Finding(sentence, faults[0].advice if faults else GOOD)),
        Rule("poor", True, Finding(sentence, POOR)),
    ]


def _faults(facts: Facts) -> list[Finding]:
    """All that keeps the images from being good; the most telling first."""
    peak, energy, sharpness = facts.value("spectrum_peak"), facts.value("energy"), facts.metrics["sharpness"]
    precision, coverage = facts.share("precision"), facts.share("coverage")
    distant = f"The energy distance is {energy:.1%} of the distance between two real images (good: {GOOD_ENERGY:.0%})."
    unsharp = abs(sharpness.value) - 3 * (sharpness.error or 0.0)
    details = f"The finest details have {10 ** (sharpness.value / 10):.2g} times the power of real images'."
    rows = [
        (peak > PEAK_DB, f"One frequency is {peak:.0f} dB off, as in a checkerboard pattern.", PATTERN),
        (facts.modes_tell and facts.value("modes_missing") > 0, _modes(facts), VARIETY),
        (precision < facts.good_share("precision"), f"{1 - precision:.0%} too few images look real.", LONGER),
        (
            coverage < facts.good_share("coverage"),
            f"{1 - coverage:.0%} of the real images have no like.",
            VARIETY,
        ),
        (not energy <= GOOD_ENERGY, distant, LONGER),
        (unsharp > UNSHARP_DB, details, BLURRED if sharpness.value < 0 else NOISY),
    ]
    return [Finding(sentence, advice) for holds, sentence, advice in rows if holds]


def _against_real(facts: Facts) -> str:
    return (
        f"Precision is {facts.share('precision'):.0%} and coverage {facts.share('coverage'):.0%} of what real images score "
        f"(good: {GOOD_SHARE:.0%}, fair: {FAIR_SHARE:.0%})."
    )


def _modes(facts: Facts) -> str:
    if (metric := facts.metrics.get("modes_covered")) is None:
        return ""
    names = facts.metrics["modes_missing"].note.split(", ")
    missing = ", ".join(names[:SHOWN_MODES]) + (
        f" and {len(names) - SHOWN_MODES} more" * (len(names) > SHOWN_MODES)
    )
    return f"{metric.value:.0f} modes are covered {metric.note}, among images that look real; missing: {missing or 'none'}."


def _limits(facts: Facts) -> list[str]:
    """Sentences on whatever could not be judged."""
    if facts.held_out >= LEAST_HELD_OUT:
        return []
    return [
        f"Memorization: not enough held-out images ({facts.held_out}; {LEAST_HELD_OUT} are needed); "
        "only images all but identical with training images, or copies of most of them, would be seen."
    ]

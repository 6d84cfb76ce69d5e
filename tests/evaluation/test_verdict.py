"""Each rule of the verdict, on figures and on made pictures."""

from __future__ import annotations

import math

import pytest

from benchmarks.judging import CASES, Bench, Draw, digits
from ganpipe.evaluation.judge import Judge
from ganpipe.evaluation.memorization import CopyTest
from ganpipe.evaluation.verdict import Evaluation, Facts, Metric, decide
from ganpipe.files import read_dataclass, write_json

HONEST = CopyTest(share=0.05, identical=0.0, farther=0.5, samples=500, held_out=500)
MOSTLY = CopyTest(share=0.9, identical=0.8, farther=0.02, samples=500, held_out=500)
CHANCE = CopyTest(
    share=1.0, identical=0.0, farther=0.02, samples=500, held_out=500
)  # one near image, repeated
SOME = CopyTest(share=0.2, identical=0.1, farther=0.45, samples=500, held_out=500)
REAL = {
    "precision": (0.9, 0.9),
    "coverage": (0.95, 0.95),
    "energy": (0.001, 0.0),
    "near_duplicates": (0.05, 0.05),
    "near_duplicates_thumbnails": (0.05, 0.05),
    "inside": (0.95, 0.95),
    "vendi_inside": (80.0, 80.0),
    "modes_covered": (10.0, 10.0),
    "modes_missing": (0.0, 0.0),
    "spectrum_peak": (0.0, 0.0),
    "sharpness": (0.1, 0.0),
}


def _decided(
    copies: CopyTest = HONEST, held_out: int = 500, generated: int = 500, **values: float
) -> Evaluation:
    metrics = {
        name: Metric(values.get(name, value), "test", generated, floor)
        for name, (value, floor) in REAL.items()
    }
    return decide(Facts(metrics, (HONEST, copies), held_out))


@pytest.mark.parametrize(
    ("expected", "sentence", "values"),
    [
        ("good", "Precision is 100%", {}),
        ("memorized", "90% of the images are nearer to a training image", {"copies": MOSTLY}),
        ("memorized", "20% of the images are nearer", {"copies": SOME}),
        ("collapsed", "80% of the images repeat another", {"near_duplicates_thumbnails": 0.8}),
        ("collapsed", "80% of the images repeat another", {"near_duplicates": 0.8}),
        ("poor", "Precision is 6%", {"near_duplicates": 0.8, "precision": 0.05}),
        ("collapsed", "5 modes are covered", {"modes_covered": 5}),
        ("collapsed", "(Vendi) is 38%", {"vendi_inside": 30}),
        ("inconclusive", "500 generated and 30 held-out images", {"held_out": 30}),
        ("inconclusive", "20 generated", {"generated": 20}),
        ("fair", "energy distance is 5.0%", {"energy": 0.05}),
        ("fair", "look real", {"precision": 0.7}),
        ("fair", "have no like", {"coverage": 0.6}),
        ("fair", "checkerboard", {"spectrum_peak": 12}),
        ("fair", "finest details have 0.5 times", {"sharpness": -3}),
        ("fair", "modes are covered", {"modes_missing": 1}),
        ("poor", "coverage 11%", {"coverage": 0.1}),
        ("fair", "energy distance", {"energy": math.nan}),
    ],
)
def test_each_rule_gives_its_verdict_evidence_and_advice(
    expected: str, sentence: str, values: dict[str, float]
) -> None:
    result = _decided(**values)  # type: ignore[arg-type]
    assert result.verdict == expected
    assert any(sentence in said for said in result.evidence), result.evidence
    assert result.advice.endswith(".")


@pytest.mark.parametrize(
    ("earlier", "values"),
    [
        ("memorized", {"copies": MOSTLY, "near_duplicates_thumbnails": 0.9}),
        ("collapsed", {"copies": CHANCE, "near_duplicates_thumbnails": 0.9}),
        ("poor", {"precision": 0.3, "coverage": 0.1, "inside": 0.3, "modes_covered": 3}),
        ("collapsed", {"near_duplicates_thumbnails": 0.9, "precision": 0.01}),
        ("poor", {"precision": 0.01, "modes_covered": 1}),
        ("collapsed", {"modes_covered": 1, "copies": SOME}),
        ("memorized", {"copies": SOME, "energy": 0.2}),
        ("poor", {"precision": 0.01, "held_out": 20}),
    ],
)
def test_the_earlier_rule_wins(earlier: str, values: dict[str, float]) -> None:
    assert _decided(**values).verdict == earlier  # type: ignore[arg-type]


def test_few_held_out_images_say_so_and_only_certain_copies_are_memorized() -> None:
    near = CopyTest(share=0.3, identical=0.0, farther=0.3, samples=500, held_out=80)
    few = _decided(copies=near, held_out=80)
    assert few.verdict == "good"
    assert "not enough held-out images (80; 100 are needed)" in few.evidence[-1]
    assert _decided(copies=near).verdict == "memorized"
    assert _decided(copies=MOSTLY, held_out=80).verdict == "memorized"
    assert _decided(copies=SOME, held_out=80).verdict == "memorized"
    assert not any("not enough" in sentence for sentence in _decided().evidence)


def test_an_evaluation_is_read_as_it_was_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    result = _decided(energy=math.nan)
    write_json(tmp_path / "e.json", result.as_dict())
    read = read_dataclass(tmp_path / "e.json", Evaluation)
    assert (read.verdict, read.advice) == (result.verdict, result.advice)
    assert math.isnan(read.metrics["energy"].value)
    assert read.metrics["energy"].text == "not finite"
    assert Metric(0.5, "test", 10, error=0.01, note="of 1").text == "0.5 ± 0.01 of 1"


@pytest.fixture(scope="module")
def digit_bench() -> Bench:
    """Real handwritten digits."""
    return Bench(digits())


@pytest.fixture(scope="module")
def draw(digit_bench: Bench) -> Draw:
    """150 unseen, 150 held-out and 300 training images."""
    return digit_bench.draw(seed=0, n=150, held_out=150, train=300)


@pytest.fixture(scope="module")
def judge(digit_bench: Bench, draw: Draw) -> Judge:
    """Features of the training images are measured of two thirds only."""
    return digit_bench.judge(draw, measured_images=200)


@pytest.mark.parametrize(
    "name",
    [
        "unseen real images",
        "8 of 10 kinds",
        "5 of 10 kinds",
        "1 image repeated",
        "n/3 images repeated",
        "100% copies",
        "25% copies",
        "copies shifted",
        "10% noise",
        # Features of 150 images more, each.
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("copies mirrored", "uniform noise", "checkerboard ±10")
        ),
    ],
)
def test_made_pictures_are_judged_as_a_person_would(
    name: str, digit_bench: Bench, draw: Draw, judge: Judge
) -> None:
    result = judge.evaluate(digit_bench.case(CASES[name].make(draw)), errors=False)
    assert result.verdict in CASES[name].expected, result.evidence


def test_noise_covers_no_mode(digit_bench: Bench, draw: Draw, judge: Judge) -> None:
    noise = judge.evaluate(digit_bench.case(CASES["uniform noise"].make(draw)), errors=False)
    assert noise.metrics["inside"].value < 0.05
    assert noise.metrics["modes_covered"].value == 0
    real = judge.evaluate(digit_bench.case(CASES["unseen real images"].make(draw)), errors=False)
    assert real.metrics["modes_covered"].value == 10
    assert real.metrics["smallest_mode"].value > 0.3

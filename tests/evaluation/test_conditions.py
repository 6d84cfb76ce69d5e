"""The conditions of an evaluation: which scores may be compared, and why others may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.evaluation.conditions import Conditions, find_difference
from ganpipe.evaluation.evaluate import evaluate
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import read_dataclass, sha256_of, write_json
from ganpipe.imaging.image import ImageShape
from ganpipe.settings.schema import EvaluationSettings
from ganpipe.vgg19.weights import weights_path
from tests.conftest import changed

CPU = choose_compute("cpu", "fp32")
OPTIONS = EvaluationSettings(images=16, size_px=32, neighbors=3)
PIXELS = torch.randint(0, 256, (80, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SAME = Conditions("vgg19 relu5_4", "a" * 64, "longer edge 64 px", 5, 2000, 432, "b" * 64, "c" * 36)


def _data(holdout: torch.Tensor, version: str = "v") -> PreparedData:
    unlabeled = [torch.full((len(pixels),), -1) for pixels in (PIXELS[:40], holdout)]
    splits = Split.of(PIXELS[:40], unlabeled[0]), Split.of(holdout, unlabeled[1])
    return PreparedData("p", version, ImageShape(3, 16, 16), (), *splits)


def _measured(
    options: EvaluationSettings = OPTIONS, generated: int = 12, holdout: int = 60, version: str = "v"
) -> Evaluation:
    return evaluate(PIXELS[60 : 60 + generated], _data(PIXELS[40:holdout], version), options, CPU)


@pytest.mark.parametrize("name", ["extractor", "resize", "extractor_sha256", "held_out_sha256", "version"])
def test_scores_that_differ_in_one_condition_are_not_compared_and_the_sentence_names_it(name: str) -> None:
    other = replace(SAME, **{name: "another"})
    assert name in str(find_difference(SAME, other))
    assert SAME.id != other.id


@pytest.mark.parametrize("name", ["neighbors", "generated", "held_out"])
def test_numbers_of_images_and_neighbors_are_conditions_too(name: str) -> None:
    other = replace(SAME, **{name: 1234})
    assert f"{name} {getattr(SAME, name):,} and 1,234" in str(find_difference(SAME, other))
    assert SAME.id != other.id


def test_scores_under_equal_conditions_are_compared_and_unknown_conditions_are_not() -> None:
    assert find_difference(SAME, replace(SAME)) is None
    assert SAME.id == replace(SAME).id
    assert find_difference(None, SAME) == find_difference(SAME, None)
    assert "does not say how it was measured" in str(find_difference(None, SAME))


@pytest.mark.slow
def test_an_evaluation_carries_what_it_was_measured_with() -> None:
    first = _measured().conditions
    assert first is not None
    assert first.extractor_sha256 == sha256_of(weights_path())
    assert (first.generated, first.held_out, first.version, first.neighbors) == (12, 16, "v", 3)
    assert "32 px" in first.resize
    assert find_difference(first, _measured().conditions) is None
    for other, named in (
        (_measured(changed(OPTIONS, size_px=48)), ["resize"]),
        (_measured(changed(OPTIONS, seed=2)), ["held_out_sha256"]),
        (_measured(generated=11), ["generated"]),
        (_measured(holdout=52), ["held_out", "held_out_sha256"]),
        (_measured(version="w"), ["version"]),
    ):
        difference = str(find_difference(first, other.conditions))
        assert difference.count(" and ") == len(named)
        assert all(name in difference for name in named)


def test_a_record_keeps_the_conditions_and_an_older_one_without_them_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "new.json", Evaluation(verdict="good", conditions=SAME).as_dict())
    assert read_dataclass(tmp_path / "new.json", Evaluation).conditions == SAME
    write_json(tmp_path / "old.json", {"metrics": {}, "verdict": "good"})
    assert read_dataclass(tmp_path / "old.json", Evaluation).conditions is None

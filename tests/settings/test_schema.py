"""The schema: defaults that are allowed, choices that match the tables, one sentence per wrong value."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from ganpipe.errors import GanpipeError
from ganpipe.imaging.encode import FORMATS
from ganpipe.models.registry import MODELS
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.presets import NEEDED_IMAGES, PRESETS
from ganpipe.settings.schema import FIELDS, AugmentKind, Settings, StyleSettings, TrainingSettings, from_dict
from ganpipe.settings.validation import choices_of
from ganpipe.style.params import STYLE_PRESETS
from ganpipe.training.augment import KINDS, parse_kinds
from ganpipe.training.losses import LOSSES

MODEL_NAMES = ", ".join(MODELS)


def test_the_defaults_are_allowed_values() -> None:
    """Pydantic does not validate defaults by itself."""
    assert from_dict(Settings().as_dict()) == Settings()
    parse_kinds(Settings().augment.kinds)


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("model.name", MODELS),
        ("loss.name", LOSSES),
        ("style.preset", STYLE_PRESETS),
        ("style.format", FORMATS),
    ],
)
def test_the_choices_are_the_names_of_the_table(key: str, table: Iterable[str]) -> None:
    assert sorted(choices_of(FIELDS[key])) == sorted(table)


def test_the_augmentation_kinds_are_those_of_the_table() -> None:
    assert get_args(AugmentKind) == KINDS


def test_every_model_has_the_number_of_images_that_it_needs() -> None:
    assert NEEDED_IMAGES.keys() == MODELS.keys()
    assert {model for preset in PRESETS.values() for model in preset.recipes} <= MODELS.keys()


BRITISH = ("colour", "optimis", "stylis", "neighbour", "grey")


def test_every_setting_has_a_description_and_every_word_its_american_spelling() -> None:
    for key, field in FIELDS.items():
        text = f"{key} {field.description} {choices_of(field)}"
        assert field.description, key
        assert not any(word in text for word in BRITISH), key


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.seed", "x", "training.seed is 'x'; it must be a whole number."),
        ("training.seed", True, "training.seed is True; it must be a whole number."),
        ("training.batch_images", 2.5, "training.batch_images is 2.5; it must be a whole number."),
        ("training.batch_images", 1, "training.batch_images is 1; it must be from 2 to 65536."),
        ("training.total_images", 0, "training.total_images is 0; it must be at least 1."),
        ("training.g_lr", "high", "training.g_lr is 'high'; it must be a number."),
        ("training.g_lr", float("nan"), "training.g_lr is nan; it must be a finite number."),
        ("loss.gamma", float("inf"), "loss.gamma is inf; it must be a finite number."),
        (
            "training.horizontal_flip",
            "perhaps",
            "training.horizontal_flip is 'perhaps'; it must be true or false.",
        ),
        ("model.name", "stylegan", f"model.name is 'stylegan'; it must be one of {MODEL_NAMES}."),
        ("model.name", 3, f"model.name is 3; it must be one of {MODEL_NAMES}."),
        ("data.channels", 2, "data.channels is 2; it must be one of 0, 1, 3, 4."),
        ("data.channels", True, "data.channels is True; it must be one of 0, 1, 3, 4."),
        ("style.blend", None, "style.blend is None; it must be a word."),
    ],
)
def test_a_wrong_value_is_one_sentence(key: str, value: Any, expected: str) -> None:
    with pytest.raises(GanpipeError) as raised:
        Settings().with_values({key: value})
    assert str(raised.value) == expected


def test_two_wrong_values_are_two_sentences() -> None:
    with pytest.raises(GanpipeError) as raised:
        Settings().with_values({"training.seed": "x", "model.blocks": 0})
    assert "training.seed is 'x'; it must be a whole number." in str(raised.value)
    assert "model.blocks is 0; it must be from 1 to 16." in str(raised.value)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"trainin": {}}, "Unknown section trainin: did you mean training?"),
        ({"training": {"seeed": 1}}, "Unknown setting training.seeed: did you mean training.seed?"),
        ({"training": 3}, "training is 3; it must hold settings."),
    ],
)
def test_a_wrong_tree_is_one_sentence(tree: dict[str, Any], expected: str) -> None:
    with pytest.raises(GanpipeError) as raised:
        from_dict(tree)
    assert str(raised.value) == expected


def test_a_setting_in_the_wrong_section_names_the_right_one() -> None:
    with pytest.raises(GanpipeError, match=r"did you mean data\.fit"):
        Settings().with_values({"evaluation.fit": "pad"})


def test_settings_survive_being_written_down() -> None:
    settings = resolve(Params(), "demo", ["model.name=mlp"])
    assert from_dict(settings.as_dict()) == settings


def test_settings_are_frozen_and_hashable() -> None:
    with pytest.raises(ValidationError):
        Settings().training.seed = 3
    assert hash(Settings()) == hash(Settings().with_values({"training.seed": 0}))


def test_a_section_refuses_wrong_values_when_it_is_built() -> None:
    with pytest.raises(ValidationError):
        TrainingSettings(seed=-1)


def test_the_schema_imports_without_torch() -> None:
    program = (
        "import sys, ganpipe.settings.schema, ganpipe.settings.reference\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("written", "read"), [(2020, "2020"), (0.5, "0.5"), ("0.7+0.3", "0.7+0.3")])
def test_free_text_may_look_like_a_number(written: object, read: str) -> None:
    assert StyleSettings(style_rotations=written).style_rotations == read  # type: ignore[arg-type]

"""params.yaml and --set: every wrong value is named, with the right one beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import MODELS, check_shape
from ganpipe.settings.params import Params, params_template, parse_assignments, read_params, resolve
from ganpipe.settings.presets import PRESETS, choose_preset
from ganpipe.settings.schema import FIELDS, Settings


def test_a_misspelled_key_names_the_right_one() -> None:
    with pytest.raises(GanpipeError, match=r"training\.batch_imgs: did you mean training\.batch_images\?"):
        parse_assignments(["training.batch_imgs=32"])


def test_a_key_without_its_section_names_the_whole_one() -> None:
    with pytest.raises(GanpipeError, match=r"did you mean training\.seed"):
        parse_assignments(["seed=3"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.seed=3", 3),
        ("training.g_lr=1e-4", 1e-4),
        ("training.horizontal_flip=false", False),
        ("model.name=mlp", "mlp"),
        ("training.total_images=2e3", 2000),
        ("training.total_images=1e6", 1_000_000),
        ("loss.gamma=3", 3.0),
        ("data.channels=3", 3),
    ],
)
def test_values_become_the_type_of_their_setting(text: str, value: object) -> None:
    key = text.split("=")[0]
    found = parse_assignments([text])[key]
    assert found == value
    assert type(found) is type(value)


def test_yes_and_no_stay_words_where_words_are_wanted() -> None:
    """YAML reads them as truth values."""
    values = parse_assignments(
        ["model.conditional=no", "training.compile=yes", "training.horizontal_flip=no"]
    )
    assert values == {
        "model.conditional": "no",
        "training.compile": "yes",
        "training.horizontal_flip": False,
    }


def test_an_assignment_without_an_equals_sign_is_refused() -> None:
    with pytest.raises(GanpipeError, match="has no '='"):
        parse_assignments(["training.seed"])


def test_later_sources_win(tmp_path: Path) -> None:
    """default < preset < params.yaml < --set."""
    path = tmp_path / "params.yaml"
    path.write_text("training:\n  batch_images: 16\n  seed: 5\n")
    settings = resolve(read_params(path), "demo", ["training.seed=9"])
    assert settings.data.height_px == PRESETS["demo"].scale["data.height_px"]
    assert settings.training.batch_images == 16
    assert settings.training.seed == 9
    assert settings.training.beta1 == Settings().training.beta1


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_with_every_model(name: str) -> None:
    """And the model that it names can make the images of its size."""
    for model in MODELS:
        settings = resolve(Params(), name, [f"model.name={model}"])
        check_shape(settings.model, ImageShape(3, settings.data.height_px, settings.data.width_px))
        assert settings.model.name == model
    assert resolve(Params(), name).model.name == PRESETS[name].model


def test_a_model_that_is_asked_for_brings_its_own_recipe() -> None:
    """Not the loss and the rates of the preset's own model; settings given beside it win."""
    r3gan = resolve(Params(), "demo", ["model.name=r3gan"])
    assert r3gan.loss.name == "rpgan"
    assert r3gan.data.height_px == resolve(Params(), "demo").data.height_px
    assert resolve(Params(), "demo", ["model.name=r3gan", "loss.name=hinge"]).loss.name == "hinge"
    assert resolve(Params(values={"model.name": "fastgan"}), "gpu").loss.name == "hinge"


@pytest.mark.parametrize(
    ("images", "on_gpu", "asked", "expected"),
    [
        (4_320, False, {}, "demo"),
        (412, False, {}, "few"),
        (412, True, {}, "few-gpu"),
        (70_000, True, {}, "gpu"),
        (None, False, {}, "demo"),
        (412, False, {"model.name": "dcgan"}, "demo"),
        (412, False, {"data.height_px": 16}, "demo"),
    ],
)
def test_the_preset_is_chosen_by_images_and_device_and_explained(
    images: int | None, on_gpu: bool, asked: dict[str, object], expected: str
) -> None:
    choice = choose_preset(images, on_gpu, asked)
    assert choice.preset == expected
    assert ("a GPU" if on_gpu else "a CPU") in choice.why
    if expected.startswith("few"):
        assert choice.why.startswith("412 images")
        assert "enough for fastgan" in choice.why


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(GanpipeError, match="did you mean small"):
        resolve(Params(), "smal")


@pytest.mark.parametrize(
    "text",
    [
        "trainin:\n  seed: 1\n",
        "training: 3\n",
        "- 1\n",
        "training:\n  seeed: 1\n",
        "training:\n  seed: x\n",
        "preset: smal\n",
        "a: [\n",
    ],
)
def test_a_wrong_params_file_is_one_sentence_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(GanpipeError, match=r"params\.yaml"):
        read_params(path)


def test_the_template_lists_every_setting_and_changes_none(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(params_template())
    assert read_params(path) == Params()
    assert all(f"# {key.split('.')[1]}: " in params_template() for key in FIELDS)


def test_the_template_holds_the_defaults(tmp_path: Path) -> None:
    """Without its comment signs, the template says what the defaults say."""
    lines = [
        line.replace("  # ", "  ", 1) if line.startswith("  # ") else line
        for line in params_template().splitlines()
    ]
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(lines))
    values = read_params(path).values
    assert values.keys() == FIELDS.keys()
    assert Settings().with_values(values) == Settings()

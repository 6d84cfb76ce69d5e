"""params.yaml and --set: every wrong value is named, with the right one beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import MODELS, check_shape
from ganpipe.settings.params import Params, params_template, parse_assignments, read_params, resolve
from ganpipe.settings.presets import PRESETS, choose_preset
from ganpipe.settings.schema import FIELDS, Settings
from ganpipe.settings.yaml_files import dump_yaml, parse_yaml


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


def test_yes_and_no_are_words() -> None:
    """YAML 1.1 reads them as booleans."""
    values = parse_assignments(["model.conditional=no", "training.compile=yes"])
    assert values == {"model.conditional": "no", "training.compile": "yes"}


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "n", "1", "0"])
def test_only_true_and_false_are_booleans(word: str) -> None:
    with pytest.raises(GanpipeError, match=r"training\.horizontal_flip is .*; it must be true or false"):
        parse_assignments([f"training.horizontal_flip={word}"])


@pytest.mark.parametrize(
    ("text", "value"), [("010", 10), ("0o10", 8), ("0x10", 16), ("1e1", 10), ("+7", 7), ("'3'", 3)]
)
def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path, text: str, value: int) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"training:\n  seed: {text}\n")
    assert read_params(path).values == {"training.seed": value}
    assert parse_assignments([f"training.seed={text}"]) == {"training.seed": value}


@pytest.mark.parametrize(
    "text",
    [
        "1:30",
        "2026-01-01",
        "1_000",
        "0b11",
        "yes",
        "true",
        "null",
        "9" * 400,
        "9" * 5_000,
        "0x" + "f" * 9_000,
        "1e300",
        "1e400",
        ".inf",
        "-.inf",
        ".nan",
        "nan",
        "[" * 2_000,
        "[" * 2_000 + "]" * 2_000,
        "{a: " * 200 + "}" * 200,
        "!!set {a, b}",
        "!!python/tuple [1]",
        "!!python/object/apply:os.getcwd []",
        "!!binary aGk=",
        "!!int x",
        "!!timestamp 2026-01-01",
        "[1, 2]",
        "{a: 1, a: 2}",
        "- &a [1]",
    ],
    ids=lambda text: text[:24],
)
@pytest.mark.parametrize("key", ["training.total_images", "loss.gamma", "training.horizontal_flip"])
def test_a_value_that_is_no_setting_is_one_short_sentence_with_its_key(
    tmp_path: Path, text: str, key: str
) -> None:
    """Numbers up to the largest float are a γ, and true is a truth value."""
    if (text, key) in {("1e300", "loss.gamma"), ("true", "training.horizontal_flip")}:
        return
    section, name = key.split(".")
    path = tmp_path / "params.yaml"
    path.write_text(f"{section}:\n  {name}: {text}\n")
    with pytest.raises(GanpipeError) as in_file:
        read_params(path)
    with pytest.raises(GanpipeError) as assigned:
        parse_assignments([f"{key}={text}"])
    assert "params.yaml" in str(in_file.value)
    assert key in str(assigned.value)
    assert max(len(str(in_file.value)), len(str(assigned.value))) < 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  seed: 1\n  seed: 2\n", "training.seed stands there twice, again in line 3"),
        ("training: {seed: 1}\ntraining: {seed: 1}\n", "training stands there twice"),
        ("? [a, b]\n: 1\n", "line 1 has a key that is no word"),
        ("? {a: b}\n: 1\n", "line 1 has a key that is no word"),
        ("training: &t {seed: 1}\nstyle: *t\n", "line 2 has an alias of a collection"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "line 2 has an alias of a collection"),
        ("training: &t [*t]\n", "line 1 has an alias of a collection"),
        ("training:\n  <<: {seed: 1}\n", "training.<<"),
        ("training:\n  1: 2\n", "training.1"),
        ("2026-01-01: {seed: 1}\n", "Unknown section 2026-01-01"),
        ("training: !!set {seed}\n", "training has the tag !!set, which is not allowed"),
        ("training: !!omap [seed: 1]\n", "training has the tag !!omap"),
        ("training: !x {seed: 1}\n", "training has the tag !x"),
        ("training: " + "[" * 2_000, "line 1 nests deeper than"),
        ("training: [" + "1, " * 5_000 + "1]\n", "it must hold settings"),
        ("dataset: 1.5\n", "dataset is 1.5; it must be a name"),
        ("dataset: [a]\n", "dataset is"),
        ("dataset: true\n", "dataset is True"),
        ("preset: {a: 1}\n", "preset is"),
        ("preset: true\n", "preset is True"),
        ("dataset: a\n---\ndataset: b\n", "not valid YAML"),
        ("a: *b\n", "not valid YAML"),
        ("a\0b", "not valid YAML"),
        ("%YAML 9.9\n---\na: 1\n", "not valid YAML"),
        ("# " + "x" * 2**20, "at most 1,048,576 are read"),
    ],
    ids=lambda text: text[:30],
)
def test_a_params_file_that_holds_no_settings_is_one_short_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(GanpipeError, match=re.escape(said)) as refused:
        read_params(path)
    assert "params.yaml" in str(refused.value)
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


def test_what_is_no_text_file_is_refused_at_once(tmp_path: Path) -> None:
    """A FIFO would hang."""
    folder, fifo, dangling, circle = (tmp_path / name for name in ("folder", "fifo", "dangling", "circle"))
    folder.mkdir()
    os.mkfifo(fifo)
    dangling.symlink_to(tmp_path / "nowhere")
    circle.symlink_to(circle)
    binary, utf16 = tmp_path / "binary", tmp_path / "utf16"
    binary.write_bytes(bytes(range(256)))
    utf16.write_bytes("dataset: cats".encode("utf-16"))
    for path in (folder, fifo, dangling, circle, binary, utf16, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(GanpipeError, match=str(path)):
            read_params(path)


def test_harmless_yaml_is_read(tmp_path: Path) -> None:
    """A byte order mark, an alias of a scalar, a dataset named by a number, an empty section, an empty file."""
    path = tmp_path / "params.yaml"
    path.write_text("\ufeffdataset: 2024\ntraining: {seed: &s 3}\nstyle: {seed: *s}\nmodel:\n")
    assert read_params(path) == Params("2024", None, {"training.seed": 3, "style.seed": 3})
    path.write_text("# nothing\n")
    assert read_params(path) == Params()


def test_words_need_no_quotes_on_the_command_line() -> None:
    values = parse_assignments(["style.contents=@list", "style.styles=*.jpg", "data.background=#112233"])
    assert list(values.values()) == ["@list", "*.jpg", "#112233"]


@pytest.mark.parametrize(
    "text", ["1e3", "0o10", "010", "1:30", "yes", "null", "2026-01-01", "~", ".inf", "-"]
)
def test_text_that_looks_like_a_number_is_written_as_text(text: str) -> None:
    """For readers of YAML 1.1, which DVC is not, and of 1.2, which it is."""
    written = dump_yaml({"dataset": text, "again": [text, 1e-5, 10, True, None]})
    assert parse_yaml(written, "it") == {"dataset": text, "again": [text, 1e-5, 10, True, None]}
    assert yaml.safe_load(written)["dataset"] == text


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
    assert settings.training.instance_noise_images == Settings().training.instance_noise_images


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


@pytest.mark.parametrize(
    ("minutes", "side", "g_channels", "d_channels"), [(3, 32, 48, 32), (25, 64, 32, 32), (60.0, 64, 64, 64)]
)
def test_the_time_chooses_the_sizes_and_says_so(
    minutes: float, side: int, g_channels: int, d_channels: int
) -> None:
    choice = choose_preset(4_320, False, {"training.minutes": minutes})
    assert choice.why == (
        f"{minutes:g} minutes for 4,320 images on a CPU: {side} pixels, {g_channels} channels in G, {d_channels} in D"
    )
    settings = resolve(Params(), choice.preset, [f"training.minutes={minutes}"], choice.sizes)
    model = settings.model
    assert (settings.data.height_px, model.g_channels, model.d_channels) == (side, g_channels, d_channels)
    asked = resolve(Params(), choice.preset, ["training.minutes=60", "data.height_px=16"], choice.sizes)
    assert asked.data.height_px == 16


def test_a_short_time_trains_the_demo() -> None:
    """`ganpipe run --minutes 3` and `ganpipe run --preset demo` are the same training."""
    choice = choose_preset(4_320, False, {"training.minutes": 3.0})
    chosen = resolve(Params(), choice.preset, ["training.minutes=3"], choice.sizes)
    assert chosen == resolve(Params(), "demo", ["training.minutes=3"])


@pytest.mark.parametrize(
    ("in_file", "assigned", "expected"),
    [
        ({}, [], (3.0, 180_000)),  # the demo's own
        ({}, ["training.minutes=0"], (0.0, 180_000)),
        ({}, ["training.total_images=640"], (0.0, 640)),
        ({"training.total_images": 640}, [], (0.0, 640)),
        ({"training.minutes": 5.0}, ["training.total_images=640"], (0.0, 640)),
        ({"training.total_images": 640}, ["training.minutes=5"], (5.0, 640)),
    ],
)
def test_the_last_length_that_is_given_counts(
    in_file: dict[str, object], assigned: list[str], expected: tuple[float, int]
) -> None:
    training = resolve(Params(values=in_file), "demo", assigned).training
    assert (training.minutes, training.total_images) == expected


def test_two_lengths_in_one_place_are_refused() -> None:
    with pytest.raises(GanpipeError, match="keep one of them"):
        resolve(Params(), "demo", ["training.minutes=5", "training.total_images=640"])


def test_the_intervals_of_a_preset_belong_to_its_own_length() -> None:
    assert resolve(Params(), "small").training.grid_every_images == 50_000
    minutes = ["training.minutes=5", "training.log_every_images=77"]
    training = resolve(Params(), "small", minutes).training
    assert (training.grid_every_images, training.save_every_images) == (0, 0)
    assert training.log_every_images == 77


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

"""The section `sweep` of params.yaml: each wrong line is one sentence before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.settings.params import read_params
from ganpipe.settings.sweep import Dimension, parse_sweep


def space_of(tmp_path: Path, *lines: str) -> tuple[Dimension, ...]:
    path = tmp_path / "params.yaml"
    path.write_text("sweep:\n  space:\n" + "".join(f"    {line}\n" for line in lines))
    return read_params(path).space


def test_ranges_and_choices_are_read_as_their_settings_types(tmp_path: Path) -> None:
    found = space_of(
        tmp_path,
        "training.g_lr: {low: 1e-4, high: 1e-2, log: true}",
        "training.batch_images: [16, '32', 64]",
        "model.g_channels: {low: 8, high: 64}",
        "loss.name: [hinge, logistic]",
    )
    assert found == (
        Dimension("training.g_lr", 1e-4, 1e-2, log=True),
        Dimension("training.batch_images", choices=(16, 32, 64)),
        Dimension("model.g_channels", 8, 64),
        Dimension("loss.name", choices=("hinge", "logistic")),
    )
    assert [d.is_whole for d in found[:3]] == [False, True, True]
    assert (found[0].holds(1e-3), found[0].holds(0.1), found[1].holds(16), found[1].holds(8)) == (
        True,
        False,
        True,
        False,
    )


def test_without_the_section_there_is_no_space() -> None:
    assert parse_sweep(None) == parse_sweep({}) == parse_sweep({"space": None}) == ()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "training.g_lrr: [1, 2]",
            r"sweep\.space: Unknown setting training\.g_lrr: did you mean training\.g_lr\?",
        ),
        ("training.g_lr: [2, 0.1]", r"training\.g_lr is 2\.0; it must be from 0\.0 to 1\.0"),
        ("training.g_lr: {low: 0.1, high: 0.01}", r"goes from 0\.1 to 0\.01; low must be less than high\."),
        ("training.g_lr: {low: 0, high: 0.01, log: true}", r"and above 0 on a logarithmic scale"),
        ("training.g_lr: {low: 0.1, hihg: 0.2}", r"unknown key hihg: did you mean high\?"),
        ("training.g_lr: {low: 0.1}", r"it needs low and high"),
        ("training.g_lr: {low: 0.1, high: 0.2, log: 3}", r"log is true or false"),
        ("training.g_lr: 0.1", r"it must be a list of values, or like"),
        ("training.batch_images: [16, 16]", r"it needs at least two different values"),
        ("loss.name: {low: 1, high: 2}", r"loss\.name is no number; give a list of values"),
        ("loss.name: [hing, logistic]", r"it must be one of"),
        ("model.name: [dcgan, mlp]", r"model\.name is the same in all trials"),
        ("data.height_px: [16, 32]", r"data\.height_px is the same in all trials"),
    ],
)
def test_a_wrong_line_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(GanpipeError, match=sentence) as raised:
        space_of(tmp_path, line)
    assert "params.yaml" in str(raised.value)


@pytest.mark.parametrize("section", [[1], "wide", {"spcae": {}}, {"space": [1]}])
def test_a_section_of_another_shape_is_refused(section: object) -> None:
    with pytest.raises(GanpipeError, match=r"it must hold"):
        parse_sweep(section)

"""Style sweeps: values of a setting beside each other, each image of which is the one that the setting alone makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.progress import Progress
from ganpipe.reports.contact_sheets import CELL_PX, GAP_PX, contact_sheets
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.plan import BatchPlan, Variant, plan_batch
from ganpipe.style.batch.report import summarize_batch
from ganpipe.style.batch.runner import run_batch
from ganpipe.style.batch.sweep import plan_sweep
from tests.style.test_batch import CPU, save_images

QUICK = ["style.preset=draft", "style.long_edge_px=48", "style.steps=3", "style.scales=1"]


def settings_with(more: list[str]) -> StyleSettings:
    return resolve(Params(), "demo", [*QUICK, *more]).style


def plan(folder: Path, variants: tuple[Variant, ...], styles: int = 1) -> BatchPlan:
    contents = save_images(folder / "c", "a.png", "b.png")
    return plan_batch(
        contents, save_images(folder / "s", *(f"{k}.png" for k in range(styles))), folder / "out", variants
    )


def test_each_value_makes_the_image_that_it_makes_alone(tmp_path: Path) -> None:
    variants = plan_sweep(["style.strength=0.2,0.9"], settings_with)
    swept = plan(tmp_path, variants)
    seen: list[Progress] = []
    run_batch(swept.tasks, CPU, seen.append)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert (seen[-1].done, seen[-1].total) == (4, 4)
    for value in ("0.2", "0.9"):
        own = tmp_path / value
        own.mkdir()
        run_batch(plan(own, (Variant("", settings_with([f"style.strength={value}"])),)).tasks, CPU)
        image, alone = tmp_path / f"out/a__0__strength={value}.png", own / "out/a__0.png"
        assert Image.open(image).tobytes() == Image.open(alone).tobytes()
    low, high = (Image.open(tmp_path / f"out/a__0__strength={v}.png").tobytes() for v in ("0.2", "0.9"))
    assert low != high


def test_a_second_sweep_adds_only_the_new_values(tmp_path: Path) -> None:
    run_batch(plan(tmp_path, plan_sweep(["style.seed=1,2"], settings_with)).tasks, CPU)
    more = plan(tmp_path, plan_sweep(["style.seed=1,2,3"], settings_with))
    assert {task.variant.name for task in more.tasks} == {"seed=3"}
    assert [item.state for item in more.items].count("skipped") == 4


def test_two_sweeps_make_every_combination() -> None:
    variants = plan_sweep(["style.strength=0.3,0.7", "style.seed=1,2"], settings_with)
    names = ["strength=0.3, seed=1", "strength=0.3, seed=2", "strength=0.7, seed=1", "strength=0.7, seed=2"]
    assert [variant.name for variant in variants] == names
    assert [(v.settings.strength, v.settings.seed) for v in variants] == [
        (0.3, 1),
        (0.3, 2),
        (0.7, 1),
        (0.7, 2),
    ]


def test_a_shard_holds_one_variant_if_all_fit(tmp_path: Path) -> None:
    shards = plan(tmp_path, plan_sweep(["style.seed=1,2"], settings_with)).shards(2)
    assert [{task.variant.name for task in shard} for shard in shards] == [{"seed=1"}, {"seed=2"}]


def test_the_sheet_has_a_column_for_every_style_and_value(tmp_path: Path) -> None:
    swept = plan(tmp_path, plan_sweep(["style.strength=0.2,0.5,0.9"], settings_with), styles=2)
    for task in swept.tasks:  # a color for each column
        task.output.parent.mkdir(exist_ok=True)
        color = (round(255 * task.variant.settings.strength), 100 * int(task.styles[0].stem), 0)
        Image.new("RGB", (40, 30), color).save(task.output)
    [path] = contact_sheets(summarize_batch(swept, [], "").items, tmp_path / "out", anew=True)
    sheet = Image.open(path).convert("RGB")
    assert sheet.width == 7 * CELL_PX + 8 * GAP_PX
    y = sheet.height - GAP_PX - 10
    colors = [sheet.getpixel((k * (CELL_PX + GAP_PX) + CELL_PX // 2, y)) for k in range(1, 7)]
    assert colors == [(round(255 * s), 100 * style, 0) for style in (0, 1) for s in (0.2, 0.5, 0.9)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["strength=0.3,0.5"], "a setting of style and its values"),
        (["style.strength"], "a setting of style and its values"),
        (["style.strength=0.3,,0.5"], "a setting of style and its values"),
        (["style.strength=0.3,0.3"], "has a value twice"),
        (["style.seed=1,2", "style.seed=3"], "names style.seed twice"),
        (["style.strenght=0.3,0.5"], "style.strength"),
        (["style.strength=0.3,high"], "style.strength"),
        (["style.feedforward=always,never"], "style.feedforward"),
    ],
)
def test_a_wrong_sweep_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(GanpipeError, match=sentence):
        plan_sweep(words, settings_with)

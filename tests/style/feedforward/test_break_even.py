"""Feed-forward networks in a batch: trained if asked for or if they save time, kept, registered, used again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ganpipe.compute.device import choose_compute
from ganpipe.errors import GanpipeError
from ganpipe.imaging.float_image import read_float_image
from ganpipe.imaging.provenance import read_origin
from ganpipe.settings.schema import Settings, StyleSettings
from ganpipe.stages.stylize import StyleRequest, stylize_here
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.plan import Variant, plan_batch
from ganpipe.style.feedforward import break_even as break_even_module
from ganpipe.style.feedforward.break_even import break_even, estimate_break_even, train_or_find_networks
from ganpipe.style.feedforward.train import training_params
from ganpipe.style.params import resolve_params
from ganpipe.vgg19.network import Vgg19
from tests.conftest import changed
from tests.style.test_batch import QUICK, save_images

CPU = choose_compute("cpu", "fp32")
ALWAYS = changed(QUICK, feedforward="always", feedforward_images=8)


@pytest.mark.usefixtures("migrated")
def test_a_style_gets_a_network_that_is_kept_and_registered(workspace: Workspace, tmp_path: Path) -> None:
    save_images(tmp_path / "c", "a.png", "b.png", size=(60, 48))
    save_images(tmp_path / "s", "x.png")

    def stylized_images(content: str) -> str:
        job = StyleRequest(
            str(workspace.root),
            (str(tmp_path / "c" / content),),
            (str(tmp_path / "s"),),
            str(tmp_path / "out"),
            Settings(style=ALWAYS),
        )
        (item,) = stylize_here(job).items
        assert (item.state, item.reason) == ("done", "")
        assert {"style_distance", "structure"} <= set(item.quality)
        return str(read_origin(Path(item.output))["by"])

    assert [stylized_images("a.png"), stylized_images("b.png")] == ["feedforward", "feedforward"]
    (folder,) = [p for p in (workspace.state / "feedforward").iterdir() if p.name != "unfinished"]
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "model.json"}
    client = ModelRegistry(workspace).client
    assert [int(v.version) for v in client.search_model_versions("name = 'style-x'")] == [1]
    run_id = client.search_model_versions("name = 'style-x'")[0].run_id
    assert client.get_metric_history(str(run_id), "feedforward_loss")
    with pytest.raises(GanpipeError, match="no champion yet"):
        ModelRegistry(workspace).find_model("champion", None)  # a feed-forward network is nobody's champion


@pytest.mark.usefixtures("migrated")
def test_optimizer_steps_may_follow_a_feedforward_network(workspace: Workspace, tmp_path: Path) -> None:
    save_images(tmp_path / "c", "a.png", size=(60, 48))
    save_images(tmp_path / "s", "x.png")
    settings = Settings(style=changed(ALWAYS, refine_steps=2))
    job = StyleRequest(
        str(workspace.root), (str(tmp_path / "c"),), (str(tmp_path / "s"),), str(tmp_path / "out"), settings
    )
    assert stylize_here(job).items[0].quality["loss"] > 0


def test_a_network_is_trained_only_if_it_saves_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = save_images(tmp_path / "c", *[f"{k}.png" for k in range(12)])
    styles = save_images(tmp_path / "s", "x.png")
    auto = changed(ALWAYS, feedforward="auto")
    plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", auto)])
    for training_s, expected in ((1000.0, 0), (1.0, 1)):
        monkeypatch.setattr(
            break_even_module,
            "estimate_break_even",
            lambda tasks, *_, s=training_s: break_even(len(tasks), 2.0, 0.1, s),
        )
        assert len(train_or_find_networks(plan, auto, CPU, tmp_path / "feedforward")) == expected
    few = plan_batch(contents[:3], styles, tmp_path / "out", [Variant("", auto)])
    assert train_or_find_networks(few, auto, CPU, tmp_path / "others") == []
    assert (
        train_or_find_networks(plan, changed(auto, feedforward="never"), CPU, tmp_path / "feedforward") == []
    )


def test_a_network_is_found_again_until_its_version_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, styles = (
        save_images(tmp_path / "c", "a.png", size=(60, 48)),
        save_images(tmp_path / "s", "x.png"),
    )
    plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", ALWAYS)])

    def is_new() -> bool:
        (trained,) = train_or_find_networks(plan, ALWAYS, CPU, tmp_path / "feedforward")
        return trained.new

    assert [is_new(), is_new()] == [True, False]
    monkeypatch.setattr(break_even_module, "NETWORK_VERSION", break_even_module.NETWORK_VERSION + 1)
    assert [is_new(), is_new()] == [True, False]


@pytest.mark.parametrize(
    ("preset", "expected"), [("draft", 107), ("standard", 171), ("screen", 256), ("print", 256)]
)
def test_crops_are_of_the_size_of_the_network_whatever_the_contents(preset: str, expected: int) -> None:
    trained = training_params(resolve_params(StyleSettings(preset=preset)))
    assert break_even_module._crop_px(trained) == expected


def test_large_sizes_share_a_network_that_is_trained_at_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, styles = (
        save_images(tmp_path / "c", "a.png", size=(660, 60)),
        save_images(tmp_path / "s", "x.png"),
    )
    shapes: list[tuple[int, ...]] = []
    trains = break_even_module.train_network

    def spy(network: Vgg19, contents: list[Callable[[], Tensor]], *rest: Any) -> Any:
        shapes.extend(tuple(content().shape) for content in contents)
        return trains(network, contents, *rest)

    monkeypatch.setattr(break_even_module, "train_network", spy)
    monkeypatch.setattr(break_even_module, "CROP_PX", 48)
    found = []
    for edge_px in (600, 660):
        settings = changed(ALWAYS, long_edge_px=edge_px, feedforward_images=2)
        plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", settings)])
        found += train_or_find_networks(plan, settings, CPU, tmp_path / "feedforward")
    assert [each.new for each in found] == [True, False]
    assert [max(shape) for shape in shapes] == [512]


def test_presets_that_differ_in_optimizer_steps_share_a_network(tmp_path: Path) -> None:
    contents, styles = (
        save_images(tmp_path / "c", "a.png", size=(60, 48)),
        save_images(tmp_path / "s", "x.png"),
    )
    new = []
    for steps in (2, 3):
        settings = changed(ALWAYS, steps=steps)
        plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", settings)])
        new += [found.new for found in train_or_find_networks(plan, settings, CPU, tmp_path / "feedforward")]
    assert new == [True, False]


def test_the_estimate_comes_from_measured_steps(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    plan = plan_batch(contents, styles, tmp_path, [Variant("", QUICK)])
    style = read_float_image(tmp_path / "s/x.png").pixels
    network = Vgg19("relu5_1", pooling="average")
    quick = changed(QUICK, feedforward_images=100)
    found, longer, refined = (
        estimate_break_even(plan.tasks * 100, style, settings, network, CPU)
        for settings in (quick, changed(quick, steps=2000), changed(quick, refine_steps=200))
    )
    assert found.images == 100
    assert 0 < found.optimize_s < longer.optimize_s
    assert found.stylize_s < refined.stylize_s
    assert "100 images in 'x'" in found.sentence("x")


@pytest.mark.parametrize(
    ("each", "feedforward", "training", "least"),
    [
        (10.0, 1.0, 90.0, 11),
        (10.0, 1.0, 89.0, 10),
        (10.0, 1.0, 0.0, 1),
        (1.0, 1.0, 5.0, None),
        (1.0, 2.0, 0.0, None),
    ],
)
def test_the_break_even_is_the_first_number_of_images_that_saves_time(
    each: float, feedforward: float, training: float, least: int | None
) -> None:
    found = break_even(10, each, feedforward, training)
    assert found.from_images == least
    saves = [n for n in range(1, 1000) if n * each > training + n * feedforward]
    assert found.from_images == (saves[0] if saves else None)
    assert found.pays == (10 in saves)


def test_the_break_even_is_said_in_one_sentence() -> None:
    assert break_even(40, 18.0, 0.5, 290.0).sentence("swirl") == (
        "40 images in 'swirl': optimizing takes about 12 min, training a feed-forward network 5 min and stylizing 20 s: "
        "the network saves time from 17 images on."
    )
    assert break_even(1, 18.0, 0.5, 9000.0).sentence("swirl", "glass") == (
        "1 image in 'swirl' and 'glass': optimizing takes about 18 s, training a feed-forward network 2.5 h and stylizing "
        "under 1 s: the network saves time from 515 images on."
    )
    assert break_even(3, 1.0, 2.0, 10.0).sentence().endswith("the network never saves time.")

"""Style transfer: closed forms of its losses, batches that equal their items, batches that are never redone."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.config import StyleSettings
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.images import read_origin
from ganpipe.perceptual import Vgg19
from ganpipe.style.batch import StyleReport, image_paths, stylize_batch
from ganpipe.style.losses import gram, statistics, variation_loss
from ganpipe.style.optimise import pyramid, size_at, stylise
from ganpipe.style.paint import paint_glass, paint_swirl, sample_photos, sample_styles
from ganpipe.training.device import choose_compute
from tests.conftest import noise_image

CPU = choose_compute("cpu", "fp32")
QUICK = StyleSettings(preset="draft", long_edge_px=48, steps=3)


def test_gram_of_constant_channels_is_their_outer_product() -> None:
    features = torch.tensor([2.0, -1.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 5, 4)
    expected = torch.tensor([2.0, -1.0, 3.0]).outer(torch.tensor([2.0, -1.0, 3.0]))
    torch.testing.assert_close(gram(features)[0], expected)


def test_statistics_are_mean_and_covariance() -> None:
    features = torch.randn(1, 4, 6, 7)
    found = statistics(features, "covariance")
    flat = features[0].flatten(1)
    torch.testing.assert_close(found.mean[0], flat.mean(1))
    torch.testing.assert_close(found.second[0], torch.cov(flat, correction=0), atol=1e-5, rtol=1e-4)


def test_variation_of_a_ramp_is_its_squared_slope() -> None:
    ramp = torch.arange(10.0).mul(0.1).expand(1, 3, 4, 10)
    assert variation_loss(ramp).item() == pytest.approx(0.01)
    assert variation_loss(torch.ones(2, 3, 4, 4)).tolist() == [0, 0]


def test_a_pyramid_ends_at_the_asked_size() -> None:
    assert pyramid(192, 3) == [96, 136, 192]
    assert pyramid(40, 3) == [40]
    assert size_at(427, 640, 192) == (128, 192)


@pytest.fixture(scope="module")
def network() -> Vgg19:
    return Vgg19("relu5_1", pooling="average")


def test_a_batch_equals_its_items_one_by_one(network: Vgg19) -> None:
    contents = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    styles = [torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
    together = stylise(network, contents, styles, QUICK, CPU)
    for k in range(2):
        alone = stylise(network, contents[k : k + 1], styles[k : k + 1], QUICK, CPU)
        assert (together[k] - alone[0]).abs().max() < 2 / 255


@pytest.mark.parametrize("kind", ["covariance", "gram"])
@pytest.mark.parametrize("init", ["content", "noise"])
def test_the_loss_falls(network: Vgg19, kind: str, init: str) -> None:
    losses: list[float] = []
    content, style = torch.rand(1, 3, 48, 48), torch.rand(1, 3, 48, 48)
    settings = replace(QUICK, steps=12, statistics=kind, init=init)
    stylise(network, content, [style], settings, CPU, lambda step: losses.append(step.losses()[0]))
    assert losses[-1] < losses[0]


def test_without_style_the_content_stays(network: Vgg19) -> None:
    content = torch.rand(1, 3, 48, 48)
    settings = replace(QUICK, style_weight=0.0, variation_weight=0.0)
    result = stylise(network, content, [torch.rand(1, 3, 48, 48)], settings, CPU)
    assert (result - content).abs().mean() < 0.05


def pictures(folder: Path, *names: str, size: tuple[int, int] = (40, 30)) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for k, name in enumerate(names):
        noise_image(k, size).save(folder / name)
        paths.append(folder / name)
    return paths


def run(contents: list[Path], styles: list[Path], out: Path, settings: StyleSettings = QUICK) -> StyleReport:
    return stylize_batch(contents, styles, out, settings, CPU)


def test_a_second_run_paints_nothing_and_changed_settings_paint_all(tmp_path: Path) -> None:
    contents, styles = pictures(tmp_path / "c", "a.png", "b.jpg"), pictures(tmp_path / "s", "x.png", "y.png")
    first = run(contents, styles, tmp_path / "out")
    assert (first.done, first.skipped, first.failed) == (4, 0, 0)
    assert {Path(i.output).name for i in first.items} == {"a__x.png", "a__y.png", "b__x.png", "b__y.png"}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    second = run(contents, styles, tmp_path / "out")
    assert (second.done, second.skipped) == (0, 4)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    assert run(contents, styles, tmp_path / "out", replace(QUICK, steps=2)).done == 4


def test_a_damaged_output_is_painted_again(tmp_path: Path) -> None:
    contents, styles = pictures(tmp_path / "c", "a.png"), pictures(tmp_path / "s", "x.png")
    output = Path(run(contents, styles, tmp_path / "out").items[0].output)
    good = output.read_bytes()
    output.write_bytes(good[:-20])
    assert run(contents, styles, tmp_path / "out").done == 1
    assert output.read_bytes() == good


def test_one_bad_file_is_reported_and_stops_nobody(tmp_path: Path) -> None:
    contents, styles = pictures(tmp_path / "c", "a.png"), pictures(tmp_path / "s", "x.png")
    bad = tmp_path / "c/bad.png"
    bad.write_bytes(b"no picture")
    report = run([bad, *contents], styles, tmp_path / "out")
    assert [i.state for i in report.items] == ["failed", "done"]
    assert "bad.png: it is none of" in report.items[0].reason


def test_two_contents_of_one_name_get_two_outputs(tmp_path: Path) -> None:
    contents = pictures(tmp_path / "c", "a.png") + pictures(tmp_path / "d", "a.jpg")
    report = run(contents, pictures(tmp_path / "s", "x.png"), tmp_path / "out")
    assert len({i.output for i in report.items}) == 2
    assert all(Path(i.output).exists() for i in report.items)


def test_a_signal_keeps_what_is_finished_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    contents = pictures(tmp_path / "c", "a.png") + pictures(tmp_path / "d", "b.png", size=(30, 40))
    styles = pictures(tmp_path / "s", "x.png")

    def interrupt(progress: object) -> None:
        if getattr(progress, "done", 0) > 150:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        stylize_batch(contents, styles, tmp_path / "out", QUICK, CPU, report=interrupt)
    report = run(contents, styles, tmp_path / "out")
    assert (report.done, report.skipped) == (1, 1)


def test_transparency_and_origin_are_kept(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    image = noise_image(0, (40, 40), "RGBA")
    image.putalpha(Image.linear_gradient("L").resize((40, 40)))
    image.save(tmp_path / "c/a.png")
    report = run([tmp_path / "c/a.png"], pictures(tmp_path / "s", "x.png"), tmp_path / "out")
    with Image.open(report.items[0].output) as result:
        assert result.mode == "RGBA"
        alpha = np.asarray(result.getchannel("A"))
    assert alpha[0].mean() < 20
    assert alpha[-1].mean() > 235
    origin = read_origin(Path(report.items[0].output))
    assert (origin["content"]["name"], origin["style"]["name"]) == ("a.png", "x.png")


def test_paths_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match="There is no file or folder"):
        image_paths([tmp_path / "nowhere"])
    with pytest.raises(GanpipeError, match="No image was found"):
        image_paths([tmp_path])


def test_painted_styles_and_photos_are_pictures_with_many_colours(tmp_path: Path) -> None:
    for path in sample_styles(tmp_path) + sample_photos(tmp_path):
        with Image.open(path) as image:
            assert (
                len(np.unique(np.asarray(image.convert("RGB").resize((64, 64))).reshape(-1, 3), axis=0)) > 500
            )
    assert paint_swirl(64).tobytes() == paint_swirl(64).tobytes()
    assert paint_glass(64).tobytes() == paint_glass(64).tobytes()

"""Colors, blends and masks of stylized images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import read_origin
from ganpipe.style.color import luminance, match_colors, parse_shares, read_masks, transfer_luminance
from tests.conftest import changed, noise_image
from tests.style.test_batch import QUICK, run, save_images


def test_a_blend_is_one_image_of_all_styles(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png", "y.png")
    report = run(contents, styles, tmp_path / "out", changed(QUICK, blend="3+1"))
    assert [Path(i.output).name for i in report.items] == ["a__x+y.png"]
    assert read_origin(Path(report.items[0].output))["shares"] == [0.75, 0.25]
    assert parse_shares("3+1", 2) == (0.75, 0.25)
    for wrong in ("1", "1+x", "0+0", "-1+2"):
        with pytest.raises(GanpipeError, match="a share for each of the 2 styles"):
            parse_shares(wrong, 2)


def test_masks_are_found_by_name_and_say_when_they_are_missing(tmp_path: Path) -> None:
    contents, styles = (
        save_images(tmp_path / "c", "a.png", "b.png"),
        save_images(tmp_path / "s", "x.png", "y.png"),
    )
    (tmp_path / "m").mkdir()
    half = Image.new("L", (40, 30))
    half.paste(255, (0, 0, 20, 30))
    half.save(tmp_path / "m/a.png")
    whole = tmp_path / "rest.png"
    half.point(lambda v: 255 - v).save(whole)
    shares = read_masks([tmp_path / "m/a.png", whole], (30, 40))
    assert (shares[0, :, :20] == 1).all()
    assert (shares.sum(0) == 1).all()
    report = run(contents, styles, tmp_path / "out", masks=(tmp_path / "m", whole))
    assert [i.state for i in report.items] == ["done", "failed"]
    assert "no mask named b" in report.items[1].reason
    with pytest.raises(GanpipeError, match="1 masks are given for 2 styles"):
        run(contents, styles, tmp_path / "out", masks=(whole,))


def test_luminance_keeps_the_contents_colors(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    report = run(contents, styles, tmp_path / "out", changed(QUICK, color_mode="luminance"))
    assert report.done == 1
    stylized_images, content = torch.rand(1, 3, 8, 8) * 0.2 + 0.4, torch.rand(1, 3, 8, 8) * 0.1 + 0.45
    mixed = transfer_luminance(stylized_images, content)
    torch.testing.assert_close(luminance(mixed), luminance(stylized_images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed - luminance(mixed), content - luminance(content), atol=1e-5, rtol=1e-4)


def test_matched_colors_have_the_contents_mean_and_covariance() -> None:
    style, content = (
        torch.rand(1, 3, 20, 20),
        torch.rand(1, 3, 30, 30) * torch.tensor([0.2, 0.1, 0.3]).view(1, 3, 1, 1) + 0.3,
    )
    matched = match_colors(style, content)[0].flatten(1)
    torch.testing.assert_close(matched.mean(1), content[0].flatten(1).mean(1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(torch.cov(matched), torch.cov(content[0].flatten(1)), atol=2e-4, rtol=2e-2)


@pytest.mark.parametrize("color_mode", ["style", "luminance", "match"])
def test_gray_content_in_gray_style_stays_gray(tmp_path: Path, color_mode: str) -> None:
    for folder, seed in (("c", 0), ("s", 1)):
        (tmp_path / folder).mkdir()
        noise_image(seed, (40, 30), "L").convert("RGB").save(tmp_path / folder / "a.jpg")
    settings = changed(QUICK, color_mode=color_mode)
    report = run([tmp_path / "c/a.jpg"], [tmp_path / "s/a.jpg"], tmp_path / "out", settings)
    with Image.open(report.items[0].output) as image:
        pixels = np.asarray(image).astype(int)
    assert (pixels.max(2) == pixels.min(2)).all()
    assert pixels.std() > 5

"""Colors, blends and masks of stylized images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import read_origin
from ganpipe.style.color import (
    finish_colors,
    luminance,
    match_colors,
    mean_and_covariance,
    parse_shares,
    read_masks,
    styles_for,
    transfer_luminance,
)
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


def test_a_mask_is_what_is_opaque_or_what_is_white(tmp_path: Path) -> None:
    """Strokes on a transparent layer count in any color; a picture without transparency by how white it is."""
    strokes = Image.new("RGBA", (80, 60))
    strokes.paste((200, 0, 0, 255), (0, 0, 40, 60))
    strokes.paste((0, 0, 0, 51), (40, 0, 80, 60))
    strokes.save(tmp_path / "strokes.png")
    drawn = Image.new("RGBA", (80, 60), "black")
    drawn.paste((255, 255, 255, 255), (0, 0, 40, 60))
    drawn.save(tmp_path / "drawn.png")
    painted, white = (read_masks([tmp_path / f"{name}.png"], (60, 80))[0] for name in ("strokes", "drawn"))
    torch.testing.assert_close(painted[0, [0, -1]], torch.tensor([1.0, 0.2]))
    assert (white[:, :40] == 1).all()
    assert (white[:, 40:] == 0).all()


def test_overlapping_masks_share_and_small_ones_get_soft_edges(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 255).save(tmp_path / "a.png")
    small = Image.new("L", (4, 3))
    small.paste(255, (0, 0, 2, 3))
    small.save(tmp_path / "b.png")
    first, second = read_masks([tmp_path / "a.png", tmp_path / "b.png"], (30, 40))
    torch.testing.assert_close(first[0, [0, -1]], torch.tensor([0.5, 1.0]))
    assert second[0].unique().numel() > 5
    assert (first + second - 1).abs().max() < 1e-6


def test_what_no_mask_covers_stays_as_it_is_in_the_content(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    mask = Image.new("L", (40, 30))
    mask.paste(255, (0, 0, 20, 30))
    mask.save(tmp_path / "mask.png")
    sized = changed(QUICK, long_edge_px=40)
    report = run(contents, styles, tmp_path / "out", sized, masks=(tmp_path / "mask.png",))
    with Image.open(contents[0]) as content, Image.open(report.items[0].output) as made:
        ours, theirs = np.asarray(made).astype(int), np.asarray(content.convert("RGB")).astype(int)
    assert ours.shape == theirs.shape
    assert (ours[:, 20:] == theirs[:, 20:]).all()
    assert abs(ours[:, :20] - theirs[:, :20]).mean() > 2
    stylized, gray = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    half = torch.full((1, 4, 4), 0.5)
    mixed = finish_colors(stylized, gray, [stylized], "style", half)
    torch.testing.assert_close(mixed, (stylized + gray) / 2)


@pytest.mark.parametrize("color_mode", ["luminance", "match"])
def test_colors_are_matched_within_each_region(color_mode: str) -> None:
    """Left of the content is dark and blue, right is light and red: each style fits its own half, not the whole."""
    blue, red = (
        torch.rand(1, 3, 20, 20) * 0.1 + torch.tensor(c).view(1, 3, 1, 1)
        for c in ([0.1, 0.1, 0.4], [0.8, 0.5, 0.5])
    )
    content, style = torch.cat([blue, red], 3), torch.rand(1, 3, 16, 16) * 0.5 + 0.2
    masks = torch.zeros(2, 20, 40)
    masks[0, :, :20], masks[1, :, 20:] = 1, 1
    found = styles_for(content, [style, style], color_mode, masks)
    for half, own in zip((blue, red), found, strict=True):
        alone = styles_for(half, [style], color_mode)[0]
        torch.testing.assert_close(own, alone, atol=1e-4, rtol=1e-3)
    empty, whole = mean_and_covariance(content, torch.zeros(20, 40)), mean_and_covariance(content)
    torch.testing.assert_close(empty, whole, atol=1e-4, rtol=1e-2)


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

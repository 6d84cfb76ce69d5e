"""Joint upsampling: what a linear map of the content gets back, and what is only enlarged."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.style.joint_upsampling import joint_upsample
from ganpipe.style.optimize import resize


def sharp_disk() -> Tensor:
    """A bright disk on a dark ground, `[1, 3, 96, 128]`, with an edge of one pixel."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    inside = (30 - ((y - 48) ** 2 + (x - 64) ** 2).sqrt()).clamp(0, 1)
    return (0.2 + 0.6 * inside).expand(1, 3, -1, -1)


def test_a_linear_map_of_the_content_gets_its_edges_back() -> None:
    content = sharp_disk()
    by_channel = torch.tensor([0.5, 1.0, -0.7]).view(1, 3, 1, 1)
    whole = (0.5 + by_channel * (content - 0.5)).clamp(0, 1)
    small = resize(whole, (24, 32))
    enlarged = F.interpolate(small, (96, 128), mode="bicubic").clamp(0, 1)
    found = joint_upsample(small, content)
    error, before = ((image - whole).square().mean((0, 2, 3)) for image in (found, enlarged))
    assert (error < 0.25 * before).all()


def test_over_a_plain_content_strokes_are_enlarged_bicubically() -> None:
    strokes = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    found = joint_upsample(strokes, torch.full((2, 3, 48, 64), 0.4))
    torch.testing.assert_close(found, F.interpolate(strokes, (48, 64), mode="bicubic").clamp(0, 1))


def test_an_image_of_the_contents_size_is_left_alone() -> None:
    content = sharp_disk()
    assert joint_upsample(content, content) is content

"""The feed-forward network: closed forms of its norm, what it stylizes, and files that are not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.style.feedforward.network import (
    MARGIN_PX,
    NETWORK_PX,
    ConditionalNorm,
    FeedforwardConfig,
    FeedforwardNetwork,
    _Norm,
    apply_network,
    load_network,
    save_network,
)
from ganpipe.style.joint_upsampling import joint_upsample
from ganpipe.style.optimize import resize, size_at

CPU = Compute(torch.device("cpu"), "fp32")
TWO = FeedforwardConfig(("red", "blue"), width=4, blocks=2)


def soft_image(
    seed: int, height: int = 52, width: int = 64, rgb: tuple[float, float, float] = (1, 1, 1)
) -> Tensor:
    """Soft blobs `[1, 3, H, W]` in [0, 1]."""
    noise = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bilinear") * torch.tensor(rgb).view(1, 3, 1, 1)


def network_with_distinct_styles(config: FeedforwardConfig = TWO, seed: int = 0) -> FeedforwardNetwork:
    """With rows that differ from style to style."""
    torch.manual_seed(seed)
    feedforward = FeedforwardNetwork(config)
    for norm in (m for m in feedforward.modules() if isinstance(m, ConditionalNorm)):
        torch.nn.init.normal_(norm.scale, 1.0, 0.3)
        torch.nn.init.normal_(norm.shift, 0.0, 0.3)
    return feedforward


# The network.


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (17, 33), (48, 64), (50, 47)])
def test_an_image_of_any_size_keeps_it_and_stays_in_range(size: tuple[int, int]) -> None:
    stylized_images = apply_network(
        network_with_distinct_styles(), torch.rand(2, 3, *size), torch.eye(2), CPU
    )
    assert stylized_images.shape == (2, 3, *size)
    assert stylized_images.dtype == torch.float32
    assert not stylized_images.requires_grad
    assert stylized_images.min() >= 0
    assert stylized_images.max() <= 1


def test_the_norm_by_hand_is_torchs_with_its_gradient() -> None:
    """`gradcheck` compares with differences of the function itself, so the first line ties it to torch's."""
    x, scale, shift = (
        torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((2, 3, 4, 5), (2, 3), (2, 3))
    )
    expected = F.instance_norm(x) * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(_Norm.apply(x, scale, shift), expected)
    assert torch.autograd.gradcheck(_Norm.apply, (x, scale, shift))


def test_a_normalized_map_has_the_mean_and_deviation_of_its_style_or_of_the_blend() -> None:
    norm = ConditionalNorm(3, styles=2)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([[1.0, 2.0, 3.0], [5.0, 4.0, 1.0]]))
        norm.shift.copy_(torch.tensor([[0.0, -1.0, 7.0], [2.0, 2.0, 2.0]]))
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    found = norm(torch.randn(3, 3, 16, 16), shares)
    torch.testing.assert_close(found.mean((2, 3)), shares @ norm.shift)
    torch.testing.assert_close(found.std((2, 3), correction=0), shares @ norm.scale, atol=1e-3, rtol=1e-3)


def test_blends_lie_on_a_path_from_one_style_to_the_other() -> None:
    """The further from a style, the less like it; the two ends are the styles themselves."""
    feedforward, content = network_with_distinct_styles(), soft_image(1)
    shares = torch.tensor([[1 - t, t] for t in (0.0, 0.25, 0.5, 0.75, 1.0)])
    stylized_images = apply_network(feedforward, content.expand(5, -1, -1, -1), shares, CPU)
    from_first, to_last = (
        (stylized_images - end).square().mean((1, 2, 3)) for end in (stylized_images[0], stylized_images[4])
    )
    assert (from_first.diff() > 0).all()
    assert (to_last.diff() < 0).all()


def test_a_plain_image_gets_structure_from_the_noise_and_the_same_each_time() -> None:
    feedforward, plain = network_with_distinct_styles(), torch.full((2, 3, 32, 32), 0.5)
    stylized_images = apply_network(feedforward, plain, torch.tensor([[1.0, 0.0]]), CPU)
    assert stylized_images[0, :, 8:24, 8:24].std((1, 2)).min() > 0.01
    assert torch.equal(stylized_images[0], stylized_images[1])
    assert torch.equal(stylized_images, apply_network(feedforward, plain, torch.tensor([[1.0, 0.0]]), CPU))


def test_an_image_does_not_depend_on_its_companions() -> None:
    feedforward, images, shares = network_with_distinct_styles(), torch.rand(3, 3, 24, 24), torch.rand(3, 2)
    together = apply_network(feedforward, images, shares, CPU)
    alone = [apply_network(feedforward, images[k : k + 1], shares[k : k + 1], CPU) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_the_margin_is_cut_off_where_it_was_added(size: tuple[int, int]) -> None:
    """Without its last convolution the network returns the normalized image, in place."""
    feedforward = FeedforwardNetwork(TWO)
    torch.nn.init.zeros_(feedforward.out.weight)
    images, shares = torch.rand(1, 3, *size), torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        found = feedforward(images, shares, margin_px=MARGIN_PX)
    torch.testing.assert_close(found, torch.sigmoid(F.instance_norm(images)), atol=1e-4, rtol=1e-4)


def test_an_image_is_stylized_with_a_margin() -> None:
    feedforward, images, shares = (
        network_with_distinct_styles(),
        torch.rand(1, 3, 32, 32),
        torch.tensor([[1.0, 0.0]]),
    )
    found = apply_network(feedforward, images, shares, CPU)
    with torch.no_grad():
        torch.testing.assert_close(found, feedforward(images, shares, margin_px=MARGIN_PX))
        assert not torch.allclose(found, feedforward(images, shares), atol=1e-3)


def test_a_large_image_is_stylized_smaller_and_enlarged_with_the_details_of_its_content() -> None:
    feedforward, content = network_with_distinct_styles(), soft_image(1, 480, 640)
    content[:, :, 200:280, 300:303] = 1.0  # a thin line
    shares = torch.tensor([[1.0, 0.0]])
    small = resize(content, size_at(480, 640, NETWORK_PX))
    expected = joint_upsample(apply_network(feedforward, small, shares, CPU), content)
    torch.testing.assert_close(apply_network(feedforward, content, shares, CPU), expected)


# Files.


def test_a_saved_network_gives_the_same_image_when_it_is_loaded(tmp_path: Path) -> None:
    feedforward = network_with_distinct_styles()
    save_network(tmp_path, feedforward, TWO, {"inputs": {"size_px": 48}})
    loaded, note = load_network(tmp_path)
    content, shares = soft_image(1), torch.tensor([[0.3, 0.7]])
    assert torch.equal(
        apply_network(loaded, content, shares, CPU), apply_network(feedforward, content, shares, CPU)
    )
    assert loaded.config == TWO
    assert not loaded.training
    assert note["origin"] == {"inputs": {"size_px": 48}}
    assert note["model"]["styles"] == ["red", "blue"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_a_damaged_or_foreign_network_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path, network_with_distinct_styles(), TWO, {})
    weights, note = tmp_path / "model.safetensors", tmp_path / "model.json"
    before = json.loads(note.read_text())
    note.write_text(json.dumps(before | {"model": before["model"] | {"width": 8}}))
    with pytest.raises(GanpipeError, match="does not fit its model"):
        load_network(tmp_path)
    note.write_text(json.dumps(before | {"model": {}}))
    with pytest.raises(GanpipeError, match="does not fit its model"):
        load_network(tmp_path)
    note.write_text(json.dumps(before))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(GanpipeError, match="missing or damaged"):
        load_network(tmp_path)
    weights.unlink()
    with pytest.raises(GanpipeError, match="missing or damaged"):
        load_network(tmp_path)

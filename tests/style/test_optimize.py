"""Style transfer: closed forms of its losses, batches that equal their items, tiles that equal the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganpipe.compute.device import choose_compute
from ganpipe.errors import GanpipeError
from ganpipe.samples.photos import sample_photos
from ganpipe.samples.styles import draw_glass, draw_swirl, sample_styles
from ganpipe.settings.schema import StyleSettings
from ganpipe.style import optimality_gap, optimize
from ganpipe.style.losses import (
    Moments,
    Statistics,
    blend,
    matrix_sqrt,
    moments,
    statistics,
    variation_loss,
    variation_of_rows,
    wasserstein,
)
from ganpipe.style.objective import style_network
from ganpipe.style.optimize import (
    Descent,
    StyleTask,
    objective_at,
    pyramid,
    resize,
    rotate,
    size_at,
    style_targets,
    stylize,
)
from ganpipe.style.params import StyleParams, resolve_params
from ganpipe.style.tiling import reach_px, tiles_of
from ganpipe.vgg19.network import Vgg19
from tests.conftest import changed

CPU = choose_compute("cpu", "fp32")
QUICK = StyleSettings(preset="draft", long_edge_px=48, steps=3, scales=2)


def noise(seed: int, height: int = 48, width: int = 48) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def quick(**changes: object) -> StyleParams:
    return resolve_params(changed(QUICK, **changes))


@pytest.fixture(scope="module")
def network() -> Vgg19:
    return style_network("relu5_1")


def test_an_image_is_enlarged_with_the_edges_of_its_content_and_moments_for_a_mean_over_more_pixels() -> None:
    content = noise(3, 96, 64)[:, :1].expand(-1, 3, -1, -1)
    small = resize(content, (48, 32))
    descent = replace(Descent.at(small), first=torch.ones_like(small), second=torch.ones_like(small))
    found = descent.enlarge((96, 64), content)
    without = resize(small, (96, 64))
    assert (found.canvas - content).square().mean() < 0.5 * (without - content).square().mean()
    torch.testing.assert_close(descent.enlarge((96, 64), None).canvas, without)
    torch.testing.assert_close(found.first, torch.full_like(content, 1 / 4))
    torch.testing.assert_close(found.second, torch.full_like(content, 1 / 16))


def test_moments_of_bf16_features_are_those_of_float32_with_their_gradient() -> None:
    """Summed in chunks of positions, and what is left over: bf16 alone would be off by 3 in 1,000."""
    features = noise(0, 50, 61).repeat(1, 4, 1, 1).bfloat16().requires_grad_(True)
    exact = features.detach().double().requires_grad_(True)
    slopes = noise(1, 12, 12)[0, 0], noise(2, 1, 12)[0, 0, 0]

    def total(sums: Moments) -> Tensor:
        return (sums.second * slopes[0]).sum() + (sums.first * slopes[1]).sum() * 100

    found = moments(features)
    flat = exact.flatten(2).transpose(1, 2)
    expected = Moments(3050, torch.tensor(0), flat.sum(1)[:, None], (flat.transpose(1, 2) @ flat)[:, None])
    torch.testing.assert_close(found.second.double(), expected.second, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.first.double(), expected.first, rtol=1e-3, atol=0)
    by_found, by_exact = (
        torch.autograd.grad(total(found), features)[0],
        torch.autograd.grad(total(expected), exact)[0],
    )
    torch.testing.assert_close(by_found.double(), by_exact, rtol=2e-2, atol=0.2)


def test_gram_of_constant_channels_is_their_outer_product() -> None:
    features = torch.tensor([2.0, -1.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 5, 4)
    expected = torch.tensor([2.0, -1.0, 3.0]).outer(torch.tensor([2.0, -1.0, 3.0]))
    torch.testing.assert_close(statistics(moments(features), "gram").second[0, 0], expected)


def test_statistics_are_mean_and_covariance() -> None:
    features = torch.randn(1, 4, 6, 7)
    found = statistics(moments(features), "covariance")
    flat = features[0].flatten(1)
    torch.testing.assert_close(found.mean[0, 0], flat.mean(1))
    torch.testing.assert_close(found.second[0, 0], torch.cov(flat, correction=0), atol=1e-5, rtol=1e-4)


def test_a_region_has_the_statistics_of_its_own_pixels() -> None:
    features = torch.randn(1, 4, 6, 8)
    left = torch.zeros(1, 1, 6, 8)
    left[..., :4] = 1
    regions = torch.cat([left, 1 - left], 1)
    found = statistics(moments(features, regions), "covariance")
    alone = statistics(moments(features[..., 4:]), "covariance")
    torch.testing.assert_close(found.mean[:, 1:], alone.mean)
    torch.testing.assert_close(found.second[:, 1:], alone.second, atol=1e-5, rtol=1e-4)


def test_the_second_moment_has_the_gradient_of_the_plain_product() -> None:
    features, slope = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 3)
    flat = features.flatten(2)
    plain = torch.autograd.grad(((flat @ flat.transpose(1, 2)) * slope).sum(), features)[0]
    ours = torch.autograd.grad((moments(features).second[:, 0] * slope).sum(), features)[0]
    torch.testing.assert_close(ours, plain)


def test_wasserstein_of_commuting_normals_is_known() -> None:
    """‖Δμ‖² + Σ(√a − √b)² for diagonal covariances, over the target's size."""
    a, b, shift = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 1.0]), torch.tensor([1.0, 2.0, 0.0])
    found, target = (
        Statistics(mean.view(1, 1, 3), torch.diag(variance).view(1, 1, 3, 3))
        for mean, variance in ((shift, a), (torch.zeros(3), b))
    )
    expected = (5 + (a.sqrt() - b.sqrt()).square().sum()) / b.sum()
    assert wasserstein(found, target, matrix_sqrt(target.second)).item() == pytest.approx(
        expected.item(), rel=1e-3
    )
    assert abs(wasserstein(target, target, matrix_sqrt(target.second)).item()) < 1e-6


def test_a_blend_has_the_mean_of_the_statistics() -> None:
    parts = [Statistics(torch.full((1, 1, 2), v), torch.full((1, 1, 2, 2), 10 * v)) for v in (1.0, 5.0)]
    mixed = blend(parts, (0.75, 0.25))
    assert (mixed.mean[0, 0, 0].item(), mixed.second[0, 0, 0, 0].item()) == (2.0, 20.0)


def test_variation_of_a_ramp_counts_its_pairs() -> None:
    """Slope 0.1 along 10 columns of 4 rows: 4·9 pairs in rows, 3·9 on each diagonal, none in columns."""
    ramp = torch.arange(10.0).mul(0.1).expand(1, 3, 4, 10)
    assert variation_loss(ramp).item() == pytest.approx(0.01 * (2 / 3 * 36 + 1 / 6 * 2 * 27) / 40)
    assert variation_loss(torch.ones(2, 3, 4, 4)).tolist() == [0, 0]
    images = torch.rand(2, 3, 9, 7)
    strips = variation_of_rows(images, 0, 4) + variation_of_rows(images, 4, 9)
    torch.testing.assert_close(strips, variation_of_rows(images, 0, 9))


def test_a_pyramid_ends_at_the_asked_size() -> None:
    assert pyramid(192, 3) == [96, 136, 192]
    assert pyramid(40, 3) == [40]
    assert size_at(427, 640, 192) == (128, 192)


def test_scales_follow_from_the_size_and_begin_at_about_128_px() -> None:
    for edge in (128, 160, 256, 300, 512, 1000, 2048):
        scales = resolve_params(StyleSettings(long_edge_px=edge)).scales
        assert 107 <= pyramid(edge, scales)[0] <= 153
    assert resolve_params(StyleSettings(long_edge_px=96)).scales == 1
    assert resolve_params(StyleSettings(long_edge_px=512, scales=2)).scales == 2


@pytest.mark.parametrize("kind", ["covariance", "wasserstein", "gram"])
def test_a_batch_equals_its_items_one_by_one(network: Vgg19, kind: str) -> None:
    items = [StyleTask(noise(k), (noise(10 + k, 40, 50),)) for k in range(2)]
    params = quick(statistics=kind)
    together = stylize(network, items, params, CPU)
    for k, item in enumerate(items):
        alone = stylize(network, [item], params, CPU)
        assert (together.images[k] - alone.images[0]).abs().max() < 2 / 255


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("covariance", "wasserstein")), "gram"]
)
def test_tiles_have_the_losses_and_the_gradient_of_the_whole(network: Vgg19, kind: str) -> None:
    """Sizes that are no multiple of a cell, a mask, and tiles narrower than the halo."""
    masks = torch.zeros(2, 150, 203)
    masks[0, :, :90], masks[1, :, 90:] = 1, 1
    item = StyleTask(noise(0, 150, 203), (noise(1, 60, 70), noise(2, 90, 50)), (0.5, 0.5), masks)
    canvas, params = noise(3, 150, 203), quick(statistics=kind, long_edge_px=203)
    whole, tiled = (
        objective_at(network, [item], (150, 203), 203, params, CPU, tile_px).losses_and_slope(canvas)
        for tile_px in (0, 64)
    )
    torch.testing.assert_close(tiled[0].total, whole[0].total, rtol=1e-4, atol=1e-6)
    assert (tiled[1] - whole[1]).norm() < 1e-3 * whole[1].norm()


@pytest.mark.slow
def test_tiled_images_equal_whole_ones_after_a_few_steps(network: Vgg19) -> None:
    """Over many steps Adam makes more of the rounding (LOG.md)."""
    item = StyleTask(noise(0, 60, 160), (noise(1, 64, 64),))
    params = quick(long_edge_px=160, content_weight=1.0)
    whole, tiled = (stylize(network, [item], params, CPU, tile_px).images for tile_px in (0, 48))
    assert (whole - tiled).abs().max() < 1 / 255


def test_tiles_cover_each_pixel_once_and_reach_as_far_as_the_network_sees() -> None:
    count = torch.zeros(150, 203)
    for tile in tiles_of(150, 203, 64, "relu5_1"):
        count[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop] += 1
    assert (count == 1).all()
    assert (reach_px("relu1_1"), reach_px("relu5_1")) == (16, 80)


def test_a_cell_sees_no_farther_than_its_reach(network: Vgg19) -> None:
    image = noise(0, 16, 512).requires_grad_(True)
    network(image, ("relu5_1",))["relu5_1"][..., 16].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert 256 - reach_px("relu5_1") <= seen.min()
    assert seen.max() < 272 + reach_px("relu5_1")


@pytest.mark.parametrize("kind", ["covariance", "wasserstein", "gram"])
@pytest.mark.parametrize("init", ["content", "noise"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_loss_falls(network: Vgg19, kind: str, init: str, optimizer: str) -> None:
    losses: list[float] = []
    params = quick(steps=12, scales=1, statistics=kind, init=init, optimizer=optimizer, stop_below=0.0)
    item = StyleTask(noise(0), (noise(1),))
    stylize(network, [item], params, CPU, on_step=lambda step: losses.append(step.losses.total.item()))
    assert losses[-1] < losses[0]


def test_without_style_the_content_stays(network: Vgg19) -> None:
    content = noise(0)
    params = quick(style_weight=0.0, variation_weight=0.0)
    result = stylize(network, [StyleTask(content, (noise(1),))], params, CPU).images
    assert (result - content).abs().mean() < 0.05


def test_an_item_has_settled_when_its_loss_hardly_falls_from_window_to_window() -> None:
    history = [torch.tensor([1.0, 0.9**step]) for step in range(25)]
    assert optimize._has_converged(history[:20], 0.01).tolist() == [True, False]
    assert optimize._has_converged(history, 0.01).tolist() == [
        False,
        False,
    ]  # between two windows nobody looks
    assert optimize._has_converged(history[:20], 0.0).tolist() == [False, False]


def test_an_item_that_leaves_changes_nothing_for_the_others(
    network: Vgg19, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [StyleTask(noise(k), (noise(10 + k),)) for k in range(2)]
    params, active = quick(steps=12, scales=1), []
    alone = [
        stylize(network, [item], replace(params, steps=n), CPU)
        for item, n in zip(items, (5, 12), strict=True)
    ]

    def first_leaves(history: list[Tensor], stop_below: float) -> Tensor:
        return torch.tensor([len(history) == 5, False]) if len(history[0]) == 2 else torch.tensor([False])

    monkeypatch.setattr(optimize, "_has_converged", first_leaves)
    stylized_images = stylize(network, items, params, CPU, on_step=lambda step: active.append(step.active))
    assert (stylized_images.steps, active) == ([5, 12], [2] * 5 + [1] * 7)
    for k in range(2):
        assert (stylized_images.images[k] - alone[k].images[0]).abs().max() < 4 / 255


def test_each_mask_has_its_own_style(network: Vgg19) -> None:
    """A red style to the left and a blue one to the right."""
    red, blue = (
        torch.rand(1, 3, 48, 48) * 0.2 + torch.tensor(c).view(1, 3, 1, 1) * 0.8
        for c in ([1.0, 0, 0], [0, 0, 1.0])
    )
    masks = torch.zeros(2, 48, 96)
    masks[0, :, :48], masks[1, :, 48:] = 1, 1
    item = StyleTask(noise(0, 48, 96), (red, blue), (0.5, 0.5), masks)
    image = stylize(network, [item], quick(steps=60, long_edge_px=96, content_weight=0.05), CPU).images[0]
    left, right = image[:, :, :40].mean((1, 2)), image[:, :, 56:].mean((1, 2))
    assert left[0] > left[2] + 0.1
    assert right[2] > right[0] + 0.1


def test_a_region_counts_by_its_area(network: Vgg19) -> None:
    """A mask over a quarter of a uniform image has a quarter of the style loss of the whole: its pixels are pushed no harder."""
    flat, style = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.8)
    quarter = torch.zeros(1, 64, 64)
    quarter[:, :32, :32] = 1
    params = quick(long_edge_px=64, style_layers="relu1_1")
    losses = [
        objective_at(network, [StyleTask(flat, (style,), masks=m)], (64, 64), 64, params, CPU, 0)
        .losses_and_slope(flat)[0]
        .style.item()
        for m in (None, quarter)
    ]
    assert losses[1] == pytest.approx(losses[0] / 4, rel=0.1)


def test_strength_goes_from_the_content_to_the_style(network: Vgg19) -> None:
    item = StyleTask(noise(0), (noise(1) * 0.3,))
    parts = []
    for strength in (0.1, 0.5, 0.9):
        seen = []
        params = quick(steps=25, scales=1, strength=strength, content_weight=0.3, stop_below=0.0)
        stylize(network, [item], params, CPU, on_step=lambda step, seen=seen: seen.append(step.losses))
        parts.append((seen[-1].content.item(), seen[-1].style.item()))
    assert parts[0][0] < parts[1][0] < parts[2][0]
    assert parts[0][1] > parts[1][1] > parts[2][1]


def test_a_layer_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(GanpipeError, match="did you mean relu4_2"):
        quick(content_layers="relu4_22")
    with pytest.raises(GanpipeError, match="are both 0: raise one of them"):
        quick(content_weight=0.0, style_weight=0.0)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    features = torch.randn(1, 3, 4, 6)
    joined = moments(features[..., :2]) + moments(features[..., 2:])
    whole = moments(features)
    assert isinstance(joined, Moments)
    torch.testing.assert_close(joined.second, whole.second)
    torch.testing.assert_close(joined.first, whole.first)


def test_drawn_styles_and_photos_are_images_with_many_colors(tmp_path: Path) -> None:
    for path in sample_styles(tmp_path) + sample_photos(tmp_path):
        with Image.open(path) as image:
            small = np.asarray(image.convert("RGB").resize((64, 64))).reshape(-1, 3)
        assert len(np.unique(small, axis=0)) > 500
    assert draw_swirl(64).tobytes() == draw_swirl(64).tobytes()
    assert draw_glass(64).tobytes() == draw_glass(64).tobytes()


@pytest.mark.slow
def test_the_optimality_gap_falls_with_the_work_and_is_none_for_the_long_run(
    network: Vgg19, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimality_gap, "LEAST_STEPS", 40)
    monkeypatch.setattr(optimality_gap, "LONGER", 1)
    item = StyleTask(noise(0), (noise(1),))
    few, many = (quick(steps=steps, scales=1, stop_below=0.0) for steps in (2, 40))
    gaps = [
        optimality_gap.optimality_gap(network, item, stylize(network, [item], params, CPU).images, few, CPU)
        for params in (few, many)
    ]
    assert gaps[0] > 0.1
    assert gaps[1] == pytest.approx(0, abs=1e-3)


def test_a_quarter_turn_is_exact_and_any_turn_goes_counterclockwise() -> None:
    image = noise(3, 20, 30)
    assert torch.equal(rotate(image, 90), torch.rot90(image, 1, (2, 3)))
    assert torch.equal(rotate(image, -270), rotate(image, 90))
    assert torch.equal(rotate(image, 0), image)
    smooth = torch.linspace(0, 1, 64)[None, None, None].expand(1, 3, 64, 64)  # bright at the right
    turned = rotate(smooth, 60)[0, 0, 16:48, 16:48]
    assert turned[:8].mean() > turned[-8:].mean() + 0.1, "what was right is above"
    nearly, exact = (rotate(noise(4, 40, 40), degrees) for degrees in (89.999, 90))
    assert (nearly - exact).abs()[..., 2:-2, 2:-2].max() < 0.02


def test_the_style_of_several_views_is_that_of_all_their_positions(network: Vgg19) -> None:
    """The mean over views of the first and second moments: of a style and its mirror image, of two scales."""
    item = StyleTask(noise(0), (noise(1, 64, 64),))
    params = quick(style_scales="1+0.5", style_rotations="0+90", statistics="gram")
    single = [
        style_targets(
            network, [item], 96, quick(style_scale=scale, style_rotations=turn, statistics="gram"), CPU
        )
        for scale in (1.0, 0.5)
        for turn in ("0", "90")
    ]
    together = style_targets(network, [item], 96, params, CPU)
    for layer, target in together.items():
        expected = torch.stack([one[layer].statistics.second for one in single]).mean(0)
        torch.testing.assert_close(target.statistics.second, expected, rtol=1e-4, atol=1e-6)


def test_scales_and_rotations_that_change_nothing_change_no_key() -> None:
    assert not {"style_scales", "style_rotations"} & quick().as_dict().keys()
    assert quick(style_rotations="0+90").as_dict()["style_rotations"] == (0.0, 90.0)


def test_steps_fall_from_the_first_scale_to_the_last() -> None:
    params = quick(steps=80, last_steps=10)
    assert [params.steps_at(k, 4) for k in range(4)] == [80, 40, 20, 10]
    assert [quick(steps=80).steps_at(k, 4) for k in range(4)] == [80] * 4
    assert params.steps_at(0, 1) == 80
    assert "last_share" not in quick(steps=80).as_dict()


def test_each_scale_has_its_steps(network: Vgg19) -> None:
    item = StyleTask(noise(0, 96, 96), (noise(1, 64, 64),))
    params = quick(long_edge_px=96, scales=3, steps=8, last_steps=2, stop_below=0.0)
    assert stylize(network, [item], params, CPU).steps == [8 + 4 + 2]


@pytest.mark.parametrize("values", [{"style_scales": "1+x"}, {"style_scales": "0"}, {"style_rotations": ""}])
def test_scales_and_rotations_are_numbers(values: dict[str, str]) -> None:
    with pytest.raises(GanpipeError, match="joined by"):
        quick(**values)

"""The engine's parts: schedules, augmentation, plans, rollbacks, several processes, claims on a GPU."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganpipe.config import Settings, preset_row
from ganpipe.data.prepare import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.images import ImageShape
from ganpipe.losses import LOSSES
from ganpipe.models import build_gan
from ganpipe.training import plan as planning
from ganpipe.training.adapt import Adaptive, r_v
from ganpipe.training.augment import DRAWS, HIGHEST_P, KINDS, augment, parse_kinds
from ganpipe.training.checkpoint import best_folder, load_checkpoint
from ganpipe.training.claim import claimed, holder
from ganpipe.training.device import Compute
from ganpipe.training.launch import Job, train_together
from ganpipe.training.loop import train
from ganpipe.training.parallel import World
from ganpipe.training.report import Outbox, Point
from ganpipe.training.rescue import COLLAPSED_POINTS, MOST_ROLLBACKS, Health
from ganpipe.training.schedule import cosine, knobs_at
from ganpipe.training.step import Phases, adam
from ganpipe.training.stream import Stream
from tests.test_training import Killed, with_

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")
R3 = {"model__name": "r3", "model__width": 0.04, "model__blocks": 1, "loss__name": "rpgan"}


def noise_data(side: int = 16, count: int = 40, labels: bool = False) -> PreparedData:
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        pixels = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator)
        return Split.of(pixels, torch.arange(n) % 3 if labels else torch.full((n,), -1))

    names = ("a", "b", "c") if labels else ()
    return PreparedData("noise", "v", ImageShape(3, side, side), names, split(count), split(20))


# Exact resumption, for everything that adds randomness or state.


@pytest.mark.parametrize(
    "changed",
    [
        R3 | {"augment__mode": "adaptive", "augment__adapt_images": 100, "augment__target": 0.0},
        R3 | {"training__fresh_g_batch": True, "training__ema_schedule": "cosine", "training__lr_end": 0.1},
        R3 | {"loss__penalty_by": "fast", "training__instance_noise": 0.2, "loss__penalty_every": 2},
        R3 | {"training__micro_images": 3, "model__conditional": "yes"},
        R3 | {"training__judge_every_images": 32, "training__judge_images": 32, "model__spectral_norm": True},
        {"loss__name": "wgan-gp", "augment__mode": "fixed"},
        {"loss__name": "hinge", "model__name": "fastgan", "model__width": 0.05, "side": 32},
        {"loss__name": "lsgan", "loss__penalty": "r2", "model__name": "fc", "model__fc_width": 8},
    ],
    ids=lambda changed: "-".join(str(v) for v in changed.values())[:60],
)
def test_a_killed_run_ends_with_the_same_bits_and_the_same_curve(
    settings: Settings, tmp_path: Path, changed: dict[str, object]
) -> None:
    side = int(str(changed.get("side", 16)))
    data = noise_data(side, labels="model__conditional" in changed)
    settings = with_(settings, **{k: v for k, v in changed.items() if k != "side"})
    whole: list[Point] = []
    expected = train(data, settings, tmp_path / "whole", Outbox(points=whole.extend))
    parts: list[Point] = []

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        train(data, settings, tmp_path / "parts", Outbox(points=parts.extend, report=kill))
    assert (
        train(data, settings, tmp_path / "parts", Outbox(points=parts.extend)).weights_sha256
        == expected.weights_sha256
    )
    assert parts == whole


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_moves_every_model(settings: Settings, tmp_path: Path, loss: str) -> None:
    """Any loss with any model, with every penalty: finite losses and changed weights."""
    for model, side in (("fc", 16), ("dcgan", 16), ("r3", 16), ("fastgan", 32)):
        for penalty in ("auto", "both", "interpolated"):
            few = with_(settings, loss__name=loss, loss__penalty=penalty, model__name=model, model__width=0.04,
                        model__fc_width=8, training__total_images=16)  # fmt: skip
            points: list[Point] = []
            train(noise_data(side), few, tmp_path / f"{model}-{penalty}", Outbox(points=points.extend))
            assert all(math.isfinite(value) for p in points for value in p.values.values())
            assert points[-1].values["g_grad"] > 0
            assert points[-1].values["d_grad"] > 0


# Schedules.


def test_a_cosine_begins_and_ends_where_it_should() -> None:
    assert cosine(2.0, 0.2, 0, 100) == 2.0
    assert cosine(2.0, 0.2, 50, 100) == pytest.approx(1.1)
    assert cosine(2.0, 0.2, 100, 100) == cosine(2.0, 0.2, 1000, 100) == pytest.approx(0.2)


def test_the_published_schedules_of_ffhq64() -> None:
    """Huang et al. 2025, appendix: from 0 to 20 million images."""
    settings = Settings().with_values(preset_row("ffhq64"))
    start, end = knobs_at(0, settings), knobs_at(20_000_000, settings)
    assert (start.g_lr, start.beta2, start.gamma, start.augment, start.ema_halflife_images) == (
        2e-4,
        0.9,
        2.0,
        0.0,
        0.0,
    )
    assert end.g_lr == pytest.approx(5e-5)
    assert end.beta2 == pytest.approx(0.99)
    assert end.gamma == pytest.approx(0.2)
    assert end.augment == pytest.approx(0.3)
    assert end.ema_halflife_images == pytest.approx(500_000)
    assert settings.training.batch_images == 256
    assert settings.training.beta1 == 0.0


# Augmentation.


def some_draws(count: int = 6) -> torch.Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_changes_nothing_at_0_and_most_images_at_1(kind: str) -> None:
    images = torch.randn(6, 3, 12, 16)
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    torch.testing.assert_close(augment(images, some_draws(), zero, (kind,)), images, atol=1e-5, rtol=1e-5)
    changed = augment(images, some_draws(), one, (kind,))
    assert changed.shape == images.shape
    moved = [(a - b).abs().max() > 1e-3 for a, b in zip(changed, images, strict=True)]
    assert sum(moved) >= 4  # a translation may be by no pixel


def test_augmentation_can_be_differentiated_twice() -> None:
    """R1 goes through it: the penalty of a quadratic D has the right second derivative by finite differences."""
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    draws = some_draws(2)

    def judge(x: torch.Tensor) -> torch.Tensor:
        return augment(x, draws, torch.tensor(1.0), KINDS).square().sum()

    assert torch.autograd.gradgradcheck(judge, (images,), eps=1e-6, atol=1e-4)


def test_translation_moves_whole_pixels() -> None:
    images = torch.arange(16.0 * 16).view(1, 1, 16, 16)
    draws = torch.zeros(1, DRAWS)
    draws[:, 1] = 0.99  # two pixels across: an eighth of 16
    draws[:, 2] = 0.5
    moved = augment(images, draws, torch.tensor(1.0), ("translation",))
    torch.testing.assert_close(moved[..., :14], images[..., 2:])


def test_colour_changes_keep_grey_grey_and_leave_alpha_alone() -> None:
    grey = torch.rand(4, 1, 5, 5).expand(4, 3, 5, 5) * 2 - 1
    alpha = torch.rand(4, 1, 5, 5)
    changed = augment(torch.cat([grey, alpha], 1), some_draws(4), torch.tensor(1.0), ("colour",))
    torch.testing.assert_close(changed[:, 0], changed[:, 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(changed[:, 3:], alpha)


def test_an_unknown_kind_of_augmentation_is_named() -> None:
    with pytest.raises(GanpipeError, match=r"has 'blur'; it joins some of translation"):
        parse_kinds("colour+blur")


def test_the_controller_goes_towards_its_target_and_says_when_it_is_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = with_(Settings(), augment__adapt_images=1000, augment__target=0.6).augment
    state = Adaptive()
    state.observe(0.9, 100, options)
    assert state.p == pytest.approx(0.1)
    state.observe(0.1, 150, options)
    assert state.p == pytest.approx(0.05)
    for k in range(1, 20):
        state.observe(1.0, 150 + 100 * k, options)
    assert state.p == HIGHEST_P
    assert "Too little data" in state.notes()[0]
    assert caplog.text.count("Too little data") == 1


def test_r_v_is_0_without_and_1_with_all_overfitting() -> None:
    assert r_v(2.0, 2.0, -2.0) == 0
    assert r_v(2.0, -2.0, -2.0) == 1


def test_the_held_out_signal_steers_the_augmentation(settings: Settings, tmp_path: Path) -> None:
    points: list[Point] = []
    options = with_(
        settings, **R3, augment__mode="adaptive", augment__signal="held_out", augment__adapt_images=200
    )
    train(noise_data(), options, tmp_path, Outbox(points=points.extend))
    assert all("overfitting" in p.values for p in points)
    assert any(p.values["augment_p"] > 0 or p.values["overfitting"] < 0.6 for p in points)


# Gradient accumulation and several processes: the same step.


def phases_of(data: PreparedData, settings: Settings, compiled: bool = False) -> Phases:
    gan = build_gan(settings.model, data.shape, 0, 3 if data.label_names else 0)
    torch.manual_seed(0)
    for module in gan.D.modules():  # fix-up begins at 0: give every weight something to do
        if hasattr(module, "narrow"):
            torch.nn.init.normal_(module.narrow.weight, 0, 0.1)
    t = settings.training
    return Phases(
        gan.G, gan.D, adam(gan.G, t.g_lr, t), adam(gan.D, t.d_lr, t), settings, FP32, compiled=compiled
    )


def grads(phases: Phases, data: PreparedData, settings: Settings, micro: int = 0) -> list[torch.Tensor]:
    batch = Stream(data, settings, CPU, World()).batch(0, 8, 0)
    phases.step(batch, knobs_at(0, settings).changed(1, 1, 1, 0.5), 0, micro)
    return [p.grad for player in (phases.D, phases.G) for p in player.parameters() if p.grad is not None]


FULL = R3 | {"augment__mode": "fixed", "augment__probability": 0.7, "training__fresh_g_batch": True}


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(settings: Settings) -> None:
    data, settings = noise_data(labels=True), with_(settings, **FULL)
    whole = grads(phases_of(data, settings), data, settings)
    parts = grads(phases_of(data, settings), data, settings, micro=3)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["r3", "dcgan", "fastgan"])
@pytest.mark.parametrize("penalty", ["none", "r1", "both", "interpolated"])
def test_gradients_lie_in_memory_as_their_weights_do(settings: Settings, model: str, penalty: str) -> None:
    """Fused Adam on a CPU reads by address: other strides, as double backward gives them, would mix gradients up."""
    data = noise_data(32)
    options = with_(settings, model__name=model, model__width=0.09, loss__name="rpgan", loss__penalty=penalty,
                    model__g_channels=8, model__d_channels=8, model__d_norm="none")  # fmt: skip
    gan = build_gan(options.model, data.shape, 0)
    G, D = FP32.place(gan.G), FP32.place(gan.D)
    t = options.training
    phases = Phases(G, D, adam(G, t.g_lr, t), adam(D, t.d_lr, t), options, FP32)
    phases.step(Stream(data, options, CPU, World()).batch(0, 8, 0), knobs_at(0, options), 0)
    for weight in [*D.parameters(), *G.parameters()]:
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride()


@pytest.mark.slow
def test_a_compiled_step_gives_the_gradients_of_an_eager_one(settings: Settings) -> None:
    """With both exact penalties through the augmentation: second derivatives included."""
    data, settings = noise_data(labels=True), with_(settings, **FULL)
    eager = grads(phases_of(data, settings), data, settings)
    compiled = grads(phases_of(data, settings, compiled=True), data, settings)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-5)


def test_the_functional_step_gives_the_gradients_of_an_eager_one(settings: Settings) -> None:
    """What is compiled, before it is compiled: fast enough for every day."""
    data, settings = noise_data(labels=True), with_(settings, **FULL)
    phases = phases_of(data, settings)
    expected = grads(phases_of(data, settings), data, settings)
    from ganpipe.losses import judged_with_slope_functional

    phases._gradients, phases._with_slope = phases._gradients_pure, judged_with_slope_functional
    torch.testing.assert_close(grads(phases, data, settings), expected, rtol=1e-4, atol=1e-6)


def test_two_processes_train_as_one_does(settings: Settings, tmp_path: Path) -> None:
    """torch.distributed.run, gloo: weights within float noise, one curve, one set of checkpoints, and a resume."""
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    data = noise_data()
    sums = {}
    from ganpipe.files import sha256_of, write_json

    for side in ("train", "holdout"):
        np.save(prepared / f"{side}-00000.npy", getattr(data, side).pixels.numpy())
        sums[f"{side}-00000.npy"] = sha256_of(prepared / f"{side}-00000.npy")
    write_json(prepared / "meta.json", {
        "dataset": "noise", "channels": 3, "settings": {"height_px": 16, "width_px": 16}, "label_names": [],
        "labels": {}, "sha256": sums,
    })  # fmt: skip
    alone = with_(settings, **R3, training__g_lr=1e-4, training__d_lr=1e-4)
    points: list[Point] = []
    result = train(data, alone, tmp_path / "one", Outbox(points=points.extend))
    together = with_(alone, training__processes=2)
    seen: list[Point] = []
    job = Job(prepared, "v", together, tmp_path / "two", {})
    job.run_dir.mkdir()
    told = train_together(job, Outbox(points=seen.extend))
    assert told["nimg"] == result.nimg
    one, two = (load_checkpoint(tmp_path / name / "checkpoints", CPU) for name in ("one", "two"))
    assert one
    assert two
    for name, weight in one["G_ema"].items():
        torch.testing.assert_close(two["G_ema"][name], weight, rtol=1e-3, atol=1e-4)
    unique = {p.nimg: p for p in seen}
    assert list(unique) == [p.nimg for p in points]
    for p in points:
        assert unique[p.nimg].values["loss_d"] == pytest.approx(p.values["loss_d"], abs=1e-3)
    assert train_together(job, Outbox())["weights_sha256"] == told["weights_sha256"]


# Plans.


def test_a_batch_that_does_not_fit_is_split_and_stays_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """10 MiB an image and 100 MiB free: at most 8 at once."""
    measured = iter([(0.1, 4 * 2**20 * 10), (0.2, 8 * 2**20 * 10)])
    monkeypatch.setattr(planning, "_measured", lambda step, images, device: next(measured))
    monkeypatch.setattr(planning, "free_memory", lambda device: 100 * 2**20)
    plan = planning.make_plan(tmp_path / "plan.json", 64, 0, FP32, lambda n: None)
    assert plan.micro_images == 8
    assert plan.seconds_a_step == pytest.approx(1.6)
    assert "computed in parts of 8" in caplog.text
    assert "3 min" in plan.sentence(6400, 64, 1, "cpu")
    assert planning.read_plan(tmp_path / "plan.json") == plan


def test_a_resumed_run_keeps_its_first_plan(settings: Settings, tmp_path: Path) -> None:
    """Whatever memory is free then: the split is part of what fixes the bits."""
    from ganpipe.files import read_json, write_json

    options = with_(settings, **R3)
    expected = train(
        noise_data(), with_(options, training__micro_images=2), tmp_path / "asked"
    ).weights_sha256
    train(noise_data(), with_(options, training__total_images=8), tmp_path / "planned")
    plan = read_json(tmp_path / "planned" / "plan.json")
    assert plan["micro_images"] == 8
    write_json(tmp_path / "again" / "plan.json", plan | {"micro_images": 2})
    assert train(noise_data(), options, tmp_path / "again").weights_sha256 == expected


def test_what_does_not_fit_at_all_is_one_sentence(tmp_path: Path) -> None:
    def step(images: int) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(GanpipeError, match=r"do not fit into the .* GiB that are free"):
        planning.make_plan(tmp_path / "plan.json", 64, 0, FP32, step)


def test_measured_memory_sees_what_a_step_allocates(tmp_path: Path) -> None:
    kept = []

    def step(images: int) -> None:
        kept.append(torch.ones(images * 2**20))  # 4 MiB an image

    plan = planning.make_plan(tmp_path / "plan.json", 64, 0, FP32, step)
    assert 0.7 * 64 * 4 * 2**20 < plan.peak_bytes < 1.5 * 64 * 4 * 2**20


# Breaking and going back.


def values(**changed: float) -> dict[str, float]:
    return {"loss_d": 1.0, "loss_g": 1.0, "spread": 0.8, "g_grad": 1.0, "d_sign": 0.5} | changed


def test_a_number_that_is_not_finite_is_noticed_at_once() -> None:
    assert "g_grad is no longer finite" in str(Health().observe(values(g_grad=math.inf)))


def test_a_collapse_is_noticed_after_some_points_and_a_narrow_start_is_not_one() -> None:
    health = Health()
    assert all(health.observe(values(spread=0.01)) is None for _ in range(10))
    assert health.observe(values()) is None
    found = [health.observe(values(spread=0.01)) for _ in range(COLLAPSED_POINTS)]
    assert found[:-1] == [None] * (COLLAPSED_POINTS - 1)
    assert "G has collapsed" in str(found[-1])


def test_a_discriminator_that_has_won_is_noticed() -> None:
    health = Health()
    for _ in range(5):
        assert health.observe(values()) is None
    assert all(health.observe(values(d_sign=1.0)) is None for _ in range(10))  # G still learns
    found = [health.observe(values(d_sign=1.0, g_grad=1e-6)) for _ in range(COLLAPSED_POINTS)]
    assert "D has won" in str(found[-1])


def break_at(monkeypatch: pytest.MonkeyPatch, times: int) -> dict[str, int]:
    """G's loss is NaN in the 11th step of the game, and again after each rollback, so many times in all."""
    calls = {"steps": 0, "broken": 0}
    good = LOSSES["logistic"]

    def g_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        calls["steps"] += 1
        bad = len(fake) == 8 and calls["broken"] < times and calls["steps"] > 8
        if bad:
            calls["broken"] += 1
            calls["steps"] = 0
        return good.g_loss(fake, real) * (float("nan") if bad else 1.0)

    monkeypatch.setitem(LOSSES, "logistic", replace(good, g_loss=g_loss))
    return calls


@pytest.mark.parametrize("times", [1, MOST_ROLLBACKS])
def test_training_goes_back_skips_and_slows_down(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, times: int,
) -> None:  # fmt: skip
    break_at(monkeypatch, times)
    points: list[Point] = []
    result = train(
        prepared, with_(settings, training__total_images=160), tmp_path, Outbox(points=points.extend)
    )
    assert result.nimg == 160
    assert len(result.notes) == times
    assert "halved both learning rates" in result.notes[0]
    assert caplog.text.count("Went back to") == times
    assert [p.nimg for p in points] == list(range(16, 161, 16))
    assert points[-1].values["lr_g"] == pytest.approx(settings.training.g_lr / 2**times)
    saved = load_checkpoint(tmp_path / "checkpoints", CPU)
    assert saved is not None
    assert saved["remedies"]["skipped_images"] > 0
    assert all(torch.isfinite(w).all() for w in saved["G"].values())


def test_training_that_breaks_too_often_fails_with_all_its_evidence(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, MOST_ROLLBACKS + 1)
    with pytest.raises(
        GanpipeError, match=r"taken back 3 times: \(1\) at .*\(2\) at .*\(3\) at .*Lower training\.d_lr"
    ):
        train(prepared, with_(settings, training__total_images=400), tmp_path)


def test_the_best_checkpoint_is_kept_and_scores_are_in_the_curve(settings: Settings, tmp_path: Path) -> None:
    points: list[Point] = []
    options = with_(settings, training__judge_every_images=16, training__judge_images=32)
    result = train(noise_data(), options, tmp_path, Outbox(points=points.extend))
    scores = {p.nimg: p.values["kd_vgg19_quick"] for p in points if "kd_vgg19_quick" in p.values}
    assert list(scores) == [16, 32, 48, 64]
    best = load_checkpoint(best_folder(tmp_path / "checkpoints"), CPU)
    assert best is not None
    assert best["nimg"] == min(scores, key=lambda nimg: scores[nimg])
    assert result.nimg == 64


# Shards.


def test_several_shards_are_one_split() -> None:
    whole = torch.arange(10 * 4, dtype=torch.uint8).view(10, 2, 2, 1)
    split = Split((whole[:3], whole[3:4], whole[4:]), torch.arange(10))
    rows = torch.tensor([9, 0, 3, 2, 4, 9])
    pixels, labels = split.rows(rows)
    assert torch.equal(pixels, whole[rows])
    assert torch.equal(labels, rows)
    assert len(split) == 10
    assert split.nbytes == 40


# One GPU, one trainer.


def test_a_claim_names_its_holder_and_is_freed_by_a_kill_even_with_children_left(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from ganpipe.training.claim import claimed\n"
        "with claimed(['test-gpu'], False, print):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert f"process {process.pid}" in holder("test-gpu")
        sentence = f"busy with another ganpipe \\(process {process.pid}"
        with pytest.raises(GanpipeError, match=sentence), claimed(["test-gpu"], False, print):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        with claimed(["test-gpu"], False, print):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_waiting_for_a_claim_says_so_once_and_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganpipe.training import claim

    monkeypatch.setattr(claim, "ASK_AGAIN_S", 0.05)
    program = (
        "import time\nfrom ganpipe.training.claim import claimed\n"
        "with claimed(['test-gpu-2'], False, print):\n    print('held', flush=True)\n    time.sleep(0.6)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    said: list[str] = []
    started = time.monotonic()
    with claimed(["test-gpu-2"], True, said.append):
        assert time.monotonic() - started < 30
    process.wait()
    assert len(said) == 1
    assert "waiting for it" in said[0]


def test_points_of_a_killed_group_are_read_up_to_the_cut_line(tmp_path: Path) -> None:
    from ganpipe.training.worker import append_points, read_points

    path = tmp_path / "points.jsonl"
    append_points(path, [Point(8, {"loss_g": 1.0}), Point(16, {"loss_g": 2.0})])
    with path.open("a") as file:
        file.write(json.dumps({"nimg": 24})[:-3])
    assert [p.nimg for p in read_points(path)] == [8, 16]

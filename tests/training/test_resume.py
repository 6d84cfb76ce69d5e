"""Exact resumption, for everything that adds randomness or state."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.trainer import train
from tests.conftest import MSGGAN, PROGAN, R3, STYLE, Killed, noise_data, with_


@pytest.mark.parametrize(
    "changed",
    [
        R3 | {"augment__mode": "adaptive", "augment__adapt_images": 100, "augment__target": 0.0},
        R3
        | {"training__separate_g_batch": True, "training__ema_schedule": "cosine", "training__lr_end": 0.1},
        R3
        | {
            "loss__penalty_method": "finite-difference",
            "training__instance_noise": 0.2,
            "loss__penalty_every": 2,
        },
        pytest.param(
            R3 | {"training__microbatch_images": 3, "model__conditional": "yes"}, marks=pytest.mark.slow
        ),
        R3
        | {
            "training__validate_every_images": 32,
            "training__validation_images": 32,
            "model__spectral_norm": True,
        },
        STYLE | {"training__ema_snapshots": 4},
        pytest.param(
            STYLE
            | {
                "training__microbatch_images": 3,
                "model__conditional": "yes",
                "training__separate_g_batch": True,
            },
            marks=pytest.mark.slow,
        ),
        {"loss__name": "wgan-gp", "augment__mode": "fixed"},
        {"loss__name": "hinge", "model__name": "fastgan", "model__width": 0.05, "side": 32},
        {"loss__name": "lsgan", "loss__penalty": "r2", "model__name": "mlp", "model__mlp_width": 8},
        pytest.param(
            PROGAN
            | {
                "training__ema_snapshots": 4,
                "training__validation_images": 32,
                "training__validate_every_images": 64,
            },
            marks=pytest.mark.slow,
        ),
        PROGAN | {"augment__mode": "adaptive", "augment__signal": "held_out", "augment__adapt_images": 100},
        pytest.param(
            PROGAN
            | {"loss__name": "rpgan", "training__separate_g_batch": True, "training__microbatch_images": 3},
            marks=pytest.mark.slow,
        ),
        MSGGAN | {"augment__mode": "fixed"},
        MSGGAN
        | {
            "loss__name": "logistic",
            "loss__penalty_method": "finite-difference",
            "training__instance_noise": 0.2,
        },
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
    expected = train(data, settings, tmp_path / "whole", Callbacks(points=whole.extend))
    parts: list[Point] = []

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        train(data, settings, tmp_path / "parts", Callbacks(points=parts.extend, report=kill))
    assert (
        train(data, settings, tmp_path / "parts", Callbacks(points=parts.extend)).summary.weights_sha256
        == expected.summary.weights_sha256
    )
    assert parts == whole

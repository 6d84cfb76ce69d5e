"""Several processes that train together, and what they leave when they are killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.data.shards import KEYS, PreparedData
from ganpipe.files import sha256_of, write_json
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.launch import Job, train_distributed
from ganpipe.training.points import append_new_points, read_points
from ganpipe.training.trainer import train
from tests.conftest import R3, noise_data, with_

CPU = torch.device("cpu")


def write_prepared(data: PreparedData, prepared: Path) -> Path:
    """The data as a prepared dataset, in the folder `prepared`."""
    prepared.mkdir()
    sums = {}
    for side in ("train", "holdout"):
        path, pixels = prepared / f"{side}-00000-0123456789abcdef.npy", getattr(data, side).pixels
        np.save(path, pixels.numpy())
        path.with_suffix(KEYS).write_bytes(bytes(32 * (1 + len(pixels))))
        sums[path.name] = sha256_of(path)
    write_json(
        prepared / "meta.json",
        {
            "dataset": "noise",
            "channels": 3,
            "settings": {"height_px": 16, "width_px": 16},
            "label_names": [],
            "labels": {},
            "sha256": sums,
        },
    )
    return prepared


@pytest.mark.slow
def test_two_processes_train_as_one_does(settings: Settings, tmp_path: Path) -> None:
    """torch.distributed.run, gloo: weights within float noise, one curve, one set of checkpoints, and a resume."""
    data = noise_data()
    prepared = write_prepared(data, tmp_path / "prepared")
    alone = with_(settings, **R3, training__g_lr=1e-4, training__d_lr=1e-4)
    points: list[Point] = []
    result = train(data, alone, tmp_path / "one", Callbacks(points=points.extend))
    together = with_(alone, training__processes=2)
    seen: list[Point] = []
    job = Job(prepared, "v", together, tmp_path / "two", {})
    job.run_dir.mkdir()
    listening: set[str] = set()
    told = train_distributed(
        job, Callbacks(points=seen.extend, report=lambda _: listening.update(listening_addresses()))
    )
    assert listening <= {"127.0.0.1", "::1"}
    assert told.nimg == result.summary.nimg
    one, two = (load_checkpoint(tmp_path / name / "checkpoints", CPU) for name in ("one", "two"))
    assert one
    assert two
    for name, weight in one["G_ema"].items():
        torch.testing.assert_close(two["G_ema"][name], weight, rtol=1e-3, atol=1e-4)
    unique = {p.nimg: p for p in seen}
    assert list(unique) == [p.nimg for p in points]
    for p in points:
        assert unique[p.nimg].values["loss_d"] == pytest.approx(p.values["loss_d"], abs=1e-3)
    assert train_distributed(job, Callbacks()).weights_sha256 == told.weights_sha256


@pytest.mark.slow
def test_a_vae_of_two_processes_ends_with_the_same_bits_each_time(settings: Settings, tmp_path: Path) -> None:
    """And draws its reconstructions once."""
    prepared = write_prepared(noise_data(), tmp_path / "prepared")
    vae = with_(settings, model__name="vae", training__processes=2)
    told = []
    for name in ("one", "again"):
        (tmp_path / name).mkdir()
        told.append(train_distributed(Job(prepared, "v", vae, tmp_path / name, {}), Callbacks()))
    assert told[0].weights_sha256 == told[1].weights_sha256
    assert len(list((tmp_path / "one" / "reconstructions").iterdir())) == 2


def listening_addresses() -> list[str]:
    """The addresses at which the children of this process listen."""
    family = psutil.Process().children(recursive=True)
    sockets = [c for p in family for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return [c.laddr.ip for c in sockets]


def test_points_of_a_killed_group_are_read_up_to_the_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    append_new_points(path, [Point(8, {"loss_g": 1.0}), Point(16, {"loss_g": 2.0})])
    with path.open("a") as file:
        file.write(json.dumps({"nimg": 24})[:-3])
    assert [p.nimg for p in read_points(path)] == [8, 16]

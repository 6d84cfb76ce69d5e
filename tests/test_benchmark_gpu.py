"""The script for a lent GPU runs, in a tiny form, on a CPU: nobody should find out on the GPU that it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu

# As much of R3GAN's own code as the benchmark calls, with one linear layer for each network.
NETWORKS = """
import pkg_resources  # as theirs does, though setuptools has none
import torch
from torch import nn

class Generator(nn.Module):
    def __init__(self, z_dim, widths, groups, blocks, expansion):
        super().__init__()
        assert groups == [2 * width // 16 for width in widths] and len(blocks) == len(widths) == 3
        self.MainLayers = nn.ModuleList([nn.Linear(z_dim, 3 * 16 * 16), nn.Identity(), nn.Identity()])

    def forward(self, z, labels):
        return self.MainLayers[0](z).view(-1, 3, 16, 16)

class Discriminator(nn.Module):
    def __init__(self, widths, groups, blocks, expansion):
        super().__init__()
        self.MainLayers = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Linear(3 * 16 * 16, 1)])

    def forward(self, images, labels):
        return self.MainLayers[2](images.flatten(1)).flatten()
"""
TRAINER = """
class AdversarialTraining:
    def __init__(self, G, D):
        self.G, self.D = G, D

    def AccumulateGeneratorGradients(self, z, real, labels):
        self.D(self.G(z, labels), labels).mean().backward()

    def AccumulateDiscriminatorGradients(self, z, real, labels, gamma):
        assert real.shape == (4, 3, 16, 16)
        (self.D(real, labels) - self.D(self.G(z, labels).detach(), labels)).mean().backward()
"""
OPERATORS = "class BiasedActivationReference: pass"
RESAMPLERS = "class InterpolativeUpsamplerReference: pass\nclass InterpolativeDownsamplerReference: pass"


def test_the_gpu_script_measures_all_lines_without_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--tiny"])
    told = capsys.readouterr().out
    assert ended.value.code == 0, told
    assert told.count("the same bits") == len(gpu.precisions())
    for what in (
        f"matrix products, {gpu.precisions()[-1]}",
        "one process",
        "style step, 48², 2 at once",
        "dcgan 16², batch 4, fp32",
    ):
        assert what in told


def test_what_does_not_fit_into_the_minutes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--tiny", "--minutes", "0"])
    assert "| stylegan2 16² | left out: the 0 minutes are over |" in capsys.readouterr().out


def test_r3gans_own_code_is_timed_beside_ours_if_a_checkout_is_named(tmp_path: Path) -> None:
    for name, text in {
        "Networks": NETWORKS,
        "Trainer": TRAINER,
        "FusedOperators": OPERATORS,
        "Resamplers": RESAMPLERS,
    }.items():
        (tmp_path / "R3GAN").mkdir(exist_ok=True)
        (tmp_path / "R3GAN" / f"{name}.py").write_text(text)
    sizes = gpu.Sizes.choose(tiny=True)
    rows = gpu.measure_r3gan_peer(16, 4, sizes, tmp_path)
    for precision, (what, figures) in zip(gpu.precisions(), rows, strict=True):
        assert what == f"R3GAN's own code, 16², batch 4, {precision}"
        assert "images/s; ours" in figures
        assert "times as fast" in figures
    assert "R3GAN" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_folder_that_is_no_checkout_of_r3gan_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--tiny", "--r3gan", str(tmp_path)])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "name the top folder of a checkout of brownvc/R3GAN" in told.err
    assert not told.out

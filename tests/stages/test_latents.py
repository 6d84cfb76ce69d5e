"""Photos into latents and back: files that `generate`, `interpolate` and `mix` take, and the words of `trace`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import read_origin
from ganpipe.models.latents import Latent
from ganpipe.models.projection import LAYERS
from ganpipe.models.registry import build_generator
from ganpipe.settings.schema import ModelSettings
from ganpipe.stages.generate import LoadedModel, generate_from_latents, generate_images, latent_frames
from ganpipe.stages.latent_files import read_latent, write_latent
from ganpipe.stages.mix import draw_sheet, mix_styles, parse_sources
from ganpipe.stages.project import project_photos
from ganpipe.stages.trace import remaking_command
from ganpipe.stores.model_registry import ModelRef
from ganpipe.vgg19.network import Vgg19
from tests.conftest import noise_image

LABELS = {"cats": 20, "dogs": 10}


def loaded(name: str = "stylegan2", labels: dict[str, int] | None = None) -> LoadedModel:
    """A model of fresh weights, as version 3 of `flowers`."""
    torch.manual_seed(0)
    settings = ModelSettings(name=name, z_dim=8, width=0.05, mapping_layers=2, g_channels=4, blocks=1)
    shape = ImageShape(3, 16, 16)
    G = build_generator(settings, shape, len(labels or {})).eval()
    config = {
        "model": settings.model_dump(),
        "shape": vars(shape),
        "labels": labels or {},
        "origin": {"run": "r1"},
    }
    return LoadedModel(ModelRef("flowers", "3", "m", ""), G, config, Compute(torch.device("cpu"), "fp32"))


@pytest.fixture(scope="module")
def network() -> Vgg19:
    return Vgg19(LAYERS[-1])


@pytest.fixture(autouse=True)
def one_network(network: Vgg19, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading its weights takes longer than all steps of these tests."""
    monkeypatch.setattr("ganpipe.stages.project.Vgg19", lambda last: network)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise_image(3).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_projected_photo_has_a_latent_that_draws_the_image_beside_it(
    photo: Path, tmp_path: Path, space: str
) -> None:
    model = loaded()
    (found,) = project_photos(model, [photo], tmp_path / "out", 5, 4, space)
    assert found.distance < found.distance_before
    assert Path(found.film).stat().st_size > 500
    file = read_latent(Path(found.latent), model)
    (drawn,) = generate_from_latents(model, [file], tmp_path / "drawn")
    beside = pixels_of(Path(found.picture))  # photo and projection, 16 times their size
    times = (beside.shape[1] - 4) // 32
    cells = beside[2 : 2 + 16 * times : times, 2 : 2 + 32 * times : times]
    np.testing.assert_array_equal(cells[:, 16:], pixels_of(drawn))
    origin = read_origin(drawn)
    assert origin["latent"] == {"name": "cat.safetensors", "sha256": sha256_of(Path(found.latent))}
    assert "seed" not in origin
    expected = "ganpipe generate --model flowers/3 --latent cat.safetensors --out DIR"
    assert remaking_command(origin) == expected
    assert generate_from_latents(model, [file], tmp_path / "drawn") == [drawn], (
        "the same image keeps its file"
    )
    made = read_origin(Path(found.picture))
    assert made["photo"] == {"name": "cat.png", "sha256": sha256_of(photo)}
    more = " --space w+" if space == "w+" else ""
    expected = f"ganpipe project cat.png --model flowers/3{more} --steps 5 --seed 4 --out DIR"
    assert remaking_command(made) == expected


def test_a_projection_depends_on_photo_model_steps_and_seed_alone(photo: Path, tmp_path: Path) -> None:
    model = loaded()
    noise_image(4).save(tmp_path / "other.png")
    first = project_photos(model, [photo], tmp_path / "a", 2, 0)[0]
    second = project_photos(model, [tmp_path / "other.png", photo], tmp_path / "b", 2, 0)[1]
    assert Path(first.latent).read_bytes() == Path(second.latent).read_bytes()
    third = project_photos(model, [photo], tmp_path / "c", 2, 1)[0]
    assert Path(first.latent).read_bytes() != Path(third.latent).read_bytes()


def test_nothing_is_overwritten_and_photos_of_one_name_are_numbered(photo: Path, tmp_path: Path) -> None:
    model = loaded("dcgan")
    (tmp_path / "more").mkdir()
    noise_image(4).save(tmp_path / "more/cat.png")
    found = project_photos(model, [photo, tmp_path / "more/cat.png"], tmp_path / "out", 1, 0)
    assert [Path(f.latent).name for f in found] == ["cat.safetensors", "cat-2.safetensors"]
    with pytest.raises(GanpipeError, match=r"cat.safetensors exists already; choose another --out"):
        project_photos(model, [photo], tmp_path / "out", 1, 0)


def test_what_cannot_be_projected_is_said_before_the_work(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    for model, photos, options, said in (
        (loaded(), [photo, tmp_path / "bad.png"], {}, "bad.png cannot be projected"),
        (
            loaded("dcgan"),
            [photo],
            {"space": "w+"},
            r"flowers v3 is a dcgan, which has no w\+; leave --space out",
        ),
        (loaded("mlp"), [photo], {"space": "w"}, "has no w; leave --space out, and it is projected into z"),
        (
            loaded("r3gan", LABELS),
            [photo],
            {},
            "name the label of the photos with --label; it knows cats, dogs",
        ),
        (loaded("stylegan2", LABELS), [photo], {"label": "cat"}, "has no label cat"),
    ):
        with pytest.raises(GanpipeError, match=said):
            project_photos(model, photos, tmp_path / "out", 1, 0, **options)
    assert not (tmp_path / "out").exists()


def test_a_label_starts_from_its_own_mean_and_goes_with_a_latent_in_z(photo: Path, tmp_path: Path) -> None:
    for name in ("stylegan2", "r3gan"):
        model = loaded(name, LABELS)
        found = [
            project_photos(model, [photo], tmp_path / f"{name}-{label}", 1, 0, None, label)[0]
            for label in LABELS
        ]
        assert found[0].distance_before != found[1].distance_before
        latents = [read_latent(Path(f.latent), model).latent for f in found]
        assert [latent.label for latent in latents] == [0, 1]
    assert latents[0].space == "z"
    assert " --label dogs " in str(remaking_command(read_origin(Path(found[1].picture))))


def test_interpolation_passes_the_images_of_all_latents(tmp_path: Path) -> None:
    """One in w and one in w+: the path is in w+ then."""
    model = loaded()
    torch.manual_seed(1)
    a = Latent("w", torch.randn(1, 8), torch.randn_like(model.G.fixed_noise))
    b = Latent("w+", torch.randn(1, model.G.layers, 8), torch.randn_like(model.G.fixed_noise))
    files = []
    for name, latent in (("a", a), ("b", b)):
        write_latent(tmp_path / f"{name}.safetensors", latent, None, model.origin("latent"))
        files.append(read_latent(tmp_path / f"{name}.safetensors", model))
    frames = latent_frames(model, files, 3)
    assert frames.shape == (6, 16, 16, 3)
    for path, frame in zip(generate_from_latents(model, files, tmp_path), frames[::3], strict=True):
        np.testing.assert_allclose(pixels_of(path).astype(int), frame.int().numpy(), atol=1)
    assert not torch.equal(frames[1], frames[0])


def test_a_file_that_does_not_fit_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, path = loaded(), tmp_path / "a.safetensors"

    def refused(said: str) -> None:
        with pytest.raises(GanpipeError, match=said):
            read_latent(path, model)

    refused("There is no file")
    path.write_bytes(b"\xff" * 50)
    refused("is not a latent; expected a file that `ganpipe project` wrote")
    save_file({"weight": torch.zeros(3)}, path, {"ganpipe": json.dumps({"space": "w"})})
    refused("is not a latent")
    save_file({"latent": torch.zeros(1, 8)}, path)
    refused("is not a latent")
    write_latent(path, Latent("w", torch.zeros(1, 9)), None, model.origin("latent"))
    refused(r"holds a latent in w of shape \(1, 9\) of flowers v3, which flowers v3 does not take")
    write_latent(path, Latent("w", torch.zeros(1, 8), torch.zeros(1, 7)), None, model.origin("latent"))
    refused("does not take")
    write_latent(path, Latent("w", torch.full((1, 8), torch.nan)), None, model.origin("latent"))
    refused("not finite")
    write_latent(path, Latent("w", torch.zeros(1, 8)), None, model.origin("latent") | {"model": "cats v1"})
    read_latent(path, model)
    assert "was projected with cats v1; flowers v3 draws another image of it" in caplog.text


def test_sources_are_numbers_ranges_and_files(tmp_path: Path) -> None:
    assert parse_sources("0-2,7,a-1.safetensors", tmp_path) == [0, 1, 2, 7, tmp_path / "a-1.safetensors"]
    for words in ("", ",", "0-99", "3-1", "0-15,16"):
        with pytest.raises(GanpipeError, match=r"names|means"):
            parse_sources(words, tmp_path)


def test_a_third_of_the_layers_comes_from_b() -> None:
    a, b = torch.zeros(2, 8, 3), torch.ones(3, 8, 3)
    shares = [mix_styles(a, b, group)[2, 1, :, 0].tolist() for group in range(3)]
    assert shares == [[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]]


def test_the_sheet_shows_the_images_of_generate_and_their_mixtures(tmp_path: Path) -> None:
    model = loaded()
    sheet, origin = draw_sheet(model, [0, 2], [1], 5, None, 1.0)
    paths = generate_images(model, 3, 5, tmp_path)
    step, top = 16 * 4 + 2, 22  # images are enlarged four times; titles stand above

    def cell(group: int, row: int, column: int) -> np.ndarray:
        block = 3 * step + 2 + 12
        x, y = group * block + 2 + column * step, top + 2 + row * step
        return np.asarray(sheet)[y : y + 64 : 4, x : x + 64 : 4]

    for group in range(3):
        np.testing.assert_array_equal(cell(group, 0, 1), pixels_of(paths[0]))
        np.testing.assert_array_equal(cell(group, 0, 2), pixels_of(paths[2]))
        np.testing.assert_array_equal(cell(group, 1, 0), pixels_of(paths[1]))
        for parent in (paths[0], paths[1]):
            assert not np.array_equal(cell(group, 1, 1), pixels_of(parent))
    itself, _ = draw_sheet(model, [0], [0], 5, None, 1.0)
    assert itself.size[1] == top + 2 * step + 2
    assert (origin["kind"], origin["a"], origin["b"]) == (
        "style mixing",
        [{"index": 0}, {"index": 2}],
        [{"index": 1}],
    )
    assert remaking_command(origin) == "ganpipe mix 0,2 1 --model flowers/3 --seed 5 --out FILE.png"


def test_a_projected_photo_can_be_mixed(photo: Path, tmp_path: Path) -> None:
    model = loaded()
    (found,) = project_photos(model, [photo], tmp_path / "out", 2, 0)
    _, origin = draw_sheet(model, [Path(found.latent)], [0], 0, None, 0.7)
    assert origin["a"] == [{"name": "cat.safetensors", "sha256": sha256_of(Path(found.latent))}]
    expected = "ganpipe mix cat.safetensors 0 --model flowers/3 --seed 0 --truncation 0.7 --out FILE.png"
    assert remaking_command(origin) == expected


def test_a_model_without_styles_is_refused_in_one_sentence() -> None:
    model = replace(loaded("dcgan"))
    with pytest.raises(
        GanpipeError, match="flowers v3 is a dcgan, which has no styles to mix; train one with"
    ):
        draw_sheet(model, [0], [1], 0, None, 1.0)

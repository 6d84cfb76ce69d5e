"""Preparing: any shape, nothing decoded twice, and a kill in the middle leaves no trace in the result."""

from __future__ import annotations

import shutil
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import ganpipe.data.prepare as prepare_module
from ganpipe.data.ingest import add_items
from ganpipe.data.manifest import read_manifest, split_records
from ganpipe.data.prepare import is_prepared, prepare
from ganpipe.data.prepare_file import read_prepare_file, write_prepare_file
from ganpipe.data.raw_store import remove_images
from ganpipe.data.resize import (
    MOST_CROPS,
    ResizeRules,
    crop_boxes,
    has_lanczos,
    resample,
    resize_pixels,
    shrink_for,
)
from ganpipe.data.shards import load_prepared
from ganpipe.data.sources.registry import read_source
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import decode_image, decode_pixels, pixels_of
from ganpipe.imaging.image import ImageShape, Pixels
from ganpipe.settings.schema import DataSettings
from tests.conftest import changed, fill_folder, noise_image

SMALL = DataSettings(height_px=16, width_px=16)


@pytest.fixture
def few_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of ten images."""
    monkeypatch.setattr(prepare_module, "SHARD_IMAGES", 10)


def add(source: Path, raw: Path) -> None:
    add_items(raw, read_source(str(source), raw.parent / "scratch"))


def hashes(out: Path) -> dict[str, str]:
    return prepare_module.read_json(out / "meta.json")["sha256"]


def test_an_addition_decodes_what_is_new_and_rewrites_the_last_shards(
    tmp_path: Path, few_a_shard: None
) -> None:
    add(fill_folder(tmp_path / "in", 60), tmp_path / "raw")
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["decoded"] == 60
    before = hashes(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    add(fill_folder(tmp_path / "in", 63), tmp_path / "raw")
    assert not is_prepared(tmp_path / "raw", tmp_path / "out", SMALL)
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["decoded"] == 3
    after = hashes(tmp_path / "out")
    kept = set(before) & set(after)
    assert len(kept) >= len(before) - 2
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == times[name] for name in kept)

    prepare(tmp_path / "raw", tmp_path / "anew", SMALL)
    assert hashes(tmp_path / "anew") == after
    assert sorted(p.name for p in (tmp_path / "anew").iterdir()) == sorted(
        p.name for p in (tmp_path / "out").iterdir()
    )


def test_what_is_removed_is_decoded_by_nobody(tmp_path: Path, few_a_shard: None) -> None:
    add(fill_folder(tmp_path / "in", 40), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    remove_images(tmp_path / "raw", ["003.png"])
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["decoded"] == 0
    prepare(tmp_path / "raw", tmp_path / "anew", SMALL)
    assert hashes(tmp_path / "anew") == hashes(tmp_path / "out")


def test_a_killed_preparation_goes_on_with_the_shards_that_it_has(
    tmp_path: Path, few_a_shard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fill_folder(tmp_path / "in", 40), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "whole", SMALL)
    written = 0
    real = prepare_module._write_shard

    def dying(*arguments: object) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise KeyboardInterrupt
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "_write_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    (tmp_path / "out/train-00002-abc.partial").write_bytes(b"half")
    monkeypatch.setattr(prepare_module, "_write_shard", real)
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["decoded"] == 20
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_shard_that_was_damaged_is_no_source_for_the_next_version(
    tmp_path: Path, few_a_shard: None
) -> None:
    add(fill_folder(tmp_path / "in", 30), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    shard = sorted((tmp_path / "out").glob("train-*.npy"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x99")
    add(fill_folder(tmp_path / "in", 33), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    prepare(tmp_path / "raw", tmp_path / "anew", SMALL)
    assert hashes(tmp_path / "anew") == hashes(tmp_path / "out")


def test_a_wide_image_gives_several_images_on_one_side_of_the_split(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(12):
        noise_image(k, (64 if k % 2 else 16, 16)).save(folder / f"{k}.png")
    add(folder, tmp_path / "raw")
    settings = changed(SMALL, fit="cover-many", holdout_fraction=0.3)
    meta = prepare(tmp_path / "raw", tmp_path / "out", settings)
    train, holdout = split_records(read_manifest(tmp_path / "raw"), 0.3)
    expected = [sum(4 if int(r.name[:-4]) % 2 else 1 for r in side) for side in (train, holdout)]
    assert [meta["images"]["train"], meta["images"]["holdout"]] == expected
    data = load_prepared(tmp_path / "out", "v")
    wide = np.asarray(noise_image(1, (64, 16)))
    tiles = {wide[:, 16 * k : 16 * k + 16].tobytes() for k in range(4)}
    assert tiles <= {p.tobytes() for p in torch.cat([data.train.pixels, data.holdout.pixels]).numpy()}


def test_cover_many_covers_and_knows_an_end() -> None:
    fit = ResizeRules(ImageShape(3, 10, 10), "cover-many")
    assert crop_boxes(25, 10, fit) == [(0, 0, 10, 10), (8, 0, 18, 10), (15, 0, 25, 10)]
    assert crop_boxes(10, 25, fit)[-1] == (0, 15, 10, 25)
    assert len(crop_boxes(4000, 10, fit)) == MOST_CROPS
    assert crop_boxes(11, 10, ResizeRules(ImageShape(3, 10, 10), "crop")) == [(0, 0, 10, 10)]


def photo(name: str, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(load_sample_image(name)).resize(size, Image.Resampling.LANCZOS)


def as_jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def difference(a: Pixels, b: Pixels) -> npt.NDArray[np.int64]:
    return np.abs(a.astype(np.int64) - b)


@pytest.mark.parametrize("how", ["crop", "pad", "squash", "cover-many"])
@pytest.mark.parametrize(
    ("size", "side_px", "by"),
    [
        ((1280, 848), 16, 8),
        ((1280, 848), 32, 4),
        ((1024, 768), 64, 2),
        ((1024, 752), 64, 1),
        ((1281, 855), 16, 1),
    ],
)
def test_a_photo_that_its_decoder_divides_gives_nearly_the_same_images(
    size: tuple[int, int], side_px: int, by: int, how: str
) -> None:
    """Within 2 of 255. At a half, where only the brightness is divided, up to 3: of two decodings that are as near to
    the picture before it was compressed. An odd size is decoded whole: at half of it the pixels lie elsewhere, up to 12.
    """
    fit = ResizeRules(ImageShape(3, side_px, side_px), how)
    for name in ("china.jpg", "flower.jpg"):
        picture = photo(name, size)
        data = as_jpeg(picture, 90)
        small = decode_pixels(data, partial(shrink_for, fit))
        if how != "cover-many":  # whose crops must fall between the pixels, too
            assert small.shape[:2] == (size[1] // by, size[0] // by)
        fast = np.stack(resize_pixels(small, fit))
        whole = np.stack(resize_pixels(pixels_of(decode_image(data)), fit))
        assert difference(fast, whole).max() <= (3 if by == 2 else 2)
        assert difference(fast, whole).mean() <= 0.2
        if by == 2:
            truth = np.stack(resize_pixels(pixels_of(picture), fit))
            assert difference(fast, truth).mean() <= difference(whole, truth).mean() + 0.02
            assert difference(fast, truth).max() <= difference(whole, truth).max()


def test_the_same_images_give_the_same_shards_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for k in range(12):
        photo("china.jpg", (320 + 8 * k, 240)).save(tmp_path / f"in/{k}.jpg")
    add(tmp_path / "in", tmp_path / "raw")
    found = []
    for cores in (1, 5):
        monkeypatch.setattr(prepare_module.os, "cpu_count", lambda cores=cores: cores)
        prepare(tmp_path / "raw", tmp_path / f"out{cores}", SMALL)
        found.append(hashes(tmp_path / f"out{cores}"))
    assert found[0] == found[1]


def test_shards_of_another_version_of_the_preparation_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fill_folder(tmp_path / "in", 6), tmp_path / "raw")
    monkeypatch.setattr(prepare_module, "RESULTS", prepare_module.RESULTS - 1)
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    monkeypatch.undo()
    assert not is_prepared(tmp_path / "raw", tmp_path / "out", SMALL)
    assert prepare(tmp_path / "raw", tmp_path / "out", SMALL)["decoded"] == 6
    assert is_prepared(tmp_path / "raw", tmp_path / "out", SMALL)


@pytest.mark.skipif(not has_lanczos(), reason="this torch cannot resample by Lanczos; Pillow does")
@pytest.mark.parametrize("channels", [1, 3])
def test_resampling_is_pillows(channels: int) -> None:
    image = noise_image(0, (90, 70), "L" if channels == 1 else "RGB")
    wanted = np.asarray(image.resize((33, 20), Image.Resampling.LANCZOS), dtype=int)
    found = resample(torch.from_numpy(np.asarray(image).copy().reshape(70, 90, channels)), (33, 20)).numpy()
    assert np.abs(found.reshape(wanted.shape) - wanted).max() <= 1


def test_light_is_averaged_where_that_is_asked_for() -> None:
    """Half black, half white: half the light is sRGB's 188, half the numbers are 128."""
    checks = Image.fromarray(np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    shape = ImageShape(3, 8, 8)
    plain = resize_pixels(pixels_of(checks), ResizeRules(shape, "squash"))[0]
    light = resize_pixels(pixels_of(checks), ResizeRules(shape, "squash", linear_light=True))[0]
    assert abs(int(plain.mean()) - 128) <= 2
    assert abs(int(light.mean()) - 188) <= 2


def test_the_ground_under_transparency_and_around_an_image_is_what_was_asked_for() -> None:
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    fit = ResizeRules(ImageShape(3, 16, 16), "pad", background=(0, 255, 0), padding=(0, 0, 255))
    pixels = resize_pixels(pixels_of(clear), fit)[0]
    assert pixels[8, 8].tolist() == [0, 255, 0]
    assert pixels[0, 8].tolist() == [0, 0, 255]


def test_colors_under_transparency_do_not_bleed_when_an_image_with_alpha_shrinks() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (255, 0, 0, 255), (0, 255, 0, 0)
    small = resize_pixels(pixels, ResizeRules(ImageShape(4, 8, 8), "squash"))[0]
    shown = small[small[..., 3] > 8]
    assert shown[:, 1].max() <= 2


def test_a_color_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    add(fill_folder(tmp_path / "in", 4), tmp_path / "raw")
    with pytest.raises(GanpipeError, match=r"data\.background is 'greenish', which is no color"):
        prepare(tmp_path / "raw", tmp_path / "out", changed(SMALL, background="greenish"))


def test_a_full_disk_leaves_no_half_shard_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fill_folder(tmp_path / "in", 6), tmp_path / "raw")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module.os, "posix_fallocate", full)
    with pytest.raises(GanpipeError, match="the disk is full"):
        prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    assert not list((tmp_path / "out").iterdir()), "what was allocated would keep the disk full"
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    ["- 1\n", "datasets: [1]\n", "datasets: {a: 1}\n", "datasets: {a: {dataset: 1e3}}\n", "[" * 2000, "\0"],
)
def test_a_damaged_prepare_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prepare.yaml"
    path.write_text(text)
    with pytest.raises(GanpipeError, match=r"prepare\.yaml"):
        read_prepare_file(path)


@pytest.mark.parametrize("name", ["1e3", "0o10", "007", "no"])
def test_a_dataset_named_like_a_number_is_prepared_under_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "prepare.yaml"
    write_prepare_file(path, {f"{name}-16x16": {"dataset": name, "height_px": 16}})
    assert read_prepare_file(path) == {f"{name}-16x16": {"dataset": name, "height_px": 16}}

"""Labels and splits as datasets are published: StyleGAN, Hugging Face, train/val/test, WebDataset, Parquet."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganpipe.data.ingest import add_items
from ganpipe.data.manifest import read_manifest
from ganpipe.data.sources.items import FileItem, RefusedItem, SidecarItem
from ganpipe.data.sources.registry import read_source
from tests.conftest import noise_image


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise_image(seed, (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def lay(root: Path, *names: str) -> Path:
    """Small images below `root`."""
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(k))
    return root


def zipped(root: Path) -> Path:
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(root))
    return root.with_suffix(".zip")


def tarred(root: Path) -> Path:
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, ".")
    return root.with_suffix(".tar")


def told(source: Path) -> dict[str, tuple[str | None, bool | None]]:
    """Label and split of each file."""
    items = read_source(str(source), source.parent)
    return {i.name: (i.label, i.holdout) for i in items if isinstance(i, FileItem)}


PACKS: list[Callable[[Path], Path]] = [Path, zipped, tarred]


@pytest.mark.parametrize("pack", PACKS)
def test_stylegans_dataset_json_holds_the_labels_and_its_folders_are_none(
    tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    root = lay(tmp_path / "in", "00000/a.png", "00000/b.png", "00001/c.png", "00001/d.png")
    labels = [["00000/a.png", 3], ["00000/b.png", [0, 1, 0]], ["00001/c.png", 3.0]]
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    found = told(pack(root))
    assert {name: label for name, (label, _) in found.items()} == {
        "00000/a.png": "3",
        "00000/b.png": "1",
        "00001/c.png": "3",
        "00001/d.png": None,
    }


def test_a_dataset_json_without_labels_leaves_buckets_unlabeled(tmp_path: Path) -> None:
    root = lay(tmp_path / "in", "00000/a.png", "00001/b.png")
    (root / "dataset.json").write_text('{"labels": null}')
    assert set(told(root).values()) == {(None, None)}


def test_damaged_labels_are_quarantined_and_said(tmp_path: Path) -> None:
    root = lay(tmp_path / "in", "a.png")
    (root / "dataset.json").write_text('{"labels": [["a.png", 1')
    refused = [i for i in read_source(str(root), tmp_path) if isinstance(i, RefusedItem)]
    assert [(i.name, i.rejected.code) for i in refused] == [("dataset.json", "damaged_labels")]


@pytest.mark.parametrize("pack", PACKS)
def test_folders_of_splits_are_no_labels_and_val_and_test_are_held_out(
    tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    root = lay(tmp_path / "in", "train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "test/dog/d.png")
    assert told(pack(root)) == {
        "train/cat/a.png": ("cat", False),
        "train/dog/b.png": ("dog", False),
        "val/cat/c.png": ("cat", True),
        "test/dog/d.png": ("dog", True),
    }


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("pets/Training/cat/a.png", "pets/Testing/cat/b.png"), [("cat", True), ("cat", False)]),
        (("a/train/good/1.png", "a/test/bad/2.png", "b/train/good/3.png", "b/test/bad/4.png"), None),
        (("train/1.png", "valid/2.png"), [(None, False), (None, True)]),
        (("train/cat/1.png", "train/dog/2.png"), [("cat", None), ("dog", None)]),
        (("car/1.png", "train/2.png", "test/3.png"), [("car", None), (None, True), (None, False)]),
        (("car/1.png", "train/2.png"), [("car", None), ("train", None)]),
        (("car/1.png", "test/2.png"), [("car", None), ("test", None)]),
    ],
)
def test_a_folder_is_a_split_only_beside_another(
    tmp_path: Path, names: tuple[str, ...], labels: list[tuple[str | None, bool | None]] | None
) -> None:
    found = list(told(lay(tmp_path / "in", *names)).values())
    several = [("a/bad", True), ("a/good", False), ("b/bad", True), ("b/good", False)]
    assert found == (several if labels is None else labels)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metadata.csv", "\ufefffile_name,label,text\nx/a.png,cat,one\nx/b.png,dog,two\n"),
        (
            "metadata.jsonl",
            '{"file_name": "x/a.png", "label": "cat"}\n{"file_name": "x/b.png", "label": "dog"}\n',
        ),
    ],
)
def test_metadata_of_hugging_faces_imagefolder_holds_the_labels(
    tmp_path: Path, pack: Callable[[Path], Path], file: str, text: str
) -> None:
    root = lay(tmp_path / "in", "train/x/a.png", "train/x/b.png", "test/c.png")
    (root / "train" / file).write_text(text)
    assert told(pack(root)) == {
        "test/c.png": (None, True),
        "train/x/a.png": ("cat", False),
        "train/x/b.png": ("dog", False),
    }


def test_metadata_that_names_absent_files_is_said(tmp_path: Path) -> None:
    root = lay(tmp_path / "in", "a.png")
    (root / "metadata.csv").write_text("file_name,label\na.png,1\ngone.png,2\n")
    (refused,) = [i for i in read_source(str(root), tmp_path) if isinstance(i, RefusedItem)]
    assert "gone.png" in refused.rejected.sentence


def test_captions_are_sidecars_counted_apart(tmp_path: Path) -> None:
    root = lay(tmp_path / "in", "a.png", "b.png")
    for name in ("a.txt", "b.png.json", "b.caption", "notes.txt"):
        (root / name).write_text("text")
    report = add_items(tmp_path / "raw", read_source(str(root), tmp_path))
    assert (report.found, report.accepted, report.sidecars) == (3, 2, 3)
    assert [entry["file"] for entry in report.quarantined] == ["notes.txt"]


def test_an_image_of_both_splits_is_held_out(tmp_path: Path) -> None:
    root = lay(tmp_path / "in", "train/a.png", "val/b.png")
    (root / "val/a.png").write_bytes((root / "train/a.png").read_bytes())
    add_items(tmp_path / "raw", read_source(str(root), tmp_path))
    assert [r.holdout for r in read_manifest(tmp_path / "raw")] == [True, True]


def shard(path: Path, **files: bytes | str) -> None:
    """A WebDataset shard; `_` before the suffix stands for a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data if isinstance(data, bytes) else data.encode()))


def test_a_folder_of_shards_is_one_source(tmp_path: Path) -> None:
    root = tmp_path / "in"
    shard(root / "00000.tar", a0_png=png(0), a0_cls="3", a0_json="{}", a1_png=png(1), a1_cls="5", a1_txt="x")
    shard(root / "00001.tar", a0_png=png(2))
    for name in ("00000_stats.json", "00001.tar.idx"):
        (root / name).write_text("{}")
    pq.write_table(pa.table({"url": ["x"]}), root / "00000.parquet")
    (root / "00002.tar").write_bytes((root / "00000.tar").read_bytes()[:700])
    items = list(read_source(str(root), tmp_path))
    assert {i.name: i.label for i in items if isinstance(i, FileItem)} == {
        "00000.tar/a0.png": "3",
        "00000.tar/a1.png": "5",
        "00001.tar/a0.png": None,
    }
    assert sum(isinstance(i, SidecarItem) for i in items) == 7
    assert [i.name for i in items if isinstance(i, RefusedItem)] == ["00002.tar"]


def test_shards_are_of_the_split_in_their_name(tmp_path: Path) -> None:
    for name in ("set-train-000000", "set-val-000000", "set-val-000001"):
        shard(tmp_path / "in" / f"{name}.tar", x_png=png(len(name)))
    assert [holdout for _, holdout in told(tmp_path / "in").values()] == [False, True, True]


def test_parquet_of_hugging_face_gives_images_class_names_and_splits(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for split, label in (("train", 1), ("test", 0)):
        image = [{"bytes": png(label), "path": "x.png"}, {"bytes": None, "path": "y.png"}]
        table = pa.table({"image": image, "label": [label, label]})
        path = tmp_path / "in" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)
    assert list(told(tmp_path / "in").values()) == [("cat", True), ("dog", False)]
    items = list(read_source(str(path), tmp_path))
    assert [type(item) for item in items] == [FileItem, RefusedItem]


def test_a_mac_archives_own_folder_is_left_out_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat/a.png", "__MACOSX/cat/._a.png", "__MACOSX/._cat", "./dog/b.png"):
            archive.writestr(name, png(len(name)))
    items = list(read_source(str(tmp_path / "a.zip"), tmp_path))
    assert {i.name: i.label for i in items if isinstance(i, FileItem)} == {
        "cat/a.png": "cat",
        "dog/b.png": "dog",
    }
    assert [i.name for i in items if isinstance(i, RefusedItem)] == ["__MACOSX"]

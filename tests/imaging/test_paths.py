"""Which files are meant by a folder, a pattern or a list: the same for every command."""

from __future__ import annotations

import codecs
import itertools
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import HAS_HEIF, decode_image
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.paths import find_images, folder_images, image_paths, is_meant, list_folder
from ganpipe.imaging.provenance import origin_kind, save_png
from tests.conftest import noise_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)


def lay(root: Path, *names: str) -> list[Path]:
    """Small images below `root`."""
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise_image(k, (8, 8)).save(root / name)
    return [root / name for name in names]


def made(root: Path, *names: str, kind: str = "stylized") -> None:
    """Images with ganpipe's origin below `root`."""
    for name in names:
        save_png(Image.new("RGB", (8, 8)), root / name, {"kind": kind})


def relative(root: Path, paths: list[Path]) -> list[str]:
    return [str(p.relative_to(root)) for p in paths]


def test_hidden_and_thumbnailers_folders_are_left_out_and_counted_once(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "cat/b.png", ".thumbnails/c.png", ".thumbnails/d.png", "cat/@eaDir/b.png/e.png")
    lay(tmp_path, "__MACOSX/f.png", "cat/.ipynb_checkpoints/b-checkpoint.png", ".hidden.png", "cat/._b.png")
    listing = list_folder(tmp_path)
    assert [e.name for e in listing.entries] == [".hidden.png", "a.png", "cat/b.png"]
    left_out = ["__MACOSX", ".thumbnails", "cat/@eaDir", "cat/.ipynb_checkpoints", "cat/._b.png"]
    assert sorted(e.name for e in listing.left_out) == sorted(left_out)


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    (path,) = lay(tmp_path, ".cache/pics/a.png")
    assert image_paths([tmp_path / ".cache"]) == [path]
    assert image_paths([f"{tmp_path}/.cache/pics/*.png"]) == [path]


def test_a_folder_with_many_names_is_read_once(tmp_path: Path) -> None:
    """Links that lead from each folder to all others would multiply."""
    names = [f"{k:02d}" for k in range(12)]
    lay(tmp_path, *(f"{name}/a.png" for name in names))
    for one, other in itertools.permutations(names, 2):
        (tmp_path / one / f"to-{other}").symlink_to(tmp_path / other)
    found = list_folder(tmp_path)
    assert len(found.entries) - sum(e.fault is not None for e in found.entries) == 12
    assert found.left_out


def test_links_to_folders_are_followed_and_cycles_end(tmp_path: Path) -> None:
    lay(tmp_path, "real/a.png", "in/b.png")
    (tmp_path / "in/album").symlink_to("../real")
    (tmp_path / "real/back").symlink_to("../in")
    (tmp_path / "in/self").symlink_to(".")
    (tmp_path / "in/gone").symlink_to("nowhere")
    assert relative(tmp_path, image_paths([tmp_path / "in"])) == ["in/album/a.png", "in/b.png"]
    assert relative(tmp_path, image_paths([f"{tmp_path}/in/**/*.png"])) == ["in/album/a.png", "in/b.png"]


@pytest.mark.parametrize("pattern", ["*.png", "x/*.png", "**/*.png", "?.png", "x", "[a]*.png", "*"])
def test_brackets_in_the_folders_above_a_pattern_are_no_pattern(tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "Rome [2019]" / "{a}*?"
    lay(root, "a.png", "x/b.png")
    found = relative(root, image_paths([f"{root}/{pattern}"]))
    expected = {"x/*.png": ["x/b.png"], "x": ["x/b.png"]}
    both = ["a.png", "x/b.png"]
    assert found == expected.get(pattern, both if pattern in ("**/*.png", "*") else ["a.png"])


def test_a_pattern_leaves_out_what_a_folder_leaves_out(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "._a.png", "@eaDir/a.png", "out/b.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert relative(tmp_path, find_images([f"{tmp_path}/*"], [tmp_path / "out"]).paths) == ["a.png"]


def test_a_list_may_have_a_byte_order_mark_and_any_line_ends(tmp_path: Path) -> None:
    a, b = lay(tmp_path, "a.png", "bü.png")
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (b"", "cp1252")):
        (tmp_path / "list").write_bytes(mark + "a.png\r\nbü.png\r\n".encode(encoding))
        assert image_paths([f"@{tmp_path}/list"]) == [a, b]


def test_a_list_from_a_mac_may_write_accents_apart(tmp_path: Path) -> None:
    (path,) = lay(tmp_path, "caf\u00e9.png")
    (tmp_path / "list").write_text("cafe\u0301.png\n")
    assert image_paths([f"@{tmp_path}/list"]) == [path]


def test_a_missing_line_of_a_list_is_a_path_that_fails_alone(tmp_path: Path) -> None:
    (a,) = lay(tmp_path, "a.png")
    (tmp_path / "list").write_text("gone.png\na.png\nPRIVATE KEY\nno*.jpg\n")
    found = image_paths([f"@{tmp_path}/list"])
    assert found == [a, tmp_path / "gone.png", Path(f"{tmp_path}/list:3"), tmp_path / "no*.jpg"]


def test_a_list_in_which_no_line_names_anything_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# secrets\nPRIVATE KEY\n")
    with pytest.raises(GanpipeError, match="Line 2") as failure:
        image_paths([f"@{tmp_path}/list"])
    assert "PRIVATE" not in str(failure.value)


def test_heic_is_an_image_and_names_the_extra_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    assert image_paths([tmp_path]) == [tmp_path / "IMG_1.HEIC"]
    if not HAS_HEIF:
        with pytest.raises(RejectedImage, match=r"ganpipe\[heif\]"):
            decode_image(HEIC)


def test_what_a_workspace_holds_is_left_out_from_wherever_it_is_seen(tmp_path: Path) -> None:
    lay(tmp_path, "w/a.png", "w/.ganpipe/reports/s.png", "w/data/raw/x/files/b.png", "w/data/mine/c.png")
    lay(tmp_path, "w/data/styles/swirl.png", "w/data/prepared/x/d.png", "other/data/raw/e.png")
    own = ["w/a.png", "w/data/mine/c.png"]
    assert relative(tmp_path, image_paths([tmp_path])) == ["other/data/raw/e.png", *own]
    assert relative(tmp_path, image_paths([tmp_path / "w"])) == own
    assert relative(tmp_path, image_paths([tmp_path / "w/data"])) == ["w/data/mine/c.png"]
    assert not is_meant(tmp_path / "w", "data/raw/x/files/b.png")
    assert is_meant(tmp_path / "w", "data/mine/c.png")


def test_a_link_to_what_a_workspace_holds_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "in/a.png", "w/.ganpipe/reports/s.png", "w/data/styles/b.png")
    (tmp_path / "in/state").symlink_to("../w/.ganpipe/reports")
    (tmp_path / "in/more").symlink_to("../w/data/styles")
    assert relative(tmp_path, image_paths([tmp_path / "in"])) == ["in/a.png"]


def test_a_dataset_of_ganpipes_is_known_by_its_manifest(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "disk/raw/x/files/b.png")
    line = {"sha256": "0", "name": "b.png", "file": "files/b.png", "row": None}
    (tmp_path / "disk/raw/x/manifest.jsonl").write_text(json.dumps(line) + "\n")
    assert relative(tmp_path, image_paths([tmp_path])) == ["a.png"]


def test_output_of_ganpipe_is_left_out_beside_other_images(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "art/a__x.jpg")
    made(tmp_path, "art/b__x.png", "seed0000-00000.png")
    made(tmp_path, "art/contact-sheet.png", kind="contact sheet")
    line = {"key": "k", "output": "a__x.jpg", "sha256": "0"}
    (tmp_path / "art/manifest.jsonl").write_text(json.dumps(line) + "\n")
    assert relative(tmp_path, image_paths([tmp_path])) == ["a.png"]
    assert relative(tmp_path, image_paths([tmp_path / "art"])) == ["art/a__x.jpg", "art/b__x.png"]
    assert len(folder_images(tmp_path).paths) == 4


def test_contact_sheets_and_charts_are_never_images(tmp_path: Path) -> None:
    for kind in (
        "contact sheet",
        "sample grid",
        "training grid",
        "quality chart",
        "interpolation",
        "difference",
        "comparison",
    ):
        made(tmp_path, f"{kind}.png", kind=kind)
        assert origin_kind(tmp_path / f"{kind}.png") == kind
    for word in (tmp_path, tmp_path / "quality chart.png", tmp_path / "*.png"):
        with pytest.raises(GanpipeError, match=r"No image|Nothing matches"):
            image_paths([word])


def test_the_output_folder_is_left_out_by_any_of_its_names(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "out/b.png")
    (tmp_path / "link").symlink_to("out")
    found = find_images([tmp_path], [tmp_path / "out"])
    assert relative(tmp_path, found.paths) == ["a.png"]
    assert relative(tmp_path, list(map(Path, found.left_out))) == ["link", "out"]


def test_a_folder_may_take_the_output_beside_its_images(tmp_path: Path) -> None:
    lay(tmp_path, "a.png")
    made(tmp_path, "a__x.png")
    assert relative(tmp_path, find_images([tmp_path], [tmp_path]).paths) == ["a.png"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(GanpipeError, match="1 files and folders were left out"):
        find_images([tmp_path], [tmp_path])


def test_names_of_any_bytes_are_found(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff [1]"))
    (path,) = lay(folder, os.fsdecode(b"caf\xe9.png"))
    assert image_paths([tmp_path]) == image_paths([f"{folder}/*.png"]) == [path]

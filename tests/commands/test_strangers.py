"""Names and pictures of strangers: each is an ordinary item or one sentence, and none is obeyed or leads outside."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ganpipe.imaging.provenance import ORIGIN_KEY
from ganpipe.stores.workspace import Workspace
from tests.commands.test_commands import SETS, Shell, shell
from tests.conftest import fill_folder, noise_image

__all__ = ["shell"]

NAMES = [
    b"caf\xe9.png",
    b"\x1b[31mred\x07.png",
    b"line\nfeed.png",
    b"c1 \xc2\x9b2J.png",
    "bidi \u202egnp.png".encode(),
    b"~nobody.png",
    b"[bold] :cat: %s {0}.png",
    b"-dash.png",
]
LONG = "x" * 10_000
REFERENCES = [
    LONG,
    "a/" * 5_000,
    "../../etc/passwd",
    "..",
    "/",
    "a\0b",
    "\x1b[31m\u202e",
    "caf\udce9",
    "' OR 1=1 --",
    "a@b@c",
    "%",
    "\n",
]


def fill_hostile(folder: Path) -> list[Path]:
    """Pictures under names that are not UTF-8 or that a terminal would obey."""
    folder.mkdir(parents=True)
    for k, name in enumerate(NAMES):
        noise_image(k).save(folder / "picture.png")
        os.rename(folder / "picture.png", os.fsencode(folder) + b"/" + name)
    return sorted(folder.iterdir())


def is_one_sentence(code: int, out: str, err: str) -> bool:
    """A failure as people shall see it."""
    return (
        code in (1, 2)
        and "Unexpected" not in err
        and "Traceback" not in err
        and len(err) < 3_000
        and all(line.isprintable() for line in (out + err).split("\n"))
    )


def test_pictures_of_any_name_are_stylized(shell: Shell, tmp_path: Path) -> None:
    """One name that is not UTF-8 once ended a whole batch."""
    contents = fill_hostile(tmp_path / os.fsdecode(b"in\xe9\x1b[1m"))
    listed = tmp_path / os.fsdecode(b"list\xe9")
    listed.write_bytes(b"\n".join(os.fsencode(p) for p in contents if b"\n" not in os.fsencode(p)))
    out = tmp_path / os.fsdecode(b"out\xe9\x1b[1m")
    words = ("stylize", "--style", str(contents[0]), "--out", str(out), *SETS)
    styled = shell.json(*words, "--content", str(contents[0].parent))
    assert (styled["done"], styled["failed"]) == (len(NAMES), 0)
    assert {item["content"] for item in styled["items"]} == set(map(str, contents))
    outputs = [Path(item["output"]) for item in styled["items"]]
    assert len(set(outputs)) == len(NAMES)
    for path in outputs:
        assert path.name.isprintable()
        traced = shell.json("trace", str(path))["origin"]
        assert traced["content"]["name"] in {p.name for p in contents}
    assert shell.json(*words, "--content", f"@{listed}")["skipped"] == len(NAMES) - 1
    code, said, err = shell(*words, "--content", str(contents[0].parent))
    assert code == 0
    assert all(line.isprintable() for line in (said + err).split("\n"))


def test_a_style_of_any_name_has_its_feedforward_network(shell: Shell, tmp_path: Path) -> None:
    """Its name is in MLflow and in the name of a folder."""
    contents = fill_hostile(tmp_path / "in")
    style = next(path for path in contents if "caf" in path.name)
    words = (
        "stylize",
        "--content",
        str(tmp_path / "in"),
        "--style",
        str(style),
        "--out",
        str(tmp_path / "out"),
    )
    always = ("--set", "style.feedforward=always", "--set", "style.feedforward_images=4")
    assert shell.json(*words, *SETS, *always)["done"] == len(NAMES)


def test_a_picture_of_any_name_that_fails_is_one_failed_item(shell: Shell, tmp_path: Path) -> None:
    contents = fill_hostile(tmp_path / "in")
    contents[0].write_bytes(b"no picture")
    code, out, err = shell(
        "stylize",
        "--content",
        str(tmp_path / "in"),
        "--style",
        str(contents[1]),
        "--out",
        str(tmp_path / "out"),
        *SETS,
    )
    assert code == 1
    assert f"{len(NAMES) - 1} stylized, 0 there already, 1 failed" in out
    assert all(line.isprintable() for line in (out + err).split("\n"))


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "a picture"])
def test_pictures_of_any_name_are_added(shell: Shell, tmp_path: Path, kind: str) -> None:
    paths = fill_hostile(tmp_path / os.fsdecode(b"in\xe9"))
    bad = tmp_path / os.fsdecode(b"in\xe9") / os.fsdecode(b"bad\xe9\x1b[2J.png")
    bad.write_bytes(b"no picture")
    source, expected = (
        {"folder": bad.parent, "a picture": paths[0]}.get(kind, tmp_path / "archive"),
        len(NAMES),
    )
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path in [*paths, bad]:
                archive.writestr(os.fsencode(path.name).decode("latin-1"), path.read_bytes())
    elif kind == "tar":
        with tarfile.open(source, "w") as archive:
            for path in [*paths, bad]:
                archive.add(path, path.name)
    elif kind == "a picture":
        expected = 1
    added = shell.json("data", "add", str(source), "--name", "noise")
    assert (added["accepted"], len(added["quarantined"])) == (expected, 0 if kind == "a picture" else 1)
    if kind == "folder":  # the others would be shown alike
        for words in (
            ("add", str(source), "--name", "again"),
            ("list",),
            ("show", "noise"),
            ("diff", "noise", "again"),
        ):
            code, out, err = shell("data", *words)
            assert code == 0
            assert all(line.isprintable() for line in (out + err).split("\n"))


@pytest.mark.slow
def test_a_folder_of_any_name_is_evaluated(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gen\xe9")
    fill_folder(folder, 24)
    noise_image(99).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", os.fsencode(folder) + b"/caf\xe9.png")
    shell.json("data", "add", str(fill_folder(tmp_path / "in", 90)), "--name", "noise")
    judged = shell.json("evaluate", "--generated", str(folder), "--dataset", "noise", *SETS)
    assert judged["metrics"]["kd"]["samples"] == 25
    (folder / os.fsdecode(b"bad\xe9\x1b[2J.png")).write_bytes(b"no picture")
    failure = shell("evaluate", "--generated", str(folder), "--dataset", "noise", *SETS)
    assert is_one_sentence(*failure)
    assert r"bad\xe9\x1b[2J.png" in failure[2]


def picture_with(path: Path, text: str) -> Path:
    chunks = PngInfo()
    chunks.add_itxt(ORIGIN_KEY, text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":' + "[" * 900 + "]" * 900 + "}",
        '{"a":' * 20 + "1" + "}" * 20,
        '{"a": ' + "9" * 5_000 + "}",
        '{"a": "' + "x" * 2**21 + '"}',
        "[1, 2]",
        '"a"',
        "not JSON \x1b[31m",
        "",
    ],
    ids=lambda text: f"{text[:12]} {len(text)}",
)
def test_an_origin_that_is_none_is_one_sentence(shell: Shell, tmp_path: Path, text: str) -> None:
    assert is_one_sentence(*shell("trace", str(picture_with(tmp_path / "x.png", text))))


def test_an_origin_is_shown_and_not_obeyed(shell: Shell, tmp_path: Path) -> None:
    hostile = "\x1b[31m\x1b]8;;http://x\x07\u202e\n[bold]:cat:"
    origin = {
        "run": hostile,
        hostile: {hostile: [hostile]},
        "long": "y" * 500_000,
        "nan": float("nan"),
        "inf": 1,
    }
    text = json.dumps(origin).replace('"inf": 1', '"inf": 1e400')
    path = picture_with(tmp_path / "x.png", text)
    code, out, err = shell("trace", str(path))
    assert (code, err) == (0, "")
    assert all(line.isprintable() for line in out.split("\n"))
    assert "[bold]:cat:" in out
    assert len(out) < 30_000
    assert shell.json("trace", str(path))["run_here"] is False


@pytest.mark.parametrize(
    "run", [*REFERENCES, "../outside", "", 3, None, [1], {"a": 1}], ids=lambda run: repr(run)[:20]
)
def test_the_run_of_an_origin_leads_nowhere(shell: Shell, tmp_path: Path, run: object) -> None:
    """Its id is part of a path."""
    outside = shell.workspace.root / ".ganpipe/outside"
    outside.mkdir(parents=True)
    shell.workspace.runs.mkdir()
    (outside / "run.json").write_text("not a record")
    traced = shell.json("trace", str(picture_with(tmp_path / "x.png", json.dumps({"run": run}))))
    assert traced["run_here"] is False
    assert traced["origin"] == {"run": run}


@pytest.mark.parametrize(
    "words",
    [
        ("promote",),
        ("refuse",),
        ("reproduce",),
        ("trace",),
        ("evaluate",),
        ("evaluate", "--dataset", "noise", "--generated"),
        ("generate", "--out", "unused", "--model"),
        ("interpolate", "--out", "unused.gif", "--model"),
        ("rollback", "--dataset"),
        ("train", "--dataset"),
        ("train", "--preset"),
        ("data", "add", "--name", "noise"),
        ("data", "show"),
        ("data", "verify"),
        ("data", "remove", "noise"),
        ("data", "diff", "noise"),
        ("data", "checkout"),
        ("data", "checkout", "--run"),
        ("stylize", "--style", "sample:styles", "--out", "unused", "--content"),
        ("stylize", "--content", "sample:photos", "--out", "unused", "--style"),
    ],
    ids=" ".join,
)
def test_a_reference_of_any_text_is_one_sentence(
    migrated: Workspace, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for reference in REFERENCES:
        if words[-1] in ("--content", "--style", "--generated", "add", "noise") and reference in ("..", "/"):
            continue  # folders, which are there
        assert is_one_sentence(*shell(*words, reference)), reference[:20]
    assert not list(empty.iterdir())


@pytest.mark.parametrize("name", ["../../outside", "a/b", LONG, "a\0b"])
def test_a_difference_is_written_inside_the_workspace(shell: Shell, tmp_path: Path, name: str) -> None:
    """The names of the two datasets are part of its file name."""
    fill_folder(tmp_path / "in", 3)
    first = shell.json("data", "add", str(tmp_path / "in"), "--name", "noise")
    noise_image(9).save(tmp_path / "in/late.png")
    shell.json("data", "add", str(tmp_path / "in"), "--name", "noise")
    assert is_one_sentence(*shell("data", "diff", f"{name}@{first['version']}", "noise"))


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("up",),
        (
            "stylize",
            "--content",
            "sample:photos",
            "--style",
            "sample:styles",
            "--out",
            "o",
            "--runner",
            "threads",
        ),
    ],
    ids=lambda words: words[0],
)
def test_a_workspace_that_prefect_cannot_keep_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], workspace: Workspace
) -> None:
    """`workspace`: the environment is as before afterwards."""
    code, out, err = Shell(Workspace(tmp_path / os.fsdecode(b"w\xe9")), capsys)(*words)
    assert is_one_sentence(code, out, err)
    assert "is not UTF-8" in err

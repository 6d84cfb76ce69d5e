"""The commands as scripts use them: exit codes, one sentence on failure, one JSON object on success."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from ganpipe.cli import main
from ganpipe.commands.models import default_size
from ganpipe.settings.params import Params
from ganpipe.stores.workspace import Workspace
from tests.conftest import STYLE, TINY, fill_folder, noise_image

SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


class Shell:
    """Runs commands in one workspace."""

    def __init__(self, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
        self.workspace, self.capsys = workspace, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        try:
            code = main([*words, "--workspace", str(self.workspace.root)])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *words: str) -> dict[str, object]:
        """The JSON object of a command that must succeed."""
        code, out, err = self(*words, "--json")
        assert code == 0, err
        return dict(json.loads(out.splitlines()[-1]))


@pytest.fixture
def shell(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(workspace, capsys)


def test_data_commands_tell_the_same_story(shell: Shell, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", 12)
    (tmp_path / "in/note.txt").write_text("x")
    added = shell.json("data", "add", str(tmp_path / "in"), "--name", "noise")
    assert added["found"] == added["accepted"] + len(added["quarantined"]) + added["duplicates"] == 13
    assert added["train"] + added["holdout"] == 12
    assert set(added["quarantined"][0]) == {"file", "code", "reason"}
    listed = shell.json("data", "list")["datasets"]
    assert [(d["name"], d["version"], d["images"]) for d in listed] == [("noise", added["version"], 12)]
    shown = shell.json("data", "show", "noise")
    with Image.open(shown["contact_sheet"]) as sheet:
        assert sheet.width > 300
    noise_image(99).save(tmp_path / "in/new.png")
    shell.json("data", "add", str(tmp_path / "in"), "--name", "noise")
    diff = shell.json("data", "diff", f"noise@{added['version']}", "noise")
    assert (diff["added_files"], diff["removed"], diff["same"]) == (["new.png"], 0, 12)
    assert shell.json("data", "verify", "noise")["intact"] is True
    assert shell("data", "list")[0] == 0
    victim = next((shell.workspace.raw("noise") / "files").rglob("*.png"))
    victim.write_bytes(b"x")
    repaired = shell.json("data", "verify", "noise")
    assert (repaired["intact"], len(repaired["repaired"])) == (True, 1)
    whole = victim.read_bytes()
    for path in (shell.workspace.root / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() == whole:
            path.unlink()
    victim.write_bytes(b"x")
    code, _, err = shell("data", "verify", "noise")
    assert (code, "1 damaged or missing" in err) == (1, True)


def test_data_sets_are_changed_prepared_and_brought_back(shell: Shell, tmp_path: Path) -> None:
    first = shell.json("data", "add", str(fill_folder(tmp_path / "in", 12)), "--name", "noise")
    removed = shell.json("data", "remove", "noise", "00[0-3].png")
    assert (len(removed["removed"]), removed["images"]) == (4, 8)
    fill_folder(tmp_path / "other", 3)
    replaced = shell.json("data", "replace", "noise", str(tmp_path / "other"))
    assert replaced["train"] + replaced["holdout"] == 3
    diff = shell.json("data", "diff", f"noise@{first['version']}", "noise")
    assert (diff["removed"], diff["added"], diff["same"]) == (9, 0, 3)
    with Image.open(diff["contact_sheet"]) as sheet:
        assert sheet.width > 300
    back = shell.json("data", "checkout", f"noise@{first['version'][:8]}")
    assert (back["version"], back["images"]) == (first["version"], 12)
    prepared = shell.json(
        "data", "prepare", "noise", "--set", "data.height_px=16", "--set", "data.width_px=16"
    )
    assert sum(prepared["images"].values()) == 12
    shown = shell.json("data", "show", "noise")
    assert len(shown["versions"]) == 3
    page = Path(shown["page"]).read_text()
    assert "too few for" in page
    assert page.count("<img") >= 1
    for words in (("push", "noise"), ("pull", "noise")):
        code, _, err = shell("data", *words)
        assert (code, "dvc remote add" in err) == (1, True)
    assert shell("data", "checkout", "noise")[0] == 1
    assert shell("data", "checkout")[0] == 1


def test_train_evaluate_generate_and_stylize(shell: Shell, tmp_path: Path) -> None:
    trained_on = shell.json("data", "add", str(fill_folder(tmp_path / "in", 90)), "--name", "noise")["train"]
    trained = shell.json("train", "--dataset", "noise", *SETS)
    assert trained["state"] == "finished"
    assert {"mlflow_run_id", "nimg", "images_per_second", "device", "precision", "run_dir"} <= set(trained)
    assert len(trained["weights_sha256"]) == 64
    assert Path(str(trained["film"])).stat().st_size > 1000
    assert shell.json("train", "--dataset", "noise", *SETS)["state"] == "up_to_date"

    version = shell.json("data", "list")["datasets"][0]["version"]
    noise_image(999).save(tmp_path / "in/late.png")
    later = shell.json("data", "add", str(tmp_path / "in"), "--name", "noise")
    assert later["version"] != version
    brought = shell.json("data", "checkout", "--run", trained["mlflow_run_id"])
    assert (brought["version"], brought["prepared_with"]["height_px"]) == (version, "16")

    judged = shell.json("evaluate", trained["mlflow_run_id"], "--dataset", "noise", *SETS)
    assert {"value", "extractor", "samples"} <= set(judged["metrics"]["kd"])
    assert judged["verdict"]
    assert judged["conditions"]["generated"] == 24
    assert judged["conditions"]["version"] == version
    assert judged["evidence"]
    with Image.open(judged["report_card"]) as card:
        assert card.width == 1200
    assert judged["verdict"] in Path(judged["report_card"]).with_suffix(".html").read_text()
    suspects = judged["suspects"]
    assert len(suspects) == 10
    assert all(0 <= s["image"] < 24 and 0 <= s["row"] < trained_on for s in suspects)
    traced = shell.json("trace", judged["grid"])
    assert traced["origin"]["dataset"]["name"] == "noise"
    assert traced["run_here"] is True
    folder = shell.json("evaluate", "--generated", str(tmp_path / "in"), "--dataset", "noise", *SETS)
    assert folder["metrics"]["kd"]["samples"] == 91

    for psi in ("0", "1.5", "nan", "half"):
        code, _, err = shell("generate", "--truncation", psi, "--out", str(tmp_path / "gen"))
        assert (code, "a number above 0 and at most 1" in err) == (2, True)
    code, _, err = shell("generate", "--out", str(tmp_path / "gen"))
    assert (code, "no champion" in err) == (1, True)
    code, _, err = shell("promote", str(trained["run"]))
    assert (code, "registered no model" in err) == (1, True)
    drawn = shell.json(
        "generate", "--model", str(trained["run"]), "-n", "3", "--out", str(tmp_path / "drawn")
    )
    images = sorted((tmp_path / "drawn").iterdir())
    assert (drawn["model"], len(images)) == (trained["run"], 3)
    assert f"--model {trained['run']} --seed 0 -n 1 " in shell.json("trace", str(images[0]))["command"]
    compared = shell.json("compare", str(trained["run"]), str(tmp_path / "in"), *SETS)
    assert compared["gate"]["comparison"]["images"] == 24
    assert compared["b"]["evaluation"]["verdict"]
    with Image.open(compared["sheet"]) as sheet:
        assert sheet.width > 300
    code, out, _ = shell("compare", str(trained["run"]), str(trained["run"]), *SETS)
    assert (code, "A would be kept" in out, "Both make the same images" in out) == (0, True, True)

    content, style = tmp_path / "in/000.png", tmp_path / "in/001.png"
    words = ("stylize", "--content", str(content), "--style", str(style), "--out", str(tmp_path / "art"))
    styled = shell.json(*words, *SETS)
    assert (styled["done"], styled["skipped"], styled["failed"]) == (1, 0, 0)
    assert {"content", "styles", "output", "state", "seconds"} <= set(styled["items"][0])
    assert styled["steps_per_second"] > 0
    assert shell.json(*words, *SETS)["skipped"] == 1
    status = shell.json("status")
    assert [r["state"] for r in status["runs"]] == ["finished"]


@pytest.mark.slow
def test_a_photo_becomes_a_latent_that_is_drawn_mixed_and_interpolated(shell: Shell, tmp_path: Path) -> None:
    shell.json("data", "add", str(fill_folder(tmp_path / "in", 60)), "--name", "noise")
    style = [f"--set={key.replace('__', '.')}={value}" for key, value in STYLE.items()]
    model = ("--model", str(shell.json("train", "--dataset", "noise", *SETS, *style)["run"]))
    photos, out = [str(tmp_path / f"in/00{k}.png") for k in (0, 1)], tmp_path / "out"
    items = shell.json("project", *photos, *model, "--steps", "3", "--out", str(out))["items"]
    assert [Path(item["photo"]).name for item in items] == ["000.png", "001.png"]
    assert all(item["distance"] < item["distance_before"] for item in items)
    latents = [str(item["latent"]) for item in items]
    drawn = shell.json("generate", *model, "--latent", *latents, "--out", str(tmp_path / "drawn"))
    assert [Path(path).name for path in drawn["images"]] == ["latent-000.png", "latent-001.png"]
    command = shell.json("trace", drawn["images"][0])["command"]
    assert f"generate {' '.join(model)} --latent 000.safetensors " in command
    film = tmp_path / "walk.gif"
    walk = shell.json("interpolate", *model, "--latents", *latents, "--frames", "3", "--out", str(film))
    assert walk["frames"] == 6
    sheet = tmp_path / "mix.png"
    mixed = shell.json("mix", f"0-1,{latents[0]}", "2", *model, "--out", str(sheet))
    assert [source.get("index") for source in mixed["a"]] == [0, 1, None]
    assert shell.json("trace", str(sheet))["command"].startswith("ganpipe mix 0,1,000.safetensors 2 --model")
    code, _, err = shell("mix", "0", "1", *model, "--out", str(sheet))
    assert (code, "exists already" in err) == (1, True)
    for words in (
        ("generate", *model, "--latent", latents[0], "--truncation", "0.5", "--out", str(out)),
        ("generate", *model, "--latent", latents[0], "-n", "3", "--out", str(out)),
        ("interpolate", *model, "--latents", latents[0], "--out", str(tmp_path / "b.gif")),
        ("mix", "0", "1", *model, "--out", str(tmp_path / "mix.jpg")),
        ("project", photos[0], *model, "--steps", "0", "--out", str(out)),
    ):
        assert shell(*words)[0] == 2, words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--dataset", "cats"), "There is no dataset cats"),
        (("run", "--set", "training.batch_imgs=3"), "did you mean training.batch_images"),
        (("run", "--preset", "demoo"), "did you mean demo"),
        (("data", "add", "/no/such/folder", "--name", "x"), "There is no file or folder"),
        (("data", "verify", "cats"), "There is no dataset cats"),
        (("evaluate", "nothing"), "No run is called nothing"),
        (("evaluate", "--generated", "/no/such"), "There is no folder"),
        (("generate", "--out", "x", "--model", "nothing"), "There is no model nothing"),
        (("interpolate", "--out", "film.avi"), "use one of .mp4, .gif, .png"),
        (("mix", "0-99", "1", "--out", "x.png"), "0-99 means 100 images; at most 16 fit on a side"),
        (("project", "/no/such.png", "--out", "x"), "There is no file or folder /no/such.png"),
        (("stylize", "--content", "/no", "--style", "/no", "--out", "x"), "There is no file or folder"),
        (("trace", "/no/such.png"), "does not exist"),
        (("reproduce", "nothing"), "No run is called nothing"),
        (("promote", "nothing"), "No run is called nothing"),
        (("refuse", "nothing"), "No run is called nothing"),
        (("rollback",), "There is no champion"),
        (("compare", "champion", "nothing"), "There is no champion"),
        (("compare", "nothing", "nothing"), "no run and no folder"),
        (("up", "--watch", "/no/such"), "There is no folder /no/such to watch"),
        (("up", "--cron", "every day"), "is no cron line"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_1(
    shell: Shell, words: tuple[str, ...], said: str
) -> None:
    code, _, err = shell(*words)
    assert code == 1
    assert said in err
    last = [line for line in err.splitlines() if line.startswith("ganpipe: ")]
    assert len(last) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("run", "--nonsense"),
        ("evaluate",),
        ("generate", "--out", "x", "-n", "0"),
        ("promote", "x", "--because", "a\nb"),
    ],
)
def test_wrong_use_is_exit_2(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell(*words)[0] == 2


def test_a_port_in_use_is_named(shell: Shell) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = shell("up", "--prefect-port", str(port))
    assert code == 1
    assert f"Port {port} for the prefect is in use" in err


def test_a_workspace_that_is_a_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["status", "--workspace", str(tmp_path / "file")]) == 1
    assert "it must be a folder" in capsys.readouterr().err


def test_settings_prints_what_params_yaml_may_hold(shell: Shell) -> None:
    code, out, _ = shell("settings")
    assert code == 0
    assert "# batch_images: 64" in out


def test_completion_is_a_script_that_bash_reads(shell: Shell) -> None:
    code, out, _ = shell("completion", "bash")
    assert code == 0
    assert "interpolate" in out
    assert subprocess.run(["bash", "-n"], input=out, text=True, check=False).returncode == 0


def test_an_existing_film_is_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "film.gif").write_bytes(b"mine")
    code, _, err = shell("interpolate", "--out", str(tmp_path / "film.gif"))
    assert (code, "exists already; choose another --out" in err) == (1, True)
    assert (tmp_path / "film.gif").read_bytes() == b"mine"


def test_an_unwritable_out_is_said_before_the_first_step(shell: Shell, tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    picture = str(tmp_path / "a.png")
    words = ("stylize", "--content", picture, "--style", picture, "--out", str(tmp_path / "file/art"))
    code, _, err = shell(*words, *SETS)
    assert (code, "is a file, or below one" in err, "images/s" in err) == (1, True, False)


def test_a_batch_whose_record_mlflow_cannot_take_is_kept_and_said(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ganpipe.stages import stylize

    def away(*_: object) -> str:
        raise ConnectionError("refused")

    monkeypatch.setattr(stylize, "log_batch_run", away)
    noise_image(0).save(tmp_path / "a.png")
    picture = str(tmp_path / "a.png")
    words = ("stylize", "--content", picture, "--style", picture, "--out", str(tmp_path / "art"))
    assert shell.json(*words, *SETS)["done"] == 1
    assert "this batch is not recorded there" in caplog.text


@pytest.mark.parametrize(
    "words", [("train",), ("run",), ("evaluate", "champion"), ("up",), ("generate", "--out", "x")]
)
def test_a_command_that_needs_mlflow_says_first_that_its_server_is_away(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, _, err = shell(*words)
    assert (code, "The MLflow server at http://127.0.0.1:9" in err) == (1, True)


def test_pictures_are_made_for_a_screen_unless_somebody_chooses() -> None:
    assert default_size(Params(), ["style.strength=0.7"]) == ["style.preset=screen"]
    assert default_size(Params(), ["style.preset=draft"]) == []
    assert default_size(Params(preset="demo"), []) == []
    assert default_size(Params(values={"style.preset": "best"}), []) == []

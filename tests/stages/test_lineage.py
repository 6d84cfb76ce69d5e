"""Lineage: how data, runs, models and pictures belong together; and the command that makes a picture again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ganpipe.cli import main
from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.imaging.provenance import read_origin
from ganpipe.settings.schema import Settings
from ganpipe.stages import generate, promote
from ganpipe.stages.lineage import trace_lineage
from ganpipe.stages.stylize import StyleRequest, stylize_here
from ganpipe.stages.trace import remaking_command
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, noise_image, with_
from tests.stages.test_gc import registered


@pytest.fixture
def run(migrated: Workspace, prepared_noise: Path, settings: Settings) -> RunRecord:
    copied(prepared_noise, migrated)
    record = registered(migrated, settings)
    promote.promote_run(migrated, record)
    return record


def test_every_name_of_a_chain_leads_to_the_whole_chain(
    workspace: Workspace, run: RunRecord, tmp_path: Path
) -> None:
    model = generate.load_model(workspace, "champion", None)
    (picture,) = generate.generate_images(model, 1, 3, tmp_path / "out")
    whole = trace_lineage(workspace, run.run_id).chain
    film = workspace.runs / run.run_id / "film.mp4"
    assert [(link.kind, link.name) for link in whole] == [
        ("dataset", f"noise@{run.version[:12]}"),
        ("run", run.run_id),
        ("model", "ganpipe-noise/1"),
        ("picture", str(film)),
    ]
    assert whole[0].command == f"ganpipe data checkout noise@{run.version}"
    names = ("noise", f"noise@{run.version[:8]}", "champion", "ganpipe-noise/1", str(picture))
    for name in names:
        assert trace_lineage(workspace, name).chain == whole, name


def test_what_nobody_has_made_is_one_sentence(workspace: Workspace, run: RunRecord, tmp_path: Path) -> None:
    noise_image(1).save(tmp_path / "photo.png")
    for reference, said in (
        ("nothing", "No run is called nothing"),
        ("noise/7", "There is no model noise/7"),
        (str(tmp_path / "photo.png"), "carries no ganpipe origin"),
    ):
        with pytest.raises(GanpipeError, match=said):
            trace_lineage(workspace, reference)


def test_the_command_of_a_picture_makes_the_same_bytes(
    workspace: Workspace, run: RunRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = generate.load_model(workspace, "champion", None)
    paths = generate.generate_images(model, 3, 5, tmp_path / "out", truncation=0.5)
    assert main(["trace", str(paths[1]), "--json", "--workspace", str(workspace.root)]) == 0
    traced = json.loads(capsys.readouterr().out)
    assert (traced["model_version"], traced["settings"]["model"]["z_dim"]) == ("ganpipe-noise v1", 8)
    words = shlex.split(traced["command"].replace("DIR", str(tmp_path / "again")))
    assert main([*words[1:], "--workspace", str(workspace.root)]) == 0
    assert sha256_of(tmp_path / "again" / paths[1].name) == sha256_of(paths[1])


def test_a_stylized_photo_names_no_run_and_a_stylized_image_of_a_model_names_its_own(
    workspace: Workspace, run: RunRecord, settings: Settings, tmp_path: Path
) -> None:
    photo, style = tmp_path / "photo.png", tmp_path / "style.png"
    noise_image(1).save(photo)
    noise_image(2).save(style)
    job = StyleRequest(
        str(workspace.root),
        (str(photo), "model:champion:1"),
        (str(style),),
        str(tmp_path / "styled"),
        with_(settings, style__strength=0.7),
    )
    found = {Path(item.content).name: read_origin(Path(item.output)) for item in stylize_here(job).items}
    of_photo = found.pop("photo.png")
    (of_model,) = found.values()
    assert set(of_photo["content"]) == {"name", "sha256"}
    assert "run" not in of_photo
    assert "fingerprint" not in of_photo
    assert (of_model["content"]["run"], of_model["content"]["model"]) == (run.run_id, "ganpipe-noise v1")
    command = remaking_command(of_photo)
    assert command is not None
    words = shlex.split(
        command.replace("--content photo.png", f"--content {photo}").replace("DIR", str(tmp_path / "again"))
    )
    words = [str(style) if word == "style.png" else word for word in words]
    assert main([*words[1:], "--set", "training.device=cpu", "--workspace", str(workspace.root)]) == 0
    (again,) = list((tmp_path / "again").glob("photo*.png"))
    assert {k: v for k, v in read_origin(again).items() if k != "quality"} == {
        k: v for k, v in of_photo.items() if k != "quality"
    }


@pytest.mark.parametrize(
    "origin", [{}, {"kind": "generated"}, {"kind": "stylized", "style": 3}, {"kind": ["x"]}]
)
def test_a_strangers_origin_has_no_command(origin: dict[str, object]) -> None:
    assert remaking_command(origin) is None

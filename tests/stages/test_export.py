"""Exported models: the file draws the model's pixels, or it is not written; and the card's own example runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganpipe.cli import main
from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import read_origin
from ganpipe.models.io import save_generator
from ganpipe.models.registry import MODELS, build_generator
from ganpipe.reports.model_card import escape_markdown
from ganpipe.settings.schema import Settings
from ganpipe.stages import export, export_formats, generate
from ganpipe.stages.export import Exported, ExportedGenerator, export_model, largest_difference
from ganpipe.stages.export_formats import FORMATS
from ganpipe.stages.generate import LoadedModel
from ganpipe.stages.trace import trace_origin
from ganpipe.stores.model_registry import ModelRef
from ganpipe.stores.run_records import RunRecord, new_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import R3, with_

SMALL = {"r3gan": R3, "fastgan": {"model__width": 0.1}}
SIDES = {"fastgan": 32}
CPU = Compute(torch.device("cpu"), "fp32")


def random_model(
    settings: Settings, name: str, labels: tuple[str, ...] = (), channels: int = 3
) -> LoadedModel:
    """A model of which nothing is at its start: weights that start at zero would hide differences."""
    side = SIDES.get(name, 16)
    settings = with_(settings, **{"model__name": name, **SMALL.get(name, {})})
    shape = ImageShape(channels, side, side)
    G = build_generator(settings.model, shape, len(labels))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for _ in range(5):  # running statistics and spectral norms of these weights
            classes = torch.arange(16) % len(labels) if labels else None
            G.train()(torch.randn(16, settings.model.z_dim), classes)
    config = {
        "model": settings.model.model_dump(),
        "shape": {"channels": channels, "height_px": side, "width_px": side},
        "labels": dict.fromkeys(labels, 1),
        "origin": {"run": "noise-1", "dataset": {"name": "noise", "version": "v"}},
    }
    return LoadedModel(ModelRef("noise-1", "", None, ""), CPU.place(G.eval()), config, CPU)


def finished_run(workspace: Workspace, model: LoadedModel, settings: Settings) -> RunRecord:
    """A run whose folder holds this model."""
    settings = settings.with_values({f"model.{key}": value for key, value in model.config["model"].items()})
    evaluation = Evaluation({"kd": Metric(0.25, "vgg19", 24, 0.01)}, "fair", ["Images | look *real*."])
    record = replace(
        new_record("noise", "v", settings, ("cpu", "fp32")), state="finished", evaluation=evaluation
    )
    folder = run_folder(workspace, record.run_id)
    folder.mkdir(parents=True)
    save_record(workspace, record)
    labels = model.config["labels"]
    save_generator(folder / "model", model.G, settings.model, model.shape, record.origin(), labels)
    return record


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models come from run folders; the registry, which takes a second to open, knows none of them."""
    monkeypatch.setattr(generate, "ModelRegistry", lambda *_, **__: _NoRegistry())


class _NoRegistry:
    def registered(self, record: RunRecord) -> None:
        return None


def exported(workspace: Workspace, model: LoadedModel, settings: Settings, name: str, out: Path) -> Exported:
    record = finished_run(workspace, model, settings)
    return export_model(workspace, record.run_id, None, name, out, "CC BY 4.0")


def cases() -> list[Any]:
    """Every model in every format; all but the quick ones take more than six seconds."""
    quick = {("mlp", "onnx"), ("mlp", "torch-export"), ("dcgan", "torch-export"), ("r3gan", "torch-export")}
    return [
        pytest.param(name, chosen, marks=() if (name, chosen) in quick else pytest.mark.slow)
        for name in MODELS
        for chosen in FORMATS
    ]


@pytest.mark.parametrize(("name", "format_name"), cases())
def test_every_model_exports_in_every_format(settings: Settings, name: str, format_name: str) -> None:
    for labels in ((), ("a", "b", "c")) if MODELS[name].conditional else ((),):
        model, chosen = random_model(settings, name, labels), FORMATS[format_name]
        data = export.write_file(model, chosen, format_name)
        assert largest_difference(model, chosen.open(data)) <= 1e-5
        if labels:
            draw, z = chosen.open(data), torch.randn(1, model.z_dim).expand(3, -1)
            images = draw(z, torch.arange(3))
            assert not torch.equal(images[0], images[1]), "the label decides"


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("format_name", "labels", "channels"),
    [
        ("onnx", ("a|b", "c"), 3),
        pytest.param("torch-export", (), 1, marks=pytest.mark.slow),
        pytest.param("onnx", (), 1, marks=pytest.mark.slow),
        pytest.param("torch-export", ("a", "b"), 4, marks=pytest.mark.slow),
    ],
)
def test_the_five_lines_of_the_card_draw_an_image_of_the_model(
    workspace: Workspace,
    settings: Settings,
    tmp_path: Path,
    format_name: str,
    labels: tuple[str, ...],
    channels: int,
) -> None:
    model = random_model(settings, "r3gan" if labels else "dcgan", labels, channels)
    done = exported(workspace, model, settings, format_name, tmp_path / "out")
    [lines] = re.findall(r"```python\n(.*?)\n```", Path(done.card).read_text(), re.DOTALL)
    assert len(lines.splitlines()) == 5
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", lines], cwd=tmp_path / "out", env=environment, check=True)
    if format_name == "onnx":
        z = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8), dtype=np.float32))
    else:
        z = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    own = ExportedGenerator(model.G)(z, torch.tensor([0]) if labels else None).detach()
    pixels = (127.5 * (own[0].permute(1, 2, 0) + 1)).squeeze(-1).numpy()
    with Image.open(tmp_path / "out" / "image.png") as image:
        assert np.abs(np.asarray(image, dtype=float) - pixels).max() <= 1


@pytest.mark.usefixtures("alone")
def test_the_card_says_what_the_model_is_and_its_picture_is_traced(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    done = exported(workspace, random_model(settings, "mlp"), settings, "torch-export", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "generator.pt2",
        "generator.pt2.md",
        "generator.pt2.png",
    ]
    card = Path(done.card).read_text()
    for part in (
        "| dataset | noise, version v |",
        "| license | CC BY 4.0 |",
        f"| run | {done.model} |",
        "Verdict: **fair**. Images \\| look \\*real\\*.",
        "| kd | 0.25 | 0.01 | vgg19 | 24 |",
        "  name: mlp\n",
        "![Generated images](generator.pt2.png)",
        f"ganpipe export {done.model} --format torch-export --out DIR --license 'CC BY 4.0'",
    ):
        assert part in card, part
    assert str(tmp_path) not in card
    trace = trace_origin(workspace, done.picture, read_origin(Path(done.picture)))
    assert trace.command == f"ganpipe export {done.model} --format torch-export --out DIR"
    assert trace.record is not None
    with pytest.raises(GanpipeError, match="exists already"):
        export_model(workspace, done.model, None, "torch-export", tmp_path / "out")


@pytest.mark.usefixtures("alone")
def test_a_card_without_a_license_or_a_run_here_says_so(
    workspace: Workspace, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = finished_run(workspace, random_model(settings, "mlp"), settings)
    monkeypatch.setattr(export, "all_records", lambda _: [])
    card = Path(
        export_model(workspace, record.run_id, None, "torch-export", tmp_path / "out").card
    ).read_text()
    assert "| license | not stated |" in card
    assert "It was not evaluated here." in card
    assert "  name: mlp\n" in card


class Wrong(nn.Module):
    """Draws what the generator draws, one and a half of 255 steps brighter."""

    def __init__(self, G: nn.Module) -> None:
        super().__init__()
        self.inner = ExportedGenerator(G)

    def forward(self, z: Tensor) -> Tensor:
        return self.inner(z) + 2 * 1.5 / 255


@pytest.mark.usefixtures("alone")
def test_a_file_that_draws_other_pixels_is_not_written(
    workspace: Workspace, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ExportedGenerator", Wrong)
    with pytest.raises(GanpipeError, match=r"differ from the model's by up to 1\.5/255"):
        exported(workspace, random_model(settings, "mlp"), settings, "torch-export", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("alone")
def test_a_model_that_a_format_cannot_hold_is_refused_in_a_sentence(
    workspace: Workspace, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z if z.sum().item() > 0 else -z

    monkeypatch.setattr(ExportedGenerator, "forward", forward)
    with pytest.raises(GanpipeError, match=r"cannot be exported as torch-export: "):
        exported(workspace, random_model(settings, "mlp"), settings, "torch-export", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: name == "onnx" or None)
    with pytest.raises(GanpipeError, match=r"onnxscript, onnxruntime, .* pip install 'ganpipe\[export\]'"):
        export_model(workspace, "champion", None, "onnx", tmp_path / "out")


@pytest.mark.usefixtures("alone")
def test_the_command_prints_one_json_object(
    workspace: Workspace, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = finished_run(workspace, random_model(settings, "mlp"), settings)
    words = ["export", record.run_id, "--format", "torch-export", "--workspace", str(workspace.root)]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["model"], told["format"], told["checked_images"]) == (record.run_id, "torch-export", 26)
    assert told["largest_difference"] <= 1 / 255
    assert all(Path(told[name]).exists() for name in ("file", "card", "picture"))
    assert main([*words, "--out", str(tmp_path / "out")]) == 1


def test_no_character_of_a_name_is_markup() -> None:
    assert escape_markdown("a|b <i>*x*</i> [y](z) `q`") == (r"a\|b \<i\>\*x\*\</i\> \[y\](z) \`q\`")

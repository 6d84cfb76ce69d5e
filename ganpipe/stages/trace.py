"""Where a picture comes from: what its file says, whether its run is here, and the command that makes it again.

Imports no torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ganpipe.settings.schema import StyleSettings
from ganpipe.stores.run_records import RunRecord, all_records
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class Trace:
    """The origin of a picture. `record`: of its run, if that is here; `command`: None if no single command makes it again."""

    file: str
    origin: dict[str, Any]
    record: RunRecord | None
    command: str | None

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        made = (
            {"model_version": self.record.model_version, "settings": self.record.settings}
            if self.record
            else {}
        )
        return {
            "file": self.file,
            "origin": self.origin,
            "run_here": self.record is not None,
            "command": self.command,
        } | made

    def facts(self) -> list[tuple[str, str]]:
        """Lists the facts of the origin, each as a name and a text; empty ones are left out."""
        said = {key: value for key, value in self.origin.items() if value not in ([], {}, None)}
        return [(key.replace("_", " "), _as_text(value)) for key, value in said.items()]


def trace_origin(workspace: Workspace, file: str, origin: dict[str, Any]) -> Trace:
    """The trace of the picture `file`, whose own words about itself are `origin`; they may be a stranger's."""
    record = next((r for r in all_records(workspace) if r.run_id == origin.get("run")), None)
    return Trace(file, origin, record, remaking_command(origin))


def _as_text(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def remaking_command(origin: dict[str, Any]) -> str | None:
    """The command that makes a picture with this origin again; None if no single command does."""
    make = COMMANDS.get(str(origin.get("kind")))
    try:
        return make(origin) if make else None
    except (KeyError, TypeError, AttributeError):  # of another version, or a stranger's
        return None


def name_model(shown: str) -> str:
    """A model as `--model` takes it: NAME/VERSION, or a run that nothing has registered. `shown`: as an origin names it."""
    name, _, version = shown.partition(" v")
    return f"{name}/{version}" if version else name


def _generate(origin: dict[str, Any]) -> str:
    words = ["ganpipe", "generate", "--model", name_model(str(origin["model"]))]
    if "latent" in origin:
        return shlex.join([*words, "--latent", str(origin["latent"]["name"]), "--out", "DIR"])
    words += ["--seed", str(int(origin["seed"])), "-n", str(int(origin["index"]) + 1)]
    return shlex.join([*words, *_options(origin), "--out", "DIR"])


def _options(origin: dict[str, Any]) -> list[str]:
    words = ["--label", str(origin["label"])] if "label" in origin else []
    return words + (["--truncation", str(float(origin["truncation"]))] if "truncation" in origin else [])


def _mix(origin: dict[str, Any]) -> str:
    a, b = (
        ",".join(
            str(source["name"]) if "name" in source else str(int(source["index"])) for source in origin[side]
        )
        for side in ("a", "b")
    )
    words = [
        "ganpipe",
        "mix",
        a,
        b,
        "--model",
        name_model(str(origin["model"])),
        "--seed",
        str(int(origin["seed"])),
    ]
    return shlex.join([*words, *_options(origin), "--out", "FILE.png"])


def _project(origin: dict[str, Any]) -> str:
    words = ["ganpipe", "project", str(origin["photo"]["name"]), "--model", name_model(str(origin["model"]))]
    words += ["--space", str(origin["space"])] if origin["space"] == "w+" else []
    words += ["--steps", str(int(origin["steps"])), "--seed", str(int(origin["seed"]))]
    return shlex.join([*words, *_options(origin), "--out", "DIR"])


def _export(origin: dict[str, Any]) -> str:
    words = ["ganpipe", "export", name_model(str(origin["model"])), "--format", str(origin["format"])]
    return shlex.join([*words, "--out", "DIR"])


def _stylize(origin: dict[str, Any]) -> str:
    styles = origin["style"] if isinstance(origin["style"], list) else [origin["style"]]
    words = ["ganpipe", "stylize", "--content", str(origin["content"]["name"])]
    words += ["--style", *(str(style["name"]) for style in styles)]
    for override in style_overrides(origin):
        words += ["--set", override]
    return shlex.join([*words, "--out", "DIR"])


def style_overrides(origin: dict[str, Any]) -> list[str]:
    """The settings of a stylized image that differ from the defaults, as `--set` takes them.

    Raises:
        KeyError, TypeError, AttributeError: the origin is of another version, or a stranger's.
    """
    values = {key: _as_setting(value) for key, value in origin["recipe"].items()} | {
        "preset": origin["preset"]
    }
    if share := origin["recipe"].get("last_share"):
        values["last_steps"] = round(values["steps"] * share)
    if video := origin.get("video"):
        values |= {"video_steps": video["steps"], "temporal_weight": video["temporal_weight"]}
    if isinstance(origin["style"], list):
        values["blend"] = "+".join(f"{share:g}" for share in origin["shares"])
    fields = StyleSettings.model_fields
    return [
        f"style.{key}={values[key]}"
        for key in sorted(values.keys() & fields.keys())
        if values[key] != fields[key].default
    ]


def _as_setting(value: Any) -> Any:
    """A list of layers, or of pairs of a layer and its weight, as the settings write it."""
    if not isinstance(value, list):
        return value
    return "+".join(str(layer[0] if isinstance(layer, list) else layer) for layer in value)


def _evaluate(origin: dict[str, Any]) -> str:
    return shlex.join(["ganpipe", "evaluate", str(origin["run"])])


COMMANDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "generated": _generate,
    "style mixing": _mix,
    "projection": _project,
    "exported samples": _export,
    "stylized": _stylize,
    "report card": _evaluate,
    "sample grid": _evaluate,
}

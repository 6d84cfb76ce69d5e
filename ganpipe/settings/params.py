"""Settings from `params.yaml` and from `--set`, and the template of that file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.notifications import parse_notify
from ganpipe.settings.presets import INTERVALS, PRESETS, Row, preset_row
from ganpipe.settings.schedules import Schedule, parse_schedules
from ganpipe.settings.schema import SECTIONS, NotifySettings, Settings, Work, validated
from ganpipe.settings.sweep import Dimension, parse_sweep
from ganpipe.settings.validation import Section, choices_of, shown
from ganpipe.settings.yaml_files import parse_document, read_yaml

NAMES = ("dataset", "preset")
TOP_LEVEL = (*NAMES, "schedules", "notify", "sweep")


@dataclass(frozen=True)
class Params:
    """A workspace's `params.yaml`: the dataset, the preset, the settings that differ from the defaults, the schedules,
    who is told of what, and the search space of sweeps."""

    dataset: str = "flowers"
    preset: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    notify: NotifySettings = field(default_factory=NotifySettings)
    space: tuple[Dimension, ...] = ()


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["training.seed=3"]` → `{"training.seed": 3}`, validated."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise GanpipeError(f"--set takes KEY=VALUE, and {text!r} has no '='.")
        try:
            values[key.strip()] = _scalar(value)
        except GanpipeError as error:
            raise GanpipeError(f"--set {key.strip()} cannot be read: {error}.") from None
    return validated(values)


def _scalar(text: str) -> Any:
    try:
        value = parse_document(text)
    except yaml.YAMLError:  # such as @LIST, *.jpg: words that need no quotes here
        return text
    return text if value is None and text.startswith("#") else value  # a color, no comment


def read_params(path: Path) -> Params:
    """The workspace's `params.yaml`; the defaults if there is no such file.

    Raises:
        GanpipeError: not YAML, an unknown key, or a value that is not allowed.
    """
    if not path.exists() and not path.is_symlink():
        return Params(notify=parse_notify(None))
    tree = _read_tree(path)
    try:
        notify = parse_notify(tree.get("notify"))
        values = validated(_flattened(tree))
        dataset, preset = (_name(tree, key) for key in NAMES)
        schedules, space = parse_schedules(tree.get("schedules")), parse_sweep(tree.get("sweep"))
        if preset is not None:
            preset_row(preset)
    except GanpipeError as error:
        raise GanpipeError(f"In {path}: {error}") from None
    return Params(dataset or Params.dataset, preset, values, schedules, notify, space)


def _name(tree: Mapping[str, Any], key: str) -> str | None:
    """A name in the first level; one that is all digits needs no quotes."""
    value = tree.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise GanpipeError(f"{key} is {shown(value)}; it must be a name, in quotes if it looks like a number.")


def _read_tree(path: Path) -> dict[str, Any]:
    tree = read_yaml(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise GanpipeError(f"{path} holds {type(tree).__name__}; it must hold sections such as 'training:'.")
    return tree


def _flattened(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"training": {"seed": 1}}` → `{"training.seed": 1}`; empty sections are left out."""
    values: dict[str, Any] = {}
    for section, content in tree.items():
        if section in TOP_LEVEL or content is None:
            continue
        if section not in SECTIONS:
            raise GanpipeError(f"Unknown section {section}: {nearest(section, [*SECTIONS, *TOP_LEVEL])}")
        if not isinstance(content, dict):
            raise GanpipeError(f"{section} is {shown(content)}; it must hold settings.")
        values |= {f"{section}.{key}": value for key, value in content.items()}
    return values


def resolve(
    params: Params, preset: str, assignments: Iterable[str] = (), sizes: Row | None = None
) -> Settings:
    """Defaults, then the preset's row for the requested model, then `params.yaml`, then `--set`.

    `sizes`: of images and network, as they suit the time that there is; they come before `params.yaml`.

    Raises:
        GanpipeError: an unknown key, a value that is not allowed, or two lengths of training.
    """
    requested = with_one_length(params.values) | with_one_length(parse_assignments(assignments))
    preset_values = preset_row(preset, requested.get("model.name")) | (sizes or {})
    if requested.get("training.minutes"):  # the preset's intervals belong to its own length
        preset_values |= dict.fromkeys(INTERVALS, 0)
    return Settings().with_values(preset_values | requested)


def with_one_length(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values; a number of images takes the place of minutes that come from elsewhere.

    Raises:
        GanpipeError: both are given in one place.
    """
    if "training.total_images" not in values:
        return dict(values)
    if values.get("training.minutes"):
        raise GanpipeError("training.minutes and training.total_images are both given; keep one of them.")
    return {"training.minutes": 0.0} | dict(values)


def params_template() -> str:
    """A `params.yaml` that lists every setting, commented out, with its default and meaning."""
    lines = [
        "# Settings of this workspace. Remove the '# ' before a line to change its setting; the values shown are the defaults.",
        "# Later values win: these defaults, the preset, this file, --set section.key=value.",
        "",
        f"dataset: {Params.dataset}",
        f"# preset: demo   # {', '.join(PRESETS)}; without it ganpipe chooses by the number of images and the device",
        "# schedules:      # of `ganpipe up`; each may also have timezone, dataset, minutes and settings (docs/operations.md)",
        f"#   - {{name: nightly, cron: 0 2 * * *, work: retrain}}   # {', '.join(get_args(Work))}",
    ]
    lines += [
        "# sweep:          # of `ganpipe sweep`; without it the space lies around the settings (docs/training.md)",
        "#   space: {training.g_lr: {low: 0.0005, high: 0.008, log: true}, training.batch_images: [16, 32, 64]}",
    ]
    sections: dict[str, type[Section]] = {**SECTIONS, "notify": NotifySettings}
    for section, cls in sections.items():
        lines += ["", f"{section}:", *(_template_line(name, f) for name, f in cls.model_fields.items())]
    return "\n".join(lines) + "\n"


def _template_line(name: str, setting: FieldInfo) -> str:
    choices = choices_of(setting)
    allowed = f" ({', '.join(map(str, choices))})" if choices else ""
    return f"  # {name}: {as_yaml(setting.default)}   # {setting.description}{allowed}"


def as_yaml(value: Any) -> str:
    """A default as `params.yaml` shows it."""
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'

"""The reference page of all settings and presets, made from the schema and the presets table.

python -m ganpipe.settings.reference > docs/settings.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from ganpipe.settings.params import as_yaml
from ganpipe.settings.presets import PRESETS, preset_row
from ganpipe.settings.schema import FIELDS, SECTIONS, NotifySettings, ScheduleSettings
from ganpipe.settings.validation import Section, bounds_of, choices_of, kind_of

HEADER = """# Settings

Made by `python -m ganpipe.settings.reference`; do not edit.

Set a value in `params.yaml` or with `--set section.key=value`. Later values win: the default, the preset,
`params.yaml`, `--set`.
"""


def settings_reference() -> str:
    """The page in Markdown: one table per section, then the presets."""
    sections = [_section(name, cls) for name, cls in SECTIONS.items()]
    return "\n".join(
        [
            HEADER,
            *sections,
            _section("notify", NotifySettings),
            _section("schedules", ScheduleSettings),
            _presets(),
            _preset_values(),
        ]
    )


def _section(name: str, cls: type[Section]) -> str:
    rows = [
        (f"`{key}`", _allowed(field), f"`{as_yaml(field.default)}`", field.description)
        for key, field in cls.model_fields.items()
    ]
    table = _table(("setting", "type or choices", "default", "meaning"), rows)
    return f"## {name}\n\n{cls.__doc__}\n\n{table}"


def _allowed(field: FieldInfo) -> str:
    if choices := choices_of(field):
        return ", ".join(f"`{choice}`" for choice in choices)
    low, high = bounds_of(field)
    kind = kind_of(field).__name__
    if low is None:
        return kind
    return f"{kind}, at least {low}" if high is None else f"{kind}, {low} to {high}"


def _presets() -> str:
    rows = [(f"`{name}`", f"`{preset.model}`", preset.why) for name, preset in PRESETS.items()]
    return "## Presets\n\n" + _table(("preset", "model", "for"), rows)


def _preset_values() -> str:
    """The changes of each preset with its own model: a row per setting, a column per preset."""
    changes = {name: preset_row(name) for name in PRESETS}
    keys = [key for key in FIELDS if any(key in row for row in changes.values())]
    rows = [(f"`{key}`", *(_cell(row.get(key)) for row in changes.values())) for key in keys]
    header = ("setting", *(f"`{name}`" for name in PRESETS))
    return "Changes from the defaults, with the preset's own model:\n\n" + _table(header, rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else as_yaml(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


if __name__ == "__main__":
    print(settings_reference(), end="")

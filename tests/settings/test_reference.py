"""The reference page says what the schema says."""

from __future__ import annotations

from pathlib import Path

from ganpipe.settings.presets import PRESETS
from ganpipe.settings.reference import settings_reference
from ganpipe.settings.schema import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_in_docs_is_up_to_date() -> None:
    """Otherwise: python -m ganpipe.settings.reference > docs/settings.md."""
    assert PAGE.read_text() == settings_reference()


def test_the_page_names_every_setting_and_every_preset() -> None:
    page = settings_reference()
    assert all(f"| `{key.split('.')[1]}` |" in page for key in FIELDS)
    assert all(f"| `{name}` |" in page for name in PRESETS)

"""Section `notify` of `params.yaml`: who is told of what. It is part of no run, because its addresses hold secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ganpipe.errors import GanpipeError, hide, nearest
from ganpipe.settings.schema import NotifySettings
from ganpipe.settings.validation import sentence

URLS_VARIABLE = "GANPIPE_NOTIFY_URLS"


def parse_notify(entry: Any) -> NotifySettings:
    """The section `notify`; its addresses and those of GANPIPE_NOTIFY_URLS are hidden from now on.

    Raises:
        GanpipeError: an unknown key, or a value that is not allowed; no address is in the sentence.
    """
    if entry is None:
        entry = {}
    if not isinstance(entry, Mapping):
        raise GanpipeError("notify must hold settings such as urls.")
    fields = NotifySettings.model_fields
    if unknown := next((str(key) for key in entry if key not in fields), None):
        raise GanpipeError(f"Unknown setting notify.{unknown}: {nearest(unknown, fields)}")
    given = {key: value for key, value in entry.items() if value is not None}
    urls = [*_words(given.pop("urls", "")), *_words(os.environ.get(URLS_VARIABLE, ""))]
    for url in urls:
        hide(url)
    try:
        return NotifySettings(urls=" ".join(dict.fromkeys(urls)), **given)
    except ValidationError as invalid:
        keys = [(str(error["loc"][0]), error) for error in invalid.errors()]
        raise GanpipeError(
            " ".join(sentence(f"notify.{key}", fields[key], error) for key, error in keys)
        ) from None


def _words(urls: Any) -> list[str]:
    """The addresses in a text or in a list of texts."""
    texts = urls if isinstance(urls, list) else [urls]
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise GanpipeError("notify.urls must be an address of Apprise, or a list of them.")
    return [word for text in texts for word in text.split()]

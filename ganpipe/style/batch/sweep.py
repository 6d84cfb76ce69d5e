"""Sweeps: the same images with several values of a setting, side by side on one contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.plan import Variant

SECTION = "style."


def plan_sweep(
    words: Sequence[str], settings_with: Callable[[list[str]], StyleSettings]
) -> tuple[Variant, ...]:
    """The variants of words such as `style.strength=0.3,0.5,0.7`: every combination of their values.

    `settings_with`: the settings with further overrides. Every image of a sweep is optimized: a feed-forward network would be
    trained for each variant.

    Raises:
        GanpipeError: a word is no `style.` setting with values, a value is invalid or named twice.
    """
    if not words:
        return ()
    axes = [_overrides_of(word) for word in words]
    keys = [axis[0].partition("=")[0] for axis in axes]
    if repeated := next((key for key in keys if keys.count(key) > 1), None):
        raise GanpipeError(f"--sweep names {repeated} twice; give all its values at once, joined by commas.")
    if "style.feedforward" in keys or settings_with([]).feedforward == "always":
        raise GanpipeError("--sweep optimizes every image; set style.feedforward=auto or never.")
    return tuple(
        Variant(
            ", ".join(override.removeprefix(SECTION) for override in chosen),
            settings_with([*chosen, "style.feedforward=never"]),
        )
        for chosen in product(*axes)
    )


def _overrides_of(word: str) -> list[str]:
    """`style.seed=1,2` as `style.seed=1` and `style.seed=2`."""
    key, _, listed = word.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not key.startswith(SECTION) or not all(values):
        raise GanpipeError(
            f"--sweep {word} is not understood; it takes a setting of style and its values, such as "
            "style.strength=0.3,0.5,0.7."
        )
    if len(set(values)) < len(values):
        raise GanpipeError(f"--sweep {word} has a value twice.")
    return [f"{key}={value}" for value in values]

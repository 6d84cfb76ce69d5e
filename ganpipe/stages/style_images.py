"""The images that the words of a style batch mean. Imports no torch; a model that draws some does when it is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of, sha256_of_json
from ganpipe.imaging.paths import FoundImages, expand, require_images
from ganpipe.samples.photos import sample_photos
from ganpipe.samples.styles import sample_styles
from ganpipe.stores.workspace import Workspace

SAMPLES = {"sample:photos": sample_photos, "sample:styles": sample_styles}
MODEL = "model:"
MODEL_IMAGES = 16


def resolve_images(
    workspace: Workspace, words: Sequence[str], folder: Path, without: Sequence[Path] = ()
) -> FoundImages:
    """The images that words mean: samples, images of a model, or what `ganpipe.imaging.paths` knows, relative to `folder`.

    `model:REFERENCE` or `model:REFERENCE:COUNT` draws images of a registered model (16 of them). `without`: folders that
    hold no images for this purpose.

    Raises:
        GanpipeError: there is nothing of that name.
    """
    found = FoundImages()
    for word in words:
        if word in SAMPLES:
            found.paths += SAMPLES[word](workspace.styles)
        elif word.startswith("sample:"):
            raise GanpipeError(f"There are no images {word}; there are {', '.join(SAMPLES)}.")
        elif word.startswith(MODEL):
            found.paths += _images_of_model(workspace, word.removeprefix(MODEL))
        else:
            expand(in_folder(word, folder), found, without)
    return require_images(found, words)


def in_folder(word: str, folder: Path) -> str:
    """A path, a pattern or `@LIST`, made absolute."""
    mark, name = ("@", word[1:]) if word.startswith("@") else ("", word)
    return mark + str(folder / os.path.expanduser(name))


def _images_of_model(workspace: Workspace, words: str) -> list[Path]:
    """Images of a registered model, drawn if they are not there yet."""
    from ganpipe.stages.generate import generate_images, load_model

    reference, _, count = words.rpartition(":") if words.rpartition(":")[2].isdigit() else (words, "", "")
    model = load_model(workspace, reference, None)
    wanted = int(count or MODEL_IMAGES)
    folder = workspace.state / "generated" / str(model.reference).replace(" ", "-")
    there = sorted(folder.glob("seed0000-*.png"))[:wanted]
    return there if len(there) == wanted else generate_images(model, wanted, 0, folder)


def identify_images(workspace: Workspace, spec: str) -> str:
    """Identifies the images that a setting names, without generating any."""
    if spec.startswith(("sample:", MODEL)):
        return spec
    paths = resolve_images(workspace, [spec], workspace.root).paths
    return sha256_of_json([[p.name, sha256_of(p) if p.is_file() else None] for p in paths])

"""The two photographs that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ganpipe.imaging.provenance import save_png


def sample_photos(folder: Path) -> list[Path]:
    """Writes the two photographs that scikit-learn ships (`china`, `flower`) to `folder` as PNG, if missing."""
    paths = []
    for name in ("china", "flower"):
        path = folder / f"{name}.png"
        if not path.exists():
            from sklearn.datasets import load_sample_image

            save_png(
                Image.fromarray(load_sample_image(f"{name}.jpg")),
                path,
                {"kind": "sample photo", "name": name},
            )
        paths.append(path)
    return paths

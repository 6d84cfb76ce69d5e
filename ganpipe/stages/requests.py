"""Requests: what a run is asked for, in plain values that Prefect can store and a schedule can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.settings.params import parse_assignments, resolve
from ganpipe.settings.presets import ASKED_FOR, Choice, choose_preset
from ganpipe.settings.schema import Settings, WatchSettings
from ganpipe.stages.served import check_served
from ganpipe.stores.start_weights import pin_start
from ganpipe.stores.workspace import Workspace, check_name

LENGTHS = {"training.minutes", "training.total_images"}  # one takes the place of the other


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


@dataclass(frozen=True)
class RunRequest:
    """A run of the whole chain. `source`, if given, is added to the dataset first."""

    workspace: str
    dataset: str | None = None
    preset: str | None = None
    overrides: list[str] = field(default_factory=list)
    source: str | None = None

    def open_workspace(self) -> Workspace:
        """The workspace, with the tools pointed into it.

        Raises:
            GanpipeError: the folder is no workspace, or `ganpipe up` does not serve what is asked for; see `check_served`.
        """
        check_served(self)
        workspace = self._workspace()
        if not workspace.state.is_dir():
            raise GanpipeError(
                f"{workspace.root} is no workspace of ganpipe (it has no folder {workspace.state.name}); "
                "add a dataset there first: ganpipe data add SOURCE --name NAME"
            )
        workspace.activate()
        return workspace

    def _workspace(self) -> Workspace:
        return Workspace(Path(self.workspace))

    def dataset_name(self) -> str:
        """The named dataset, or the one of `params.yaml`."""
        return check_name(self.dataset or self._workspace().params().dataset)

    def settings(self) -> Settings:
        """All settings, resolved as on the command line."""
        choice, workspace = self.choice(), self._workspace()
        return pin_start(workspace, resolve(workspace.params(), choice.preset, self.overrides, choice.sizes))

    def check_settings(self) -> Settings:
        """The settings as far as they are known without torch, which knows whether there is a GPU; wrong ones fail here."""
        params = self._workspace().params()
        return resolve(params, self.preset or params.preset or "demo", self.overrides)

    def watch(self) -> WatchSettings:
        """The section `watch`, on which neither the dataset nor the device has any say."""
        return self.check_settings().watch

    def with_overrides(self, overrides: Sequence[str]) -> RunRequest:
        """The same with more settings, which win over those that it has."""
        keys = {_key(override) for override in overrides}
        if keys & LENGTHS:
            keys |= LENGTHS
        kept = [override for override in self.overrides if _key(override) not in keys]
        return replace(self, overrides=[*kept, *overrides])

    def choice(self) -> Choice:
        """The named preset, or the one that suits the dataset and the device."""
        from ganpipe.compute.device import sees_gpu
        from ganpipe.data.manifest import count_images

        workspace = self._workspace()
        params = workspace.params()
        if named := self.preset or params.preset:
            return Choice(named, ASKED_FOR)
        asked = dict(params.values) | parse_assignments(self.overrides)
        images = count_images(workspace.raw(check_name(self.dataset or params.dataset)))
        return choose_preset(images, sees_gpu(), asked)


@dataclass(frozen=True)
class FolderImport:
    """A watched folder, and the dataset that its images go into. `arriving`: names of files that still change."""

    workspace: str
    dataset: str
    folder: str
    mirror: bool = False
    preset: str | None = None
    overrides: list[str] = field(default_factory=list)
    arriving: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Imported:
    """The result of importing a folder. `refused`: files that could not be used, and `why` of the first of them."""

    dataset: str
    version: str
    images: int
    accepted: int
    replaced: int
    removed: int
    refused: int
    why: str = ""

    @property
    def changed(self) -> bool:
        """Whether the dataset has changed."""
        return bool(self.accepted or self.replaced or self.removed)

    def sentence(self, folder: str) -> str:
        """For the terminal of `ganpipe up`."""
        counts = [f"{self.accepted:,} new images"]
        counts += [f"{self.replaced:,} replaced"] if self.replaced else []
        counts += [f"{self.removed:,} removed"] if self.removed else []
        refused = f" {self.refused:,} files were refused; the first: {self.why}." if self.refused else ""
        return f"{folder}: {', '.join(counts)}; {self.dataset} has {self.images:,} images, version {self.version[:12]}.{refused}"

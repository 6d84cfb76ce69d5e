"""How far a feed-forward network's training is, and its checkpoints, from which it goes on bit by bit."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_bytes, write_json
from ganpipe.style.feedforward.network import FeedforwardNetwork
from ganpipe.style.objective import Losses

log = logging.getLogger(__name__)

CURVE_IMAGES = 40  # a point of the curve is the mean over so many
KEEP = 2


@dataclass
class State:
    """All that changes: what a checkpoint holds. `pending: [4]`: sums of the losses since the last point, and images."""

    feedforward: FeedforwardNetwork
    optimizer: torch.optim.Adam
    pending: Tensor
    nimg: int = 0
    steps: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The newest loss, for people."""
        return f"loss {self.curve[-1][1]:.3f}" if self.curve else ""

    def add(self, losses: Losses, count: int, total: int) -> None:
        """Counts a step of `count` images, and notes a point of the curve where one is due."""
        self.pending += torch.stack(
            [
                *(part.sum() for part in (losses.total, losses.content, losses.style)),
                torch.tensor(float(count), device=self.pending.device),
            ]
        )
        before, self.nimg, self.steps = self.nimg, self.nimg + count, self.steps + 1
        if self.nimg // CURVE_IMAGES > before // CURVE_IMAGES or self.nimg == total:
            all_of, content, style = (self.pending[:3] / self.pending[3]).tolist()
            self.curve.append((self.nimg, all_of, content, style))
            self.check(all_of)
            self.pending.zero_()

    def check(self, loss: float) -> None:
        """Raises GanpipeError where the loss is no number any more."""
        if not math.isfinite(loss):
            raise GanpipeError(
                f"The feed-forward loss became {loss} at {self.nimg:,} images; set training.precision to fp32, give other "
                "images, or set style.feedforward to never."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Weights and Adam's moments by name, and what is pending."""
        found = {"pending": self.pending}
        for name, weight in self.feedforward.named_parameters():
            moments = self.optimizer.state[weight]
            found |= {f"weight/{name}": weight, f"first/{name}": moments["exp_avg"]}
            found[f"second/{name}"] = moments["exp_avg_sq"]
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """The inverse of `tensors`, with a checkpoint's JSON."""
        for name, weight in self.feedforward.named_parameters():
            weight.copy_(tensors[f"weight/{name}"])
            # Fused Adam reads by address: moments must lie in memory as their weights do, channels last.
            first, second = (
                torch.empty_like(weight).copy_(tensors[f"{k}/{name}"]) for k in ("first", "second")
            )
            step = torch.tensor(float(note["steps"]), device=weight.device)
            self.optimizer.state[weight] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        self.pending.copy_(tensors["pending"])
        self.nimg, self.steps, self.seconds = note["nimg"], note["steps"], note["seconds"]
        self.curve = [(int(n), t, c, s) for n, t, c, s in note["curve"]]


@dataclass(frozen=True)
class Checkpoints:
    """The last two, each a safetensors file and then its JSON, without which it does not count.

    0-000000800.safetensors   weights, moments, pending losses
    0-000000800.json          its SHA-256, the training key's, and all plain numbers
    """

    folder: Path
    training_key: str

    def write(self, state: State) -> None:
        """Writes a checkpoint, whole or not at all, and drops all but it and the one before.

        Raises:
            GanpipeError: the loss is no number any more, or the disk is full.
        """
        if state.pending[3] > 0:
            state.check(float(state.pending[0]))
        path = self.folder / f"0-{state.nimg:09d}.safetensors"
        data = save(state.tensors())
        write_bytes(path, data)
        note = {"sha256": hashlib.sha256(data).hexdigest(), "training_key": self.training_key}
        numbers = {name: getattr(state, name) for name in ("nimg", "steps", "seconds", "curve")}
        write_json(path.with_suffix(".json"), note | numbers)
        self._drop(self._listed()[:-KEEP])

    def restore(self, state: State) -> None:
        """Resumes from the newest that is whole and of this training key; without one the state is as it was."""
        notes = self._listed()
        for path in reversed(notes):
            if self._restored(state, path):
                log.info("Going on with a feed-forward network after %s images.", f"{state.nimg:,}")
                return
        if notes:
            log.warning("No checkpoint in %s is of use; the feed-forward network starts again.", self.folder)
        self._drop(notes)

    def _restored(self, state: State, path: Path) -> bool:
        try:
            note = read_json(path)
            data = path.with_suffix(".safetensors").read_bytes()
            if note["training_key"] != self.training_key:
                log.info("The checkpoint %s is of another training key.", path)
                return False
            if hashlib.sha256(data).hexdigest() == note["sha256"]:
                state.restore(load(data), note)
                return True
        except (OSError, GanpipeError, SafetensorError, KeyError, TypeError, ValueError):
            pass
        log.warning("The checkpoint %s is damaged; falling back to the one before.", path)
        return False

    def _listed(self) -> list[Path]:
        return sorted(self.folder.glob("0-*.json"))

    @staticmethod
    def _drop(notes: list[Path]) -> None:
        for note in notes:
            note.unlink(missing_ok=True)
            note.with_suffix(".safetensors").unlink(missing_ok=True)

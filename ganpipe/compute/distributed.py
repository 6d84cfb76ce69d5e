"""Several processes, one training: each computes its share of every batch, and all take the same step.

`torch.distributed.run` starts the processes and names their places in the environment; one process alone is the same
code with nothing to exchange.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from ganpipe.errors import GanpipeError


@dataclass(frozen=True)
class Distributed:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, images and records."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The part of a batch of `count` images that is this process's."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over all processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, number: int) -> int:
        """The largest of all processes' numbers: a signal that one has seen is seen by all."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number, device=_exchange_device())
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
        return int(tensor.item())

    def convert_batch_norm(self, network: nn.Module) -> nn.Module:
        """Batch norm over the whole batch instead of each process's share, where torch can (between GPUs)."""
        if self.size > 1 and distributed.get_backend() == "nccl":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return network

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()


def _exchange_device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def check_batch_divides(batch_images: int, processes: int) -> None:
    """Raises GanpipeError where so many processes cannot share a batch evenly, two images at least for each."""
    if batch_images % processes or batch_images < 2 * processes:
        raise GanpipeError(
            f"training.batch_images={batch_images} cannot be shared by {processes} processes; "
            f"set it to a multiple of {processes}."
        )


@contextmanager
def join_process_group(device: str, store: Path | None = None) -> Iterator[Distributed]:
    """The process group that torchrun describes: NCCL between GPUs, gloo between CPUs.

    `device`: as in `training.device`. `store`: a file in which processes of one machine find each other; None: the
    address that torchrun gives, whose port takes connections from the network.
    """
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = device != "cpu" and enough
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{store}" if store else "env://",
        rank=rank,
        world_size=size,
    )
    try:
        yield Distributed(rank, size, int(os.environ["LOCAL_RANK"]))
    finally:
        distributed.destroy_process_group()

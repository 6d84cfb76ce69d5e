"""Worker processes that decode untrusted files: a memory and time limit for each, results in order."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as Timeout
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from ganpipe.compute.processes import exit_with_parent
from ganpipe.imaging.image import RejectedImage

T = TypeVar("T")
R = TypeVar("R")
SECONDS = 60.0  # for one file; 64 megapixels of AVIF take 4
MEMORY_BYTES = 4 * 2**30  # of address space; 64 megapixels of 16-bit gray, briefly in float64, take 2
CHUNK = 16  # files per job: a job costs about as much overhead as decoding a thumbnail
CHUNK_BYTES = 8 * 2**20
AHEAD = 4  # queued jobs per worker, so that memory does not grow with the dataset
AHEAD_BYTES = 64 * 2**20
AHEAD_KNOWN = 1000  # known results that wait for an earlier one


@dataclass(frozen=True)
class KnownResult(Generic[R]):
    """A known result in place of a task."""

    result: R


class WorkerPool:
    """Processes that run `function(task)`, started with the first task."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        count: int | None = None,
        seconds: float = SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.function, self.seconds, self.memory_bytes = function, seconds, memory_bytes
        self.count = count or os.cpu_count() or 1
        self._pool: ProcessPool | None = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            if kind is None:
                self._pool.close()
            else:
                self._pool.stop()
            self._pool.join()

    def ordered(
        self, tasks: Iterable[T | KnownResult[R]], weigh: Callable[[T], int] = lambda _: 0
    ) -> Iterator[R | RejectedImage]:
        """Yields results in the order of the tasks. `weigh` returns the bytes that a task sends to a worker.

        A file over its limits gives a RejectedImage with the code "time", "memory" or "crash".
        """
        waiting: deque[tuple[list[T], Any]] = deque()
        for chunk in _chunks(tasks, weigh):
            if isinstance(chunk, KnownResult):
                waiting.append(([], chunk))
            else:
                while waiting and sum(weigh(task) for part, _ in waiting for task in part) > AHEAD_BYTES:
                    yield from self._receive(*waiting.popleft())
                waiting.append((chunk, self._send(chunk)))
            while waiting and self._is_due(waiting):
                yield from self._receive(*waiting.popleft())
        while waiting:
            yield from self._receive(*waiting.popleft())

    def _is_due(self, waiting: deque[tuple[list[T], Any]]) -> bool:
        if not waiting[0][0] or len(waiting) > AHEAD_KNOWN:
            return True
        return sum(1 for chunk, _ in waiting if chunk) > AHEAD * self.count

    def _send(self, chunk: list[T]) -> Any:
        if self._pool is None:
            self._pool = ProcessPool(
                self.count,
                initializer=_begin,
                initargs=(os.getpid(), self.memory_bytes),
                context=get_context("spawn"),
            )
        return self._pool.schedule(_run, args=(self.function, chunk), timeout=self.seconds)

    def _receive(self, chunk: list[T], future: Any) -> Iterator[R | RejectedImage]:
        if isinstance(future, KnownResult):
            yield future.result
            return
        try:
            results = future.result()
        except (Timeout, ProcessExpired, MemoryError) as error:
            if len(chunk) > 1:  # one of them is the cause: run each alone
                for task in chunk:
                    yield from self._receive([task], self._send([task]))
                return
            results = [self._verdict(error)]
        yield from results

    def _verdict(self, error: BaseException) -> RejectedImage:
        if isinstance(error, Timeout):
            return RejectedImage("time", f"it takes over {self.seconds:g} s to decode")
        if isinstance(error, MemoryError):
            return RejectedImage("memory", "it takes more memory to decode than a file may use")
        return RejectedImage("crash", "its decoder crashed")


def _chunks(
    tasks: Iterable[T | KnownResult[R]], weigh: Callable[[T], int]
) -> Iterator[list[T] | KnownResult[R]]:
    """Groups consecutive tasks into chunks; a known result ends a chunk."""
    chunk: list[T] = []
    weight = 0
    for task in tasks:
        if isinstance(task, KnownResult):
            if chunk:
                yield chunk
                chunk, weight = [], 0
            yield task
            continue
        chunk.append(task)
        weight += weigh(task)
        if len(chunk) == CHUNK or weight > CHUNK_BYTES:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def _run(function: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [function(task) for task in chunk]


def _begin(parent: int, memory_bytes: int) -> None:
    """Initializes a worker: limits its memory, silences decoders, and ends it with its parent, even on kill -9."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))
    warnings.simplefilter("ignore")  # decoders warn about files that they accept or reject
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    exit_with_parent(parent)

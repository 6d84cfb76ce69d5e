"""A case of the corpus, and the decorators that make cases of functions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.imaging.corpus.pictures import Shown

Build = Callable[..., Any]  # from a Random, and perhaps more, to bytes or to bytes and Shown


@dataclass(frozen=True)
class Case:
    """One file, and what is to become of it."""

    name: str
    file: bytes  # its name in the folder: any bytes but / and 0
    make: Callable[[Path], None]
    code: frozenset[str] | None  # None: it must be taken; else one of these refusals
    expected: Callable[[], np.ndarray] | None  # uint8 [H, W, 3], over white; None: there is no one truth
    tolerance: int = 2
    root_reads_it: bool = False  # to be left out where os.geteuid() is 0


CASES: dict[str, list[Case]] = {}  # by the name of the module that makes them


def taken(
    extension: str,
    each: Iterable[Any] = ((),),
    reference: bool = True,
    tolerance: int = 2,
    where: bool = True,
) -> Callable[[Build], Build]:
    """Makes a case, or one for each of some arguments, of a function that returns a file and what it shows.

    Without `reference` the function returns the file alone: it must be taken, as whatever it is.
    """

    def register(build: Build) -> Build:
        for arguments in each if where else ():
            given = arguments if isinstance(arguments, tuple) else (arguments,)
            name = "_".join([build.__name__, *(str(value).lower() for value in given)])
            file = f"{name}{extension}".encode()
            add_case(build.__module__, name, file, build, given, reference=reference, tolerance=tolerance)
        return build

    return register


def refused(*codes: str, file: str, where: bool = True) -> Callable[[Build], Build]:
    """Makes a case of a function that returns a file that must be refused with one of these codes."""

    def register(build: Build) -> Build:
        if where:
            code = frozenset(codes)
            add_case(build.__module__, build.__name__, file.encode(), build, code=code, reference=False)
        return build

    return register


def special(
    *codes: str, file: str, root_reads_it: bool = False
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Makes a case of a function that makes what is no plain file at a path."""

    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        code = frozenset(codes)
        case = Case(make.__name__, file.encode(), make, code, None, root_reads_it=root_reads_it)
        CASES.setdefault(make.__module__, []).append(case)
        return make

    return register


def add_case(
    module: str,
    name: str,
    file: bytes,
    build: Build,
    arguments: tuple[Any, ...] = (),
    code: frozenset[str] | None = None,
    reference: bool = True,
    tolerance: int = 2,
) -> None:
    """Adds one file to the cases of a module."""
    run = partial(_run, build, name, arguments)
    expected = partial(_expect, run) if reference else None
    case = Case(name, file, partial(_write, run), code, expected, tolerance)
    CASES.setdefault(module, []).append(case)


def _run(build: Build, name: str, arguments: tuple[Any, ...]) -> Any:
    """Every case draws from a generator of its own, so that no two pictures are the same."""
    return build(np.random.default_rng(zlib.crc32(name.encode())), *arguments)


def _write(run: Callable[[], Any], path: Path) -> None:
    result = run()
    path.write_bytes(result[0] if isinstance(result, tuple) else result)


def _expect(run: Callable[[], tuple[bytes, Shown]]) -> np.ndarray:
    shown = np.asarray(run()[1], dtype=np.float64)
    if shown.ndim == 2:
        shown = shown[..., None].repeat(3, axis=2)
    return shown.round().clip(0, 255).astype(np.uint8)

"""The modules of a peer's checkout, imported for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def peer_modules(*packages: str) -> Iterator[None]:
    """Takes the packages out of sys.modules; afterwards those that were there before are back, and no others."""

    def known() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] in packages]

    before = {name: sys.modules.pop(name) for name in known()}
    try:
        yield
    finally:
        for name in known():
            del sys.modules[name]
        sys.modules.update(before)

"""The two ways in which ganpipe stops on purpose, and the hint for a misspelled name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanpipeError(Exception):
    """Something the user can fix. The message is one sentence: what, found, expected, what to do."""


class Interrupted(GanpipeError):
    """SIGINT or SIGTERM arrived; the step was finished and the checkpoint written."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


def nearest(word: str, valid: Iterable[str]) -> str:
    """Half a sentence that names the valid word most like `word`, or all of them."""
    words = list(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if not close and "." in word:  # the right name in the wrong section
        close = [w for w in words if w.split(".")[-1] == word.split(".")[-1]][:1]
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(words)}."

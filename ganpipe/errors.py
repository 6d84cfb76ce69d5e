"""The two ways in which ganpipe stops on purpose, and the hint for a misspelled name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

# What stands between :// and @ in a URI: a name, and mostly a password.
CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|AUTH_STRING|API_KEY|ACCOUNT_KEY", re.IGNORECASE)
SHORTEST_SECRET = 6  # a shorter value would black out words that mean nothing
HIDDEN = "***"


def redact(text: str) -> str:
    """The text without credentials in URIs, and without the values of environment variables that hold secrets."""
    for secret in _known_secrets():
        text = text.replace(secret, HIDDEN)
    return CREDENTIALS.sub(f"{HIDDEN}@", text)


def _known_secrets() -> list[str]:
    """Secrets of the environment, the longest first: whole variables, and passwords in URIs."""
    named = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    in_uris = {
        match.group().rstrip("@").partition(":")[2]
        for value in os.environ.values()
        for match in CREDENTIALS.finditer(value)
    }
    found = named | in_uris | {unquote(password) for password in in_uris}
    return sorted((secret for secret in found if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)


class GanpipeError(Exception):
    """Something the user can fix. The message is one sentence: what, found, expected, what to do.

    It is printed, logged and kept by Prefect and MLflow: secrets are taken out here, once for all of them.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


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

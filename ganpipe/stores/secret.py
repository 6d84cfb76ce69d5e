"""The workspace's secret: what a client of its Prefect server must know. It never leaves the machine."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.stores.workspace import Workspace

USER = "ganpipe"  # HTTP's Basic authentication wants a name before the password


def secret_file(workspace: Workspace) -> Path:
    """The file of the secret, which its owner alone can read."""
    return workspace.state / "prefect-secret"


def read_secret(workspace: Workspace) -> str | None:
    """The secret; None if there is none yet."""
    try:
        return secret_file(workspace).read_text().strip() or None
    except OSError:
        return None


def workspace_secret(workspace: Workspace) -> str:
    """The secret, made at first use.

    Raises:
        GanpipeError: the file cannot be written, or others could read it.
    """
    path = secret_file(workspace)
    try:
        if not read_secret(workspace):
            _create(path)
        path.chmod(0o600)
    except OSError as error:
        raise GanpipeError(
            f"{path} cannot be written ({error.strerror}); it must belong to you alone."
        ) from None
    return path.read_text().strip()


def _create(path: Path) -> None:
    """Two processes that do this at once agree: the first one's secret stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{USER}:{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not path.read_text().strip():
            path.unlink()
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def prove(secret: str, question: str) -> str:
    """The answer to a question that only who knows the secret can give, and that does not tell it."""
    return hmac.new(secret.encode(), question.encode(), "sha256").hexdigest()

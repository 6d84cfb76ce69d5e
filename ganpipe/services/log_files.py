"""Log files of processes that write for weeks: small, with the part before kept once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ganpipe.errors import explain_storage_error

MOST_BYTES = 10 * 2**20


def rotate(log_file: Path, most_bytes: int = MOST_BYTES) -> bool:
    """Copies a log that has grown too large to NAME.1 and empties it; whether it did.

    The process goes on writing to the same file: it was opened for appending.
    """
    try:
        if log_file.stat().st_size <= most_bytes:
            return False
        shutil.copyfile(log_file, log_file.with_name(log_file.name + ".1"))
    except FileNotFoundError:
        return False
    except OSError as error:
        if explain_storage_error(error) is None:
            raise
    os.truncate(log_file, 0)  # on a full disk this is what helps
    return True

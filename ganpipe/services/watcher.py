"""Watches a folder: new or changed images start a run, once the folder is quiet again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ganpipe.console import say
from ganpipe.data.sources.labels import is_annotation, is_shard_name
from ganpipe.errors import redact
from ganpipe.imaging.paths import is_image_name, is_meant
from ganpipe.imaging.provenance import origin_kind

QUIET_S = 3.0  # a watched folder counts as complete when nothing has changed for so long


def watch_folder(folder: Path, start_run: Callable[[], None], stop_now: threading.Event) -> None:
    """Calls `start_run` after each burst of additions and changes below `folder`, until `stop_now` is set."""
    for _ in quiet_changes(folder, stop_now):
        try:
            start_run()
            say(f"{time.strftime('%H:%M:%S')} new images in {folder}: a run was started.")
        except Exception as error:  # the watcher must outlive a server that is busy for a moment
            why = redact(str(error))
            say(f"The run for new images could not be started ({why}); the next change tries again.")


def quiet_changes(folder: Path, stop_now: threading.Event) -> Iterator[None]:
    """Yields once for each burst of additions and changes below `folder`, QUIET_S after its end."""
    from watchfiles import Change, watch

    def is_addition(change: Change, path: str) -> bool:
        return change is not Change.deleted and concerns_dataset(folder, Path(path))

    changes = watch(
        folder,
        watch_filter=is_addition,
        debounce=int(QUIET_S * 4000),
        step=int(QUIET_S * 1000),
        stop_event=stop_now,
        raise_interrupt=False,
    )
    for _ in changes:
        yield


def concerns_dataset(folder: Path, path: Path) -> bool:
    """Whether `data add` would read a path below `folder`: an image, a shard, a file of labels, or a folder of them.

    What a run itself writes starts no further run.
    """
    name = os.path.relpath(path, folder)
    read = is_image_name(name) or is_shard_name(name) or is_annotation(name) or path.is_dir()
    return read and is_meant(folder, name) and origin_kind(path) is None

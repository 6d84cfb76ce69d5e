"""Paths that are no readable file: pipes, sockets, links in a loop, a file of too many bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from ganpipe.imaging.decode import MAX_BYTES
from tests.imaging.corpus.pictures import noise
from tests.imaging.corpus.png import PNG_START, png
from tests.imaging.corpus.registry import special


@special("not_a_file", file="pipe.png")
def fifo(path: Path) -> None:
    """Opening it would wait for a writer for ever."""
    os.mkfifo(path)


@special("not_a_file", "unreadable", file="socket.png")
def socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


@special("not_a_file", "link", file="zero.png")
def link_to_endless_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@special("not_a_file", "empty", "link", file="null.png")
def link_to_nothing(path: Path) -> None:
    path.symlink_to("/dev/null")


@special("empty", "not_an_image", "link", "unreadable", file="environment.png")
def link_to_what_the_kernel_tells(path: Path) -> None:
    """A regular file of 0 bytes, and yet something to read."""
    path.symlink_to("/proc/self/environ")


@special("unreadable", file="secret.png", root_reads_it=True)
def file_that_nobody_may_read(path: Path) -> None:
    path.write_bytes(png(noise(np.random.default_rng(0))))
    path.chmod(0)


@special("unreadable", "dangling_link", "link", file="dangling.png")
def link_to_what_is_gone(path: Path) -> None:
    path.symlink_to("gone/for/ever.png")


@special("unreadable", "link_loop", "link", file="itself.png")
def link_to_itself(path: Path) -> None:
    path.symlink_to("itself.png")


@special("unreadable", "link_loop", "dangling_link", "link", file="loop 1.png")
def first_of_two_links_in_a_loop(path: Path) -> None:
    path.symlink_to("loop 2.png")


@special("unreadable", "link_loop", "dangling_link", "link", file="loop 2.png")
def second_of_two_links_in_a_loop(path: Path) -> None:
    path.symlink_to("loop 1.png")


@special("too_large", file="large.png")
def file_of_more_bytes_than_are_read(path: Path) -> None:
    """It takes no room on the disk: all of it but its start is a hole."""
    path.write_bytes(PNG_START)
    os.truncate(path, MAX_BYTES + 1)

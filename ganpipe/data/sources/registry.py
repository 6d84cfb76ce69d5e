"""Which reader takes a source: the table `SOURCES`, first match wins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ganpipe.data.sources import archives
from ganpipe.data.sources.folder import IMAGE_ENDINGS, _file, _folder, _label_of, _stamped
from ganpipe.data.sources.idx import _idx_images, _idx_set, _is_idx
from ganpipe.data.sources.items import FileItem, Item, RefusedItem
from ganpipe.data.sources.packages import _digits, _flowers, _torchvision
from ganpipe.errors import GanpipeError


def read_source(spec: str, scratch: Path) -> Iterator[Item]:
    """What is at `spec`, in an order that does not depend on the machine.

    `spec` is a folder, an archive, an IDX file or folder, `sample:flowers`, `sklearn:digits` or
    `torchvision:NAME`. `scratch` may be filled with what must be downloaded first.

    Raises:
        GanpipeError: there is no such source, or it cannot be read at all.
    """
    if spec == "sample:flowers":
        return _flowers()
    if spec == "sklearn:digits":
        return iter([_digits()])
    if spec.startswith("torchvision:"):
        return _torchvision(spec.partition(":")[2], scratch)
    if spec.split(":")[0] in ("sample", "sklearn"):
        raise GanpipeError(
            f"Unknown source {spec}: there are sample:flowers, sklearn:digits and torchvision:NAME."
        )
    path = Path(spec).expanduser()
    if path.is_dir():
        return chain(_idx_set(path), _folder(path, without=_is_idx)) if _idx_images(path) else _folder(path)
    if not path.exists():
        raise GanpipeError(
            f"There is no file or folder {spec}; give a folder of images, an archive, or sample:flowers."
        )
    if path.is_file() and _is_idx(path):
        return _idx_set(path.parent)
    if path.is_file() and (members := archives.members_of(path)) is not None:
        return _archive(path, members)
    if path.is_file() and path.suffix.lower() in IMAGE_ENDINGS:
        return iter([_file(path, path.name)])
    raise GanpipeError(
        f"{spec} is neither a folder nor a .zip, .tar, .tar.gz, .tar.zst or IDX file, nor an image; give the folder "
        "that holds the images."
    )


def _archive(path: Path, members: Iterator[archives.Member]) -> Iterator[Item]:
    stamp, changed_ns = _stamped(path.stat())
    for member in members:
        if member.refusal is not None:
            yield RefusedItem(member.name, member.refusal)
        else:
            label = _label_of(member.name)
            yield FileItem(
                member.name, member.read, label, None, f"{stamp}!{member.place}", changed_ns, streamed=True
            )

"""`ganpipe data …`: datasets."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganpipe.commands.context import open_named_workspace, resolve_settings
from ganpipe.commands.tables import count_and_names, count_or_blank, relative_path
from ganpipe.console import Bars, out, pairs, print_json, say, table
from ganpipe.errors import GanpipeError

if TYPE_CHECKING:
    from ganpipe.data.manifest import Record
    from ganpipe.stores.workspace import Workspace

MOST_LISTED = 10


def add(arguments: Namespace) -> int:
    """Adds a source and accounts for every file."""
    return _add(arguments, replace=False)


def replace(arguments: Namespace) -> int:
    """Makes a dataset hold a source's images and no others."""
    return _add(arguments, replace=True)


def _add(arguments: Namespace, replace: bool) -> int:
    from ganpipe.stages.data import write_page
    from ganpipe.stores.dataset_versions import open_version
    from ganpipe.stores.datasets import add_dataset

    workspace = open_named_workspace(arguments)
    settings = resolve_settings(arguments, workspace).data
    with Bars(quiet=arguments.json) as bars:
        mirror = not replace and arguments.mirror
        report = add_dataset(workspace, arguments.source, arguments.name, settings, bars, replace, mirror)
        if report.changed or replace:
            version = open_version(workspace, arguments.name, settings)
            report.page = str(write_page(workspace, version, settings, bars))
    if arguments.json:
        print_json(asdict(report))
        return 0
    rows = [
        ("found", f"{report.found:,}"),
        ("accepted", f"{report.accepted:,} new"),
        ("quarantined", f"{len(report.quarantined):,}"),
        ("duplicates", f"{report.duplicates:,}"),
        (
            "near copies",
            f"{report.near_duplicates:,} {'dropped' if settings.near_duplicates == 'drop' else 'kept'}",
        ),
        ("the dataset", f"{report.train:,} to train on, {report.holdout:,} held out"),
        *(
            [("unlabeled", f"{report.unlabeled:,}, and {report.labels:,} labels")]
            if report.label_note
            else []
        ),
        *([("labels", f"{report.newly_labeled:,} images had none")] if report.newly_labeled else []),
        *([("replaced", f"{report.replaced:,}: their files were edited")] if report.replaced else []),
        *([("removed", f"{report.removed:,}: no longer in the source")] if report.removed else []),
        *(
            [("same names", f"{report.same_names:,} as an image of another source")]
            if report.same_names
            else []
        ),
        *([("moved aside", f"{len(report.aside):,} files that are not ganpipe's")] if report.aside else []),
        *([("sidecars", f"{report.sidecars:,} files beside images")] if report.sidecars else []),
        ("version", report.version),
        ("page", relative_path(workspace, report.page) if report.page else "as before"),
    ]
    pairs(f"Dataset {report.name}", rows)
    if report.label_note:
        say(f"  {report.label_note}")
    if report.same_names:
        say(f"  {report.same_names_note}")
    for entry in report.quarantined[:MOST_LISTED]:
        say(f"  {entry['file']}: {entry['reason']}")
    if len(report.quarantined) > MOST_LISTED:
        more = len(report.quarantined) - MOST_LISTED
        say(f"  … and {more} more in .ganpipe/reports/{report.name}-add.json")
    return 0


def remove(arguments: Namespace) -> int:
    """Takes images out; the version before stays in DVC's cache."""
    from ganpipe.stores.datasets import remove_from_dataset

    workspace = open_named_workspace(arguments)
    settings = resolve_settings(arguments, workspace).data
    gone, info = remove_from_dataset(workspace, arguments.name, arguments.images, settings)
    if arguments.json:
        print_json(info.as_dict() | {"removed": [r.name for r in gone]})
        return 0
    rows = [
        ("removed", count_and_names([r.name for r in gone])),
        ("left", f"{info.images:,} images"),
        ("version", info.version),
    ]
    pairs(f"Dataset {info.name}", rows)
    return 0


def list_all(arguments: Namespace) -> int:
    """All datasets with their versions."""
    from ganpipe.stores.dataset_summaries import summarize_datasets

    workspace = open_named_workspace(arguments, reading=True)
    infos = summarize_datasets(workspace, resolve_settings(arguments, workspace).data)
    if arguments.json:
        print_json({"datasets": [info.as_dict() for info in infos]})
    elif not infos:
        out.print("No dataset yet; add one with: ganpipe data add SOURCE --name NAME")
    else:
        rows = [
            (i.name, i.version or "", *map(count_or_blank, (i.images, i.train, i.holdout)), i.problem or "")
            for i in infos
        ]
        table("Datasets", ("name", "version", "images", "to train on", "held out", ""), rows)
    return 0


def show(arguments: Namespace) -> int:
    """One dataset: numbers, advice, versions, and the page that shows it."""
    from ganpipe.files import read_json
    from ganpipe.stages.data import profile_dataset, write_page
    from ganpipe.stores.dataset_summaries import require_dataset, summarize_dataset, versions_of

    workspace = open_named_workspace(arguments, reading=True)
    settings = resolve_settings(arguments, workspace).data
    require_dataset(workspace, arguments.name)
    info = summarize_dataset(workspace, arguments.name, settings)
    versions = [
        {k: v for k, v in entry.items() if k != "pointer"} for entry in versions_of(workspace, info.name)
    ]
    if not info.present:
        if arguments.json:
            print_json(info.as_dict() | {"versions": versions})
        else:
            pairs(
                f"Dataset {info.name}",
                [("version", info.version or "unknown"), ("images", str(info.problem))],
            )
        return 0
    page = sheet = None
    with Bars(quiet=arguments.json) as bars:
        if info.problem is None and os.access(workspace.state, os.W_OK):
            page = str(write_page(workspace, info, settings, bars))
            sheet = str(Path(page).with_name("contact-sheet.png"))
            profile = read_json(Path(page).with_suffix(".json"))
        else:  # the page is of a version; and a workspace that cannot be written can still be looked at
            profile = profile_dataset(workspace, info.name, info.version or "", settings, bars).as_dict()
    if arguments.json:
        print_json(
            profile
            | info.as_dict()
            | {
                "label_counts": profile["labels"],
                "labels": info.labels,
                "contact_sheet": sheet,
                "page": page,
                "versions": versions,
            }
        )
        return 0
    labels = profile["labels"]
    most = ", ".join(f"{name} {count:,}" for name, count in list(labels.items())[:12])
    width, height = profile["width_px"], profile["height_px"]
    rows = [
        ("version", info.version or "none yet"),
        *([("note", info.problem)] if info.problem else []),
        ("images", f"{info.images:,}: {info.train:,} to train on, {info.holdout:,} held out"),
        ("sizes", f"{width['low']:g}×{height['low']:g} to {width['high']:g}×{height['high']:g} pixels"),
        ("near copies", f"{profile['near_copies']:,} in {profile['near_groups']:,} groups"),
        ("labels", f"{len(labels)}: {most}" if labels else "none"),
        ("contact sheet", relative_path(workspace, sheet)),
        ("page", relative_path(workspace, page)),
    ]
    pairs(f"Dataset {info.name}", rows)
    for sentence in profile["advice"]:
        say(f"  {sentence}")
    if len(versions) > 1:
        table(
            "Versions",
            ("version", "images", "since"),
            [(v["version"], f"{v['images']:,}", v["when"]) for v in versions[-MOST_LISTED:]],
        )
    return 0


def diff(arguments: Namespace) -> int:
    """Images by hash: in A only, in B only, in both; and what those look like that came and went."""
    from ganpipe.stores.dataset_summaries import records_at
    from ganpipe.stores.workspace import check_name

    workspace = open_named_workspace(arguments, reading=True)
    for reference in (arguments.a, arguments.b):
        check_name(reference.partition("@")[0])
    a, b = ({r.sha256: r for r in records_at(workspace, ref)} for ref in (arguments.a, arguments.b))
    gone, came = [a[h] for h in a if h not in b], [b[h] for h in b if h not in a]
    result = {
        "a": arguments.a,
        "b": arguments.b,
        "removed": len(gone),
        "added": len(came),
        "same": len(a) - len(gone),
    }
    writable = os.access(workspace.state, os.W_OK)
    sheet = _diff_sheet(workspace, arguments, gone, came) if writable and (gone or came) else None
    if arguments.json:
        files = {"removed_files": [r.name for r in gone], "added_files": [r.name for r in came]}
        print_json(result | files | {"contact_sheet": sheet})
        return 0
    rows = [
        (f"only in {arguments.a}", count_and_names([r.name for r in gone])),
        (f"only in {arguments.b}", count_and_names([r.name for r in came])),
        ("in both", f"{result['same']:,}"),
        ("contact sheet", relative_path(workspace, sheet)),
    ]
    pairs("Difference", rows)
    return 0


def _diff_sheet(workspace: Workspace, arguments: Namespace, gone: list[Record], came: list[Record]) -> str:
    """An image of what came and went: on the left what only A has, on the right what only B has."""
    from ganpipe.imaging.grid import row_of_sheets
    from ganpipe.imaging.provenance import save_png
    from ganpipe.reports.dataset_page import make_sheet
    from ganpipe.stores.dataset_summaries import pictures_at

    sides = [
        make_sheet(pictures_at(workspace, reference, chosen[:64]))
        for reference, chosen in ((arguments.a, gone), (arguments.b, came))
    ]
    titles = (f"only in {arguments.a}: {len(gone):,}", f"only in {arguments.b}: {len(came):,}")
    short = ["-".join(part[:12] for part in reference.split("@")) for reference in (arguments.a, arguments.b)]
    path = workspace.reports / f"diff-{short[0]}-{short[1]}.png"
    origin: dict[str, Any] = {"kind": "difference", "a": arguments.a, "b": arguments.b}
    return str(save_png(row_of_sheets(sides, titles), path, origin))


def checkout(arguments: Namespace) -> int:
    """Makes an earlier version the present one: by its hash, or the one that a run was trained on."""
    from ganpipe.stores.dataset_versions import checkout_dataset, checkout_pointer

    workspace = open_named_workspace(arguments)
    settings = resolve_settings(arguments, workspace).data
    changed: dict[str, Any] = {}
    if bool(arguments.reference) == bool(arguments.run_reference):
        raise GanpipeError("Give one of NAME@VERSION and --run RUN: which version is wanted.")
    if arguments.run_reference:
        from ganpipe.stores.mlflow_runs import Tracker

        data = Tracker(workspace).data_of(arguments.run_reference)
        info = checkout_pointer(workspace, data.name, data.pointer, settings)
        changed = data.settings
    else:
        name, at, version = arguments.reference.partition("@")
        if not (name and at and version):
            raise GanpipeError(
                f"{arguments.reference} names no version; write NAME@VERSION, as `ganpipe data show NAME` lists them."
            )
        info = checkout_dataset(workspace, name, version, settings)
    if arguments.json:
        print_json(info.as_dict() | ({"prepared_with": changed} if changed else {}))
        return 0
    out.print(f"{info.name} is now {info.version}: {info.images:,} images.")
    if changed:
        words = " ".join(f"--set data.{key}={value}" for key, value in changed.items())
        out.print(f"That run prepared it with: {words}", soft_wrap=True, highlight=False)
    return 0


def prepare(arguments: Namespace) -> int:
    """Makes the shards of a dataset with the settings as they are; says what they hold."""
    from ganpipe.data.shards import META
    from ganpipe.files import read_json
    from ganpipe.stores.dataset_versions import open_version
    from ganpipe.stores.datasets import prepare_dataset

    workspace = open_named_workspace(arguments)
    settings = resolve_settings(arguments, workspace).data
    info = open_version(workspace, arguments.name, settings)
    out_folder = prepare_dataset(workspace, arguments.name, settings)
    meta = read_json(out_folder / META)
    result = {
        "name": info.name,
        "version": info.version,
        "folder": str(out_folder),
        "shape": [meta["channels"], settings.height_px, settings.width_px],
        "images": meta["images"],
        "shards": meta["sha256"],
    }
    if arguments.json:
        print_json(result)
        return 0
    train, holdout = meta["images"]["train"], meta["images"]["holdout"]
    shape = (
        f"{settings.width_px}×{settings.height_px}, {meta['channels']} channel{'s' * (meta['channels'] > 1)}"
    )
    rows = [
        ("images", f"{train:,} to train on, {holdout:,} held out, {shape}"),
        ("shards", f"{len(meta['sha256'])} in {relative_path(workspace, str(out_folder))}"),
    ]
    pairs(f"Dataset {info.name}", rows)
    return 0


def verify(arguments: Namespace) -> int:
    """Exit 0 if every byte is as it was, or is again, else 1 with what is lost."""
    from ganpipe.stores.datasets import verify_dataset

    workspace = open_named_workspace(arguments)
    with Bars(quiet=arguments.json) as bars:
        found = verify_dataset(workspace, arguments.name, resolve_settings(arguments, workspace).data, bars)
    if arguments.json:
        print_json(
            {
                "name": arguments.name,
                "intact": not found.lost,
                "repaired": found.repaired,
                "aside": found.aside,
                "damaged": found.lost,
            }
        )
        return 1 if found.lost else 0
    if found.lost:
        raise GanpipeError(
            f"{arguments.name}: {len(found.lost)} damaged or missing, neither in DVC's cache nor in a remote: "
            f"{count_and_names(found.lost)}. Add their source again, or take them out: ganpipe data remove {arguments.name} IMAGE"
        )
    if found.repaired:
        out.print(
            f"{arguments.name}: {count_and_names(found.repaired)} damaged, and brought back; every byte is whole again."
        )
    else:
        out.print(f"{arguments.name}: every byte is as it was added.")
    return 0


def push(arguments: Namespace) -> int:
    """Copies a dataset's version to the remote."""
    from ganpipe.stores.dataset_versions import push_dataset

    workspace = open_named_workspace(arguments)
    remote = push_dataset(workspace, arguments.name, resolve_settings(arguments, workspace).data)
    return _moved(arguments, "pushed", f"{arguments.name} is in the remote {remote}.", remote)


def pull(arguments: Namespace) -> int:
    """Brings a dataset's version from the remote."""
    from ganpipe.stores.dataset_versions import pull_dataset

    workspace = open_named_workspace(arguments)
    remote = pull_dataset(workspace, arguments.name, resolve_settings(arguments, workspace).data)
    return _moved(arguments, "pulled", f"{arguments.name} is here as the remote {remote} has it.", remote)


def _moved(arguments: Namespace, state: str, sentence: str, remote: str) -> int:
    if arguments.json:
        print_json({"name": arguments.name, "state": state, "remote": remote})
    else:
        out.print(sentence)
    return 0

"""`ganpipe data …`: data sets."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from ganpipe.commands.context import opened, settings_of
from ganpipe.commands.tables import names, shown
from ganpipe.console import Bars, out, pairs, print_json, say, table
from ganpipe.errors import GanpipeError


def add(arguments: Namespace) -> int:
    """Adds a source and accounts for every file."""
    from ganpipe.versioning import add_dataset

    workspace = opened(arguments)
    with Bars(quiet=arguments.json) as bars:
        report = add_dataset(
            workspace, arguments.source, arguments.name, settings_of(arguments, workspace).data, bars
        )
    if arguments.json:
        print_json(asdict(report))
        return 0
    rows = [
        ("found", f"{report.found:,}"),
        ("accepted", f"{report.accepted:,} new"),
        ("quarantined", f"{len(report.quarantined):,}"),
        ("duplicates", f"{report.duplicates:,}"),
        ("the data set", f"{report.train:,} to train on, {report.holdout:,} held out"),
        ("version", report.version),
    ]
    pairs(f"Data set {report.name}", rows)
    for entry in report.quarantined[:10]:
        say(f"  {entry['file']}: {entry['reason']}")
    if len(report.quarantined) > 10:
        say(f"  … and {len(report.quarantined) - 10} more in .ganpipe/reports/{report.name}-add.json")
    return 0


def list_all(arguments: Namespace) -> int:
    """All data sets with their versions."""
    from ganpipe.versioning import dataset_info, dataset_names

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace).data
    infos = [dataset_info(workspace, name, settings) for name in dataset_names(workspace)]
    if arguments.json:
        print_json({"datasets": [asdict(info) for info in infos]})
    elif not infos:
        out.print("No data set yet; add one with: ganpipe data add SOURCE --name NAME")
    else:
        rows = [(i.name, i.version, f"{i.images:,}", f"{i.train:,}", f"{i.holdout:,}") for i in infos]
        table("Data sets", ("name", "version", "images", "to train on", "held out"), rows)
    return 0


def show(arguments: Namespace) -> int:
    """One data set: counts, labels, and a contact sheet of 64 of its images."""
    from collections import Counter

    from ganpipe.data.raw import RawImages, read_manifest
    from ganpipe.images import ImageShape, fit_image, grid, save_png
    from ganpipe.versioning import dataset_info

    workspace = opened(arguments)
    info = dataset_info(workspace, arguments.name, settings_of(arguments, workspace).data)
    folder = workspace.raw(arguments.name)
    records, images = read_manifest(folder), RawImages(folder)
    labels = Counter(r.label for r in records if r.label is not None)
    chosen = records[:: max(1, len(records) // 64)][:64]
    import numpy as np

    pixels = np.stack([fit_image(images.picture(r), ImageShape(3, 96, 96), "pad") for r in chosen])
    sheet = workspace.state / "reports" / f"{info.name}-{info.version[:12]}.png"
    save_png(
        grid(pixels),
        sheet,
        {"kind": "contact sheet", "dataset": {"name": info.name, "version": info.version}},
    )
    if arguments.json:
        print_json(asdict(info) | {"label_counts": dict(labels), "contact_sheet": str(sheet)})
        return 0
    most = ", ".join(f"{name} {count:,}" for name, count in labels.most_common(12))
    rows = [
        ("version", info.version),
        ("images", f"{info.images:,}: {info.train:,} to train on, {info.holdout:,} held out"),
        ("labels", f"{len(labels)}: {most}" if labels else "none"),
        ("contact sheet", shown(workspace, str(sheet))),
    ]
    pairs(f"Data set {info.name}", rows)
    return 0


def diff(arguments: Namespace) -> int:
    """Images by hash: in A only, in B only, in both."""
    from ganpipe.versioning import records_at

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace).data
    a, b = (
        {r.sha256: r.name for r in records_at(workspace, ref, settings)} for ref in (arguments.a, arguments.b)
    )
    gone, came = [a[h] for h in a if h not in b], [b[h] for h in b if h not in a]
    result = {
        "a": arguments.a,
        "b": arguments.b,
        "removed": len(gone),
        "added": len(came),
        "same": len(a) - len(gone),
    }
    if arguments.json:
        print_json(result | {"removed_files": gone, "added_files": came})
        return 0
    rows = [(f"only in {arguments.a}", names(gone)), (f"only in {arguments.b}", names(came)),
            ("in both", f"{result['same']:,}")]  # fmt: skip
    pairs("Difference", rows)
    return 0


def verify(arguments: Namespace) -> int:
    """Exit 0 if every byte is as it was, else 1 with what is damaged."""
    from ganpipe.versioning import verify_dataset

    workspace = opened(arguments)
    with Bars(quiet=arguments.json) as bars:
        lost = verify_dataset(workspace, arguments.name, settings_of(arguments, workspace).data, bars)
    if arguments.json:
        print_json({"name": arguments.name, "intact": not lost, "damaged": lost})
    elif not lost:
        out.print(f"{arguments.name}: every byte is as it was added.")
    if lost and not arguments.json:
        raise GanpipeError(
            f"{arguments.name}: {len(lost)} damaged or missing: {names(lost)}. "
            f"Add their source again, or bring them back with: dvc checkout --force data/raw/{arguments.name}.dvc"
        )
    return 1 if lost else 0

"""First paint of each page, open pages, and `ganpipe status`, on a large workspace: `python -m benchmarks.dashboard [FOLDER]`.

Makes 1,000 runs, 50 versions of a dataset, 10,000 stylized images and a champion's history as files and databases, as
runs leave them, without training; then serves them and asks for each page. Then a run writes what a training writes, and
the server's CPU time is measured with Now pages open as in a browser. With FOLDER the workspace is kept there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import numpy as np
import psutil
import socketio
from PIL import Image

from ganpipe.data.manifest import MANIFEST
from ganpipe.evaluation.gate_result import GateResult
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.files import append_json_lines, json_lines, sha256_of, write_json, write_text
from ganpipe.imaging.provenance import save_png
from ganpipe.progress import Progress
from ganpipe.services.prefect import free_port
from ganpipe.services.prefect_server import SIGN_IN_PATH
from ganpipe.settings.schema import Settings
from ganpipe.stages.run_details import read_curve
from ganpipe.stores.activities import record_activity
from ganpipe.stores.dataset_summaries import note_file
from ganpipe.stores.dvc import new_pointer, pointer_file
from ganpipe.stores.mlflow_store import ensure_database
from ganpipe.stores.registered_models import HISTORY, ChampionChange, registered_name
from ganpipe.stores.run_records import RunRecord, run_folder, save_record
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace, mlflow_database
from ganpipe.style.batch.manifest import ManifestEntry
from ganpipe.training.summary import TrainSummary

RUNS, VERSIONS, STYLIZED, POINTS, GRIDS = 1000, 50, 10_000, 400, 12
OPEN_PAGES, OPEN_S = (1, 20), 60.0
GRID_EVERY_S = 15
CLIENT_ID = re.compile(r"'client_id': '([^']+)'")
BEGIN = datetime(2026, 1, 1, 2, tzinfo=UTC)
VERDICTS = ("good", "fair", "poor", "collapsed", "inconclusive")
DATASET = "flowers"


def main() -> None:
    """Prints the table."""
    if len(sys.argv) > 1:
        measure(make_workspace(Path(sys.argv[1]).absolute()))
    else:
        with TemporaryDirectory() as folder:
            measure(make_workspace(Path(folder)))


def make_workspace(root: Path) -> Workspace:
    """The workspace; what is there already is kept."""
    workspace = Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    workspace.activate()
    if not workspace.runs.exists():
        versions = [f"{k:032x}.dir" for k in range(1, VERSIONS + 1)]
        _make_dataset(workspace, versions)
        for k in range(RUNS):
            _make_run(workspace, k, versions[k * VERSIONS // RUNS])
        _make_stylized(workspace)
        _register_models(workspace, versions)
    return workspace


def _make_dataset(workspace: Workspace, versions: list[str]) -> None:
    entries = [
        {
            "version": version,
            "images": 1000 + 40 * k,
            "when": (BEGIN + timedelta(days=6 * k)).isoformat(),
            "pointer": new_pointer(DATASET, version),
        }
        for k, version in enumerate(versions)
    ]
    records = [
        {"sha256": f"{k:064x}", "name": f"{k}.png", "file": f"files/00/{k:064x}.png"}
        for k in range(1000 + 40 * VERSIONS)
    ]
    write_text(workspace.raw(DATASET) / MANIFEST, json_lines(records))
    write_text(pointer_file(workspace, DATASET), new_pointer(DATASET, versions[-1]))
    note = {
        "version": versions[-1],
        "versions": entries,
        "manifest_sha256": sha256_of(workspace.raw(DATASET) / MANIFEST),
    }
    write_json(note_file(workspace, DATASET), note)


def _make_run(workspace: Workspace, k: int, version: str) -> None:
    rng = random.Random(k)
    began, verdict = BEGIN + timedelta(hours=7 * k), rng.choice(VERDICTS)
    train_s, settings = (
        rng.uniform(300, 5000),
        Settings().with_values({"training.seed": k, "loss.gamma": rng.choice([1.0, 2.0])}),
    )
    record = RunRecord(
        run_id=f"{DATASET}-{k:012x}",
        fingerprint=f"{k:064x}",
        dataset=DATASET,
        version=version,
        settings=settings.as_dict(),
        source_sha256="0" * 64,
        environment={"torch": "2.15.0"},
        compute=["cpu", "fp32"],
        state="finished",
        mlflow_run_id=f"{k:032x}",
        train=TrainSummary(64_000, 800.0, "cpu", "fp32", f"{k:064x}"),
        evaluation=_evaluation(rng, verdict),
        model_version=f"ganpipe-{DATASET} v{k + 1}",
        gate=GateResult("kept", f"It is not better: its energy distance is {rng.random():.3f} larger."),
        began_at=began.isoformat(),
        ended_at=(began + timedelta(seconds=train_s)).isoformat(),
        train_s=round(train_s, 1),
    )
    if k % 50 == 49:
        record = replace(record, state="failed", evaluation=None, gate=None, reason="The disk is full.")
    save_record(workspace, record)
    folder = run_folder(workspace, record.run_id)
    points = [{"nimg": 160 * (p + 1), "values": _scalars(rng, p)} for p in range(POINTS)]
    write_text(folder / "points.jsonl", json_lines(points))
    if k >= RUNS - 20:
        for g in range(GRIDS):
            save_png(
                _noise(k * GRIDS + g, 8 * 66),
                folder / "grids" / f"{5000 * (g + 1):012d}.png",
                record.origin(),
            )


def _evaluation(rng: random.Random, verdict: str) -> Evaluation:
    names = ("fd", "kd", "energy", "precision", "recall", "density", "coverage", "vendi", "copied", "ct")
    metrics = {name: Metric(rng.uniform(0, 1), "vgg19", 256, rng.random(), error=0.01) for name in names}
    return Evaluation(metrics, verdict, ["A sentence of evidence with figures."], "Train longer.")


def _scalars(rng: random.Random, p: int) -> dict[str, float]:
    names = (
        "loss_g",
        "loss_d",
        "d_real",
        "d_fake",
        "d_gap",
        "d_sign",
        "g_grad",
        "d_grad",
        "r1",
        "spread",
        "lr_g",
    )
    return {name: math.exp(-p / 150) + rng.gauss(0, 0.05) for name in names}


def _noise(seed: int, side_px: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px // 8, side_px // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side_px, side_px))


def _register_models(workspace: Workspace, versions: list[str]) -> None:
    """A version for each run, in MLflow's own tables; the last but nine is the champion."""
    from ganpipe.stores.mlflow_runs import Tracker

    mlflow_database(workspace).unlink(missing_ok=True)
    ensure_database(workspace)
    Tracker(workspace)
    name, changes = registered_name(DATASET), []
    for k in range(0, RUNS, RUNS // 20):
        at = (BEGIN + timedelta(hours=7 * k)).isoformat()
        changes.append(
            ChampionChange(str(k + 1), str(k - 49) if k else None, "gate", "nobody", at, "It is better.")
        )
    with closing(sqlite3.connect(mlflow_database(workspace))) as database, database:
        database.execute(
            "INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES (?, 0, 0)", [name]
        )
        database.execute(
            "INSERT INTO registered_model_tags (name, key, value) VALUES (?, ?, ?)",
            [name, HISTORY, json.dumps([asdict(change) for change in changes])],
        )
        for k in range(RUNS):
            made_ms = int((BEGIN + timedelta(hours=7 * k)).timestamp() * 1000)
            database.execute(
                "INSERT INTO model_versions (name, version, creation_time, run_id, status) VALUES (?, ?, ?, ?, 'READY')",
                [name, k + 1, made_ms, f"{k:032x}"],
            )
            for key, value in (("gate", "kept"), ("dataset_version", versions[k * VERSIONS // RUNS])):
                database.execute(
                    "INSERT INTO model_version_tags (name, version, key, value) VALUES (?, ?, ?, ?)",
                    [name, k + 1, f"ganpipe.{key}", value],
                )
        for alias, version in (("champion", RUNS - 9), ("challenger", RUNS - 1)):
            database.execute(
                "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?)",
                [name, alias, version],
            )


def _make_stylized(workspace: Workspace) -> None:
    """As many files as there would be, of which 100 are different."""
    folder = workspace.state / "stylized" / "0123456789ab"
    sources = [
        save_png(
            _noise(k, 256),
            folder / f"content{k}__swirl.png",
            {"kind": "stylized", "content": {"name": f"content{k}.png"}, "style": {"name": "swirl.png"}},
        )
        for k in range(100)
    ]
    entries = []
    for k in range(STYLIZED):
        path = folder / f"photo{k:05d}__swirl.png"
        os.link(sources[k % 100], path)
        entries.append(ManifestEntry(f"{k:064x}", path.name, "0" * 64, "draft", 1.5, {"structure": 0.8}))
    write_text(folder / "manifest.jsonl", json_lines(entries))


def measure(workspace: Workspace) -> None:
    """Starts the dashboard and asks for each page three times; the first time is the slowest."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "ganpipe",
        "dashboard",
        "--port",
        str(port),
        "--workspace",
        str(workspace.root),
    ]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        cookie = _sign_in(port, workspace_secret(workspace))
        run = f"/runs/{DATASET}-{RUNS - 1:012x}"
        print(
            f"{RUNS:,} runs, {VERSIONS} versions, {STYLIZED:,} stylized images; seconds until the page has come"
        )
        print(f"{'page':<34}{'first':>8}{'again':>8}{'KiB':>8}")
        for page in (
            "/",
            "/runs",
            run,
            "/models",
            "/datasets",
            f"/datasets/{DATASET}",
            "/gallery",
            "/gallery?page=400",
        ):
            times = [_ask(port, page, cookie) for _ in range(3)]
            print(
                f"{page:<34}{times[0][0]:>8.2f}{min(t for t, _ in times[1:]):>8.2f}{times[0][1] / 1024:>8.0f}"
            )
        _measure_open_pages(workspace, server.pid, port, cookie)
    finally:
        server.terminate()
        server.wait()
    started = time.monotonic()
    status = [sys.executable, "-m", "ganpipe", "status", "--json", "--workspace", str(workspace.root)]
    done = subprocess.run(status, capture_output=True, check=True)
    assert len(json.loads(done.stdout)["runs"]) == RUNS
    print(f"{'ganpipe status --json':<34}{time.monotonic() - started:>8.2f}")


def _sign_in(port: int, secret: str) -> str:
    """The cookie, once the server answers."""
    url = f"http://127.0.0.1:{port}{SIGN_IN_PATH}"
    for _ in range(600):
        try:
            with urlopen(Request(url, secret.encode(), method="POST"), timeout=5) as reply:
                return str(reply.headers["set-cookie"]).partition(";")[0]
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the dashboard has not answered in a minute")


def _ask(port: int, page: str, cookie: str) -> tuple[float, int]:
    started = time.monotonic()
    with urlopen(Request(f"http://127.0.0.1:{port}{page}", headers={"Cookie": cookie}), timeout=60) as reply:
        size = len(reply.read())
    return time.monotonic() - started, size


def _measure_open_pages(workspace: Workspace, pid: int, port: int, cookie: str) -> None:
    """Prints the server's CPU time per second of wall-clock while Now pages are open and a run trains."""
    with _training(workspace):
        for count in OPEN_PAGES:
            name = f"{count} open Now page{'s' if count > 1 else ''}, of a core"
            print(f"{name:<34}{asyncio.run(_cpu_share(pid, port, cookie, count)):>8.3f}")


@contextmanager
def _training(workspace: Workspace) -> Iterator[None]:
    """While the block lasts, the latest run's files grow like those of a training: progress and a point each second."""
    run, ended = f"{DATASET}-{RUNS - 1:012x}", threading.Event()
    folder = run_folder(workspace, run)

    def train() -> None:
        rng, before = random.Random(0), len(read_curve(workspace, run))
        with record_activity(workspace, run, lambda _: None) as report:
            for second in itertools.count(1):
                nimg = 160 * (before + second)
                report(Progress("train", nimg, 1_000_000, "images", float(second)))
                append_json_lines(
                    folder / "points.jsonl", [{"nimg": nimg, "values": _scalars(rng, before + second)}]
                )
                if second % GRID_EVERY_S == 0:
                    save_png(_noise(second, 8 * 66), folder / "grids" / f"{nimg:012d}.png", {"run": run})
                if ended.wait(1.0):
                    return

    trains = threading.Thread(target=train)
    trains.start()
    try:
        yield
    finally:
        ended.set()
        trains.join()


async def _cpu_share(pid: int, port: int, cookie: str, count: int) -> float:
    """The share of a core that the server takes while `count` Now pages are open, over OPEN_S."""
    pages = [await _open_page(port, cookie) for _ in range(count)]
    await asyncio.sleep(5.0)  # until each is drawn
    process, started = psutil.Process(pid), time.monotonic()
    before = process.cpu_times()
    await asyncio.sleep(OPEN_S)
    after = process.cpu_times()
    took = time.monotonic() - started
    for page in pages:
        await page.disconnect()
    return (after.user + after.system - before.user - before.system) / took


async def _open_page(port: int, cookie: str) -> socketio.AsyncClient:
    """The websocket of a Now page, which acknowledges what it receives as NiceGUI's script does."""
    url, headers = f"http://127.0.0.1:{port}", {"Cookie": cookie}
    with urlopen(Request(f"http://127.0.0.1:{port}/", headers=headers), timeout=60) as reply:
        found = CLIENT_ID.search(reply.read().decode())
    assert found, "NiceGUI's page names no client"
    who = {"client_id": found[1], "tab_id": found[1], "document_id": found[1], "next_message_id": 0}
    page = socketio.AsyncClient()
    seen = 0

    async def receive(event: str, data: dict[str, object]) -> None:
        nonlocal seen
        if isinstance(data, dict) and "_id" in data and int(str(data["_id"])) >= seen + 20:
            seen = int(str(data["_id"]))
            await page.emit("ack", {"client_id": found[1], "next_message_id": seen})

    page.on("*", receive)
    await page.connect(
        f"{url}?client_id={found[1]}",
        headers=headers,
        transports=["websocket"],
        socketio_path="/_nicegui_ws/socket.io",
    )
    assert await page.call("handshake", who), "NiceGUI refuses the page's websocket"
    return page


if __name__ == "__main__":
    main()

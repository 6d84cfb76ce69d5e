"""Runs the commands of docs/lesson.md one after another, and makes the pictures of that page.

    python -m benchmarks.lesson [--workspace DIR] [--pictures DIR] [--until TEXT]

A comment behind a command of `ganpipe train`, such as `# VAE`, is the word by which later commands name its run. Every
command, its output and its seconds are kept in lesson.json in the workspace; a second call goes on behind the last one.
The page ends for it where a folder of the reader (`~/…`) comes.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from ganpipe.files import write_json
from ganpipe.imaging.grid import row_of_sheets
from ganpipe.reports.charts import curves_chart
from ganpipe.stores.workspace import Workspace
from ganpipe.training.points import POINTS, read_points

PAGE = Path(__file__).parents[1] / "docs" / "lesson.md"
GROWTH_GRIDS, WIDEST_PX = 4, 1100


@dataclass(frozen=True)
class Step:
    """A command that was run. `output`: the object that it printed with --json."""

    command: str
    seconds: float
    output: dict[str, object]


def code_blocks(page: str) -> Iterator[list[str]]:
    """The lines of each code block of a page; those that end with a backslash are joined with the next."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        yield block.replace("\\\n", " ").splitlines()


def commands_of(page: str) -> Iterator[tuple[str, str]]:
    """The commands of the page's code blocks, and the word in the comment behind each."""
    for lines in code_blocks(page):
        for line in lines:
            if "~/" in line:
                return
            if line.startswith("ganpipe "):
                command, _, comment = line.partition("#")
                yield " ".join(command.split()), comment.strip()


def run(command: str, runs: dict[str, str], workspace: Path) -> Step:
    """Runs it with --json in the workspace; its progress goes to this terminal."""
    words = [runs.get(word, word) for word in shlex.split(command)[1:]]
    ganpipe = Path(sys.executable).with_name("ganpipe")
    started = time.monotonic()
    done = subprocess.run([ganpipe, *words, "--json"], cwd=workspace, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{command} ended with exit code {done.returncode}.")
    return Step(command, time.monotonic() - started, json.loads(done.stdout.splitlines()[-1]))


def run_all(page: str, workspace: Path, until: str | None) -> tuple[list[Step], dict[str, str]]:
    """The steps of the page, old ones from lesson.json, and the run that each word names."""
    known: dict[str, Step] = {}
    runs: dict[str, str] = {}
    record = workspace / "lesson.json"
    if record.exists():
        steps = [Step(**row) for row in json.loads(record.read_text())]
        known = {step.command: step for step in steps}
    done: list[Step] = []
    for command, word in commands_of(page):
        if until and until in command:
            break
        step = known.get(command) or run(command, runs, workspace)
        print(f"{step.seconds:6.0f} s  {command}", flush=True)
        if word:
            runs[word] = Path(str(step.output["run_dir"])).name
        done.append(step)
        known[command] = step
        write_json(record, [asdict(step) for step in known.values()])
    return done, runs


def losses(folder: Path) -> Image.Image:
    """The loss curve of a run."""
    chart = curves_chart(read_points(folder / POINTS))
    assert chart is not None
    return chart


def last(folder: Path) -> Image.Image:
    """The picture with the highest number of images."""
    return Image.open(max(folder.glob("*.png"))).convert("RGB")


def growth(folder: Path) -> Image.Image:
    """Some grids of a training, in equal steps to the last one."""
    grids = sorted((folder / "grids").glob("*.png"))
    shown = [grids[(k + 1) * len(grids) // GROWTH_GRIDS - 1] for k in range(GROWTH_GRIDS)]
    titles = [f"{int(path.stem):,} images" for path in shown]
    return row_of_sheets([Image.open(path).convert("RGB") for path in shown], titles)


KINDS = {
    "grid": lambda folder: last(folder / "grids"),
    "reconstructions": lambda folder: last(folder / "reconstructions"),
    "losses": losses,
    "growth": growth,
}


def draw(name: str, steps: list[Step], runs: dict[str, str], workspace: Path) -> Image.Image:
    """A picture: WORD-KIND.png of a run, a file or FOLDER.png of --out, or COMMAND.png of `ganpipe COMMAND`."""
    word, _, kind = Path(name).stem.partition("-")
    if word in runs:
        return KINDS[kind](Workspace(workspace).runs / runs[word])
    written = workspace / name, workspace / Path(name).stem / "contact-sheet.png"
    of_commands = (
        workspace / str(step.output.get("sheet") or step.output["picture"])
        for step in steps
        if step.command.split()[1] == Path(name).stem
    )
    found = next((path for path in written if path.exists()), None)
    return Image.open(found or next(of_commands)).convert("RGB")


def main() -> None:
    """Runs the page, prints what each command took, and draws its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("benchmarks/out/lesson"))
    parser.add_argument("--pictures", type=Path, default=PAGE.with_suffix(""))
    parser.add_argument("--until", metavar="TEXT", help="stop before the first command with this text")
    given = parser.parse_args()
    for folder in (given.workspace, given.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text()
    steps, runs = run_all(page, given.workspace, given.until)
    print(f"{sum(step.seconds for step in steps) / 60:.0f} minutes in all")
    if not given.until:
        for name in re.findall(r"\]\(lesson/([\w.-]+\.png)\)", page):
            picture = draw(name, steps, runs, given.workspace)
            picture.thumbnail((WIDEST_PX, picture.height))
            picture.quantize(256, dither=Image.Dither.NONE).save(given.pictures / name, optimize=True)


if __name__ == "__main__":
    main()

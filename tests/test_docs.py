"""The commands and links of README.md and docs/ are right."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lesson import code_blocks
from ganpipe.parser.root import build_parser
from ganpipe.settings.params import Params, parse_assignments, resolve
from ganpipe.settings.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> Iterator[tuple[str, str]]:
    """Page and command of every line of a code block that begins with `ganpipe`; a block with `[--option]` is a synopsis."""
    for page in PAGES:
        for lines in code_blocks(page.read_text()):
            if not any("[--" in line for line in lines):
                yield from ((page.name, line) for line in lines if line.startswith("ganpipe "))


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_a_command_of_the_docs_is_understood(page: str, line: str) -> None:
    arguments = build_parser().parse_args(shlex.split(line, comments=True)[1:])
    overrides = getattr(arguments, "overrides", [])
    assert parse_assignments(overrides).keys() <= resolve(Params(), "demo", overrides).flat().keys()
    assert getattr(arguments, "preset", None) in {None, *PRESETS}


def links() -> Iterator[tuple[str, str]]:
    """Page and the target of a link that leads to a file of the project."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" not in target:
                yield page.name, target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_a_link_of_the_docs_leads_somewhere(page: str, target: str) -> None:
    here = next(path for path in PAGES if path.name == page)
    file, _, anchor = target.partition("#")
    there = here.parent / file if file else here
    assert there.exists()
    assert not anchor or anchor in anchors(there)

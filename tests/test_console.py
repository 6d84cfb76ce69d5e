"""Output that people read: text of strangers is shown, and nothing in it is obeyed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from io import StringIO

import pytest

from ganpipe.cli import main
from ganpipe.console import Bars, Terminal, out, pairs, print_json, say, say_traceback, show_logs, table
from ganpipe.files import escape_control
from ganpipe.progress import Progress

# ESC, CSI and OSC 8 in seven and eight bits, BEL, CR, LF, line separators, bidi overrides, bytes that are not UTF-8.
HOSTILE = "a\x1b[31m\x1b]8;;http://x\x07\x9b2J\x9d\x7f\r\n\x85\u2028\u202e\u2066\ufeff\udce9\ud800 [bold]:cat:[/bold]z"


def is_plain(text: str) -> bool:
    """Whether a terminal obeys nothing in it but the ends of lines."""
    return all(line.isprintable() for line in text.split("\n")) and "[bold]:cat:[/bold]" in text


def test_escapes_are_readable_and_plain_text_stays() -> None:
    assert escape_control("caf\udce9\x1b[0m\u202e") == r"caf\xe9\x1b[0m\u202e"
    assert escape_control("日本 é × −") == "日本 é × −"
    assert "\n" not in escape_control(HOSTILE)


def test_everything_that_prints_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    out.print(HOSTILE)
    table(HOSTILE, (HOSTILE,), [(HOSTILE,)])
    pairs(HOSTILE, [(HOSTILE, HOSTILE)])
    say(HOSTILE)
    with Bars() as bars:
        bars(Progress(HOSTILE, 1, 1, HOSTILE, 1.0, note=HOSTILE))
    captured = capsys.readouterr()
    assert is_plain(captured.out)
    assert is_plain(captured.err)
    assert len(captured.err.splitlines()) == 2


def test_a_bar_on_a_terminal_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = StringIO()
    monkeypatch.setattr("ganpipe.console.err", Terminal(file=screen, force_terminal=True, width=200))
    with Bars() as bars:
        bars(Progress("style", 1, 2, "images", 1.0, note="\x1b]0;title\x07[red]x[/red]\u202e"))
    assert r"\x1b]0;title\x07[red]x[/red]\u202e" in screen.getvalue()
    assert "\x1b]" not in screen.getvalue()


def test_a_long_line_loses_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    say("begin" + "x" * 1_000_000 + "end")
    said = capsys.readouterr().err
    assert said.startswith("begin")
    assert said.endswith("end\n")
    assert len(said) < 2_100


@pytest.mark.parametrize("debug", [False, True])
def test_log_lines_escape_whoever_writes_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(logging.getLogger("ganpipe"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("ganpipe"), "propagate", False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    show_logs(debug)
    logging.getLogger("ganpipe.style").warning("Not stylized: %s", HOSTILE)
    logging.getLogger("ganpipe.style").error("failed", exc_info=ValueError(HOSTILE))
    said = capsys.readouterr().err
    assert is_plain(said)
    assert said.startswith("WARNING: Not stylized: a\\x1b")
    assert "ValueError: a\\x1b" in said


def test_a_traceback_holds_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    say_traceback(ValueError("http://jane:planted@127.0.0.1:1 refused"))
    said = capsys.readouterr().err
    assert "ValueError: http://***@127.0.0.1:1 refused" in said
    assert "planted" not in said


def test_lines_of_libraries_and_warnings_escape() -> None:
    """In a process of its own: pytest takes both for itself."""
    program = (
        "import logging, warnings\n"
        "from ganpipe.console import show_logs\n"
        "show_logs(False)\n"
        "logging.getLogger('library').warning('a\\x1b[31m')\n"
        "warnings.warn('b\\x1b[31m')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"a\\x1b[31m" in done.stderr
    assert b"b\\x1b[31m" in done.stderr
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize(
    "words", [["--debug", "trace", HOSTILE], ["trace", HOSTILE], [HOSTILE], ["trace", "a", HOSTILE]]
)
def test_errors_and_tracebacks_escape(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    try:
        code = main(words)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert all(line.isprintable() for line in said.split("\n"))
    assert r"\x1b[31m" in said


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Strict JSON has neither NaN nor Infinity."""
    value = {"file": HOSTILE, "nan": float("nan"), "more": [1.5, (float("inf"), {"x": -float("inf")})]}

    def refuse(word: str) -> None:
        raise AssertionError(word)

    print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=refuse) == {
        "file": HOSTILE,
        "nan": None,
        "more": [1.5, [None, {"x": None}]],
    }
    assert text.isascii()

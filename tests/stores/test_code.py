"""Which code a run was made with: it can be named, compared and brought back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ganpipe.stores import code
from ganpipe.stores.code import CODE, DIFF, changed_files, read_code, record_code, restoring_command


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *names, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a repository of its own, in ganpipe's place."""
    found = tmp_path / "repository" / "ganpipe"
    found.mkdir(parents=True)
    (found / "__init__.py").write_text("")
    (found / "gan.py").write_text("a = 1\n")
    git(found, "init", "-q", "..")
    git(found, "add", "-A", "..")
    git(found, "commit", "-qm", "first")
    monkeypatch.setattr(code, "PACKAGE", found)
    return found


def test_a_clean_checkout_is_its_commit(package: Path, tmp_path: Path) -> None:
    assert [path.name for path in record_code(tmp_path / "run")] == [CODE]
    found = read_code(tmp_path / "run")
    assert found is not None
    assert (found.commit, found.is_changed) == (git(package, "rev-parse", "HEAD"), False)
    assert restoring_command(found, tmp_path / "run") == f"git -C {package.parent} checkout {found.commit}"


def test_what_was_changed_can_be_applied_to_a_clean_checkout_and_git_notices_nothing(
    package: Path, tmp_path: Path
) -> None:
    (package / "gan.py").write_text("a = 2\n")
    (package / "new.py").write_text("b = 1\n")
    (package / "picture.bin").write_bytes(bytes(range(256)))
    git(package, "config", "diff.noprefix", "true")
    before = git(package, "status", "--porcelain")
    assert [path.name for path in record_code(tmp_path / "run")] == [CODE, DIFF]
    assert git(package, "status", "--porcelain") == before
    found = read_code(tmp_path / "run")
    assert found is not None
    git(tmp_path, "clone", "-q", str(package.parent), "clone")
    command = restoring_command(found, tmp_path / "run").replace(str(package.parent), str(tmp_path / "clone"))
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602
    for name in ("gan.py", "new.py", "picture.bin"):
        assert (tmp_path / "clone/ganpipe" / name).read_bytes() == (package / name).read_bytes()
    (package / "gan.py").write_text("a = 3\n")
    record_code(tmp_path / "run")
    assert read_code(tmp_path / "run") == found, "a run that is resumed keeps its code"


def test_a_package_inside_somebody_elses_repository_has_no_commit(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = package.parent / ".venv" / "ganpipe"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(code, "PACKAGE", installed)
    record_code(tmp_path / "run")
    found = read_code(tmp_path / "run")
    assert found is not None
    assert found.commit is None
    assert restoring_command(found, tmp_path).startswith("pip install ganpipe==")


def test_changed_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = code.Code("1", None, False, {"a.py": "1", "b.py": "2", "c.py": "3"})
    monkeypatch.setattr(code, "source_files", lambda: {"a.py": "1", "b.py": "9", "d.py": "4"})
    assert changed_files(then) == ["b.py (changed)", "c.py (gone)", "d.py (new)"]

"""The tests themselves: folders as in the source, and harnesses imported as a package."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import List, Set

import pytest

from tests.harness.house.pages import ROOT, sessions
from tests.slow import SLOW

FILES = sorted((ROOT / "tests").rglob("*.py"))
MIRRORED = {
    "tests/core": "flowmaestro_core",
    "tests/testing": "flowmaestro/testing",
    "tests/transports": "transports/flowmaestro_transports",
}


def test_no_test_edits_the_import_path() -> None:
    texts = {path.name: path.read_text("utf-8") for path in FILES if path != Path(__file__)}
    assert [name for name, text in texts.items() if "sys.path" in text] == []


def test_names_imported_from_other_files_of_tests_exist() -> None:
    """Neither pytest nor mypy reads the drivers in `tests/engines` and `tests/browser`."""
    missing: List[str] = []
    for path in FILES:
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "from tests." in text else ():
            module = (isinstance(node, ast.ImportFrom) and node.module) or ""
            if module.startswith("tests."):
                there = names_in(ROOT / module.replace(".", "/"))
                missing += [f"{path.name}: {it.name}" for it in node.names if it.name not in there]
    assert missing == []


@functools.lru_cache(None)
def names_in(module: Path) -> Set[str]:
    """Return the names that a module defines, imports or assigns; of a folder, its modules."""
    if module.is_dir():
        return {path.stem for path in module.iterdir()}
    nodes = ast.walk(ast.parse(module.with_suffix(".py").read_text("utf-8")))
    return {
        getattr(node, "name", getattr(node, "id", ""))
        for node in nodes
        if not isinstance(getattr(node, "ctx", None), ast.Load)
    }


def test_paths_in_noxfile_exist() -> None:
    named = set(re.findall(r"\btests/[\w/.]+", (ROOT / "noxfile.py").read_text("utf-8")))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_tests_named_in_noxfile_exist() -> None:
    """Pytest says nothing about a test that it was told to leave out and that has been renamed."""
    named = re.findall(r"::(test_\w+)", (ROOT / "noxfile.py").read_text("utf-8"))
    defined = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in named if f"def {name}(" not in defined] == []


@pytest.mark.parametrize("pattern", [pattern for named in SLOW.values() for pattern in named])
def test_tests_named_as_slow_exist(pattern: str) -> None:
    literal = re.split(r"::test_conformance\\|\.\*", pattern)[0]
    file, _, name = literal.partition("::")
    found = [path for path in FILES if path.relative_to(ROOT).as_posix().startswith(file)]
    assert any(re.search(rf"\b(class|def) {name}", path.read_text("utf-8")) for path in found)


def test_contributing_lists_every_session_of_nox_and_no_other() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Sessions\n")[2]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(?:nox -s )?([\w-]+)`", row)]
    assert sorted(listed) == sorted(sessions())


@pytest.mark.parametrize(("tests", "source"), MIRRORED.items())
def test_folders_mirror_the_source(tests: str, source: str) -> None:
    ours = {path.name for path in (ROOT / tests).iterdir() if any(path.glob("test_*.py"))}
    theirs = {path.name for path in (ROOT / source).iterdir() if (path / "__init__.py").exists()}
    assert ours == theirs

"""The tests themselves: short files, folders as in the source, harnesses imported as a package."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
MIRRORED = {
    "tests/core": "flowmaestro_core",
    "tests/testing": "flowmaestro/testing",
    "tests/transports": "transports/flowmaestro_transports",
}
PENDING = {"test_answer_stream.py", "test_event_stream_clocks.py"}
"""Files that are still too long."""


def test_no_file_is_longer_than_500_lines() -> None:
    long = {path.name for path in FILES if len(path.read_text("utf-8").splitlines()) > 500}
    assert long <= PENDING


def test_no_test_edits_the_import_path() -> None:
    texts = {path.name: path.read_text("utf-8") for path in FILES if path != Path(__file__)}
    assert [name for name, text in texts.items() if "sys.path" in text] == []


@pytest.mark.parametrize(("tests", "source"), MIRRORED.items())
def test_folders_mirror_the_source(tests: str, source: str) -> None:
    ours = {path.name for path in (ROOT / tests).iterdir() if any(path.glob("test_*.py"))}
    theirs = {path.name for path in (ROOT / source).iterdir() if (path / "__init__.py").exists()}
    assert ours == theirs

"""A transport is exported, proven and listed; the failing test names the file to edit."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowmaestro_transports

ROOT = Path(__file__).parents[2]
RECIPE = "see the recipe *Add a transport* in CONTRIBUTING.md"
PACKAGE = ROOT / "transports" / "flowmaestro_transports"
FOLDERS = sorted(file.parent.name for file in PACKAGE.glob("*/transport.py"))
EXAMPLES = sorted(file.stem for file in (ROOT / "transports" / "examples").glob("*_transport.py"))
PLACES = (
    "tests/transports/test_conformance.py",
    "tests/harness/runners.py",
    "docs/choosing-a-transport.md",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_transport_is_exported_proven_and_described(folder, place):
    inside = f"flowmaestro_transports.{folder}."
    exported = [
        name
        for name in flowmaestro_transports.__all__
        if getattr(flowmaestro_transports, name).__module__.startswith(inside)
    ]
    home = "transports/flowmaestro_transports/__init__.py"
    assert exported, f"{home} exports nothing of {folder}/; {RECIPE}"
    text = (ROOT / place).read_text(encoding="utf-8")
    assert any(name in text for name in exported), f"{place} lacks {exported}; {RECIPE}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_proven_and_listed(name):
    page = (ROOT / "transports" / "README.md").read_text(encoding="utf-8")
    assert f"\n| [`{name}.py`](" in page, f"transports/README.md has no row {name}.py; {RECIPE}"
    tests = (ROOT / "tests" / "transports").glob("test_example*.py")
    texts = [file.read_text(encoding="utf-8") for file in tests]
    place = "tests/transports/test_examples.py"
    assert any(f"{name} import" in text for text in texts), f"{place} lacks {name}; {RECIPE}"

"""Known double starts are found again, once their mends are taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmaestro.testing.search import explore
from tests.explore.calibration import MISTAKES, chosen, find
from tests.explore.known import SCENARIOS, World
from tests.harness.mutants import Copy


def test_mend_of_each_mistake_is_in_todays_code() -> None:
    for mistake in MISTAKES:
        assert all(edit.mutant().text == edit.new for edit in mistake.edits)


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_started_twice_after_one_fault(name: str) -> None:
    report = explore(lambda choices: World(choices, SCENARIOS[name]).run(), faults=1)
    assert report.complete == 1
    assert not report.findings, report.findings[0]


@pytest.mark.parametrize("name", ["held-up", "nameless"])
def test_mistake_is_found_again(name: str, tmp_path: Path) -> None:
    (mistake,) = chosen([name])
    assert "NOT AS SAID" not in find(Copy(tmp_path), mistake)

"""The hot paths whose instructions are counted can be taken, and the counts are judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Dict

import pytest

from benchmarks.instructions import __main__ as guard
from benchmarks.instructions.paths import PATHS

Count = Callable[[float], None]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Count:
    """Have every path take so many instructions; nothing is recorded at first."""

    def take(figure: float) -> None:
        monkeypatch.setattr(guard, "instructions_of", lambda _: figure)

    record = tmp_path / "recorded.json"
    record.write_text("{}", "utf-8")
    monkeypatch.setattr(guard, "RECORD", record)
    monkeypatch.setattr(guard.shutil, "which", lambda _: "/usr/bin/valgrind")
    return take


@pytest.mark.parametrize("path", PATHS)
def test_each_path_can_be_taken(path: str) -> None:
    PATHS[path](3)


@pytest.mark.parametrize(("figure", "code"), [(1000, 0), (1029, 0), (1031, 1), (971, 0), (969, 1)])
def test_a_count_may_differ_by_the_tolerance(count: Count, figure: float, code: int) -> None:
    count(1000)
    assert guard.main(["--record"]) == 0
    count(figure)
    assert guard.main([]) == code


def test_a_path_without_a_recorded_count_fails(count: Count) -> None:
    count(1000)
    guard.RECORD.write_text(json.dumps({guard.build(): {"call": 1000}}), "utf-8")
    assert guard.main([]) == 1


def test_recording_keeps_the_counts_of_other_builds(count: Count) -> None:
    guard.RECORD.write_text('{"another": {"call": 5}}', "utf-8")
    count(1000.4)
    guard.main(["--record"])
    assert json.loads(guard.RECORD.read_text("utf-8")) == {
        "another": {"call": 5},
        guard.build(): dict.fromkeys(PATHS, 1000),
    }


@pytest.mark.parametrize("recorded", json.loads(guard.RECORD.read_text("utf-8")).values())
def test_hooks_that_nobody_uses_cost_next_to_nothing(recorded: Dict[str, float]) -> None:
    assert recorded["unhooked"] - recorded["driver"] < 0.015 * recorded["driver"]

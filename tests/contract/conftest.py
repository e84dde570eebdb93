"""The grid of the contract's blocks at the end of a session."""

from __future__ import annotations

from typing import Any, List

import pytest

from tests.harness.contract.grid import CELL, Grid

_GRID = pytest.StashKey[Grid]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_GRID] = Grid()


@pytest.fixture
def cell(record_property: Any) -> Any:
    """Enter this test into the grid: `cell(row, column, mark)`."""

    def enter(row: str, column: str, mark: str) -> None:
        record_property(CELL, [row, column, mark])

    return enter


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    grid = config.stash[_GRID]
    for outcome in ("passed", "failed", "error"):
        reports: List[Any] = terminalreporter.getreports(outcome)
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue  # a file that could not be collected
            for name, value in report.user_properties:
                if name == CELL:
                    row, column, mark = value  # type: ignore[misc]
                    grid.enter(row, column, mark if outcome == "passed" else "failed")
    if grid:
        terminalreporter.section("the contract's blocks")
        terminalreporter.write(grid.render())

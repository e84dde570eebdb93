"""The grid of the matrix at the end of a session, and the server of all cells."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from tests.harness.faults.grid import CELL, Grid
from tests.harness.faults.server import FaultServer

_GRID = pytest.StashKey[Grid]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_GRID] = Grid()


@pytest.fixture(scope="session")
def fault_server() -> Iterator[FaultServer]:
    """One server for all cells."""
    server = FaultServer()
    with server:
        yield server


@pytest.fixture
def enter(record_property: Any) -> Any:
    """Enter a result into the grid: `enter(fault, transport, points, streams)`."""

    def enter(*entry: Any) -> None:
        record_property(CELL, list(entry))

    return enter


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    grid = config.stash[_GRID]
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == CELL and report.when == "call":
                grid.enter(*value)
    if grid:
        terminalreporter.section("the fault matrix")
        terminalreporter.write(grid.render())

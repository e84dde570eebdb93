"""Which check passed on which transport, printed at the end of a session.

A pytest plugin: `pytest -p flowmaestro.testing.conformance.grid`, or in a `conftest.py`

    from flowmaestro.testing.conformance.grid import pytest_terminal_summary
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

CELL = "conformance"
"""The name of the property that tells a test's row and column."""

PASSED, NOT_OFFERED, FALLS_SHORT = "passed", "not offered", "falls short as declared"
FAILED, NOT_APPLICABLE = "failed", "does not apply"
_SIGNS = {PASSED: "+", NOT_OFFERED: "o", FALLS_SHORT: "x", FAILED: "F", NOT_APPLICABLE: "."}
_OUTCOMES = {
    "passed": PASSED,
    "skipped": NOT_OFFERED,
    "xfailed": FALLS_SHORT,
    "failed": FAILED,
    "error": FAILED,
}


class Grid:
    """Rows are checks, columns transports. A check that a transport cannot have is a dot."""

    def __init__(self) -> None:
        self._cells: Dict[Tuple[str, str], str] = {}
        self._consequences: List[str] = []

    def enter(self, row: str, column: str, mark: str, consequence: str = "") -> None:
        """Note what came of a check; a consequence is noted once for each transport."""
        self._cells[row, column] = mark
        line = f"{column}: {consequence}"
        if consequence and line not in self._consequences:
            self._consequences.append(line)

    def render(self) -> str:
        """The grid as text."""
        rows = list(dict.fromkeys(row for row, _ in sorted(self._cells)))
        columns = sorted({column for _, column in self._cells})
        width = max(len(row) for row in rows)
        lines = [" " * (width + 2) + "| " * depth + each for depth, each in enumerate(columns)]
        every: List[str] = []
        for row in rows:
            marks = [self._cells.get((row, column), NOT_APPLICABLE) for column in columns]
            every += marks
            lines.append(f"{row:{width}}  {' '.join(_SIGNS[mark] for mark in marks)}")
        counts = ", ".join(f"{sign} {mark}: {every.count(mark)}" for mark, sign in _SIGNS.items())
        return "\n".join([*lines, "", counts, *sorted(self._consequences), ""])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the grid of the session, if any check of the kit was run."""
    grid, entered = Grid(), False
    for outcome, mark in _OUTCOMES.items():
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == CELL:
                    entered = True
                    row, column = value
                    grid.enter(row, column, mark, _reason(report))
    if entered:
        terminalreporter.section("conformance of transports")
        terminalreporter.write(grid.render())


def _reason(report: Any) -> str:
    """Why a check was skipped, or was expected to fail."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).replace("reason: ", "", 1)
    if not report.skipped:
        return ""
    _, _, message = report.longrepr
    return str(message).replace("Skipped: ", "", 1)

"""A table of which check passed on which transport, printed at the end of a session.

A pytest plugin: `pytest -p flowmaestro.testing.conformance.grid`, or in a `conftest.py`

    from flowmaestro.testing.conformance.grid import pytest_terminal_summary
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Set, Tuple

CELL = "conformance"
"""The name of the test property that holds a pair: the name of the check, and its column.

The column is the name of the test class, with the event loop if there is one.
"""

_OUTCOMES = {"passed": "+", "skipped": "o", "xfailed": "x", "failed": "F", "error": "F"}
_LEGEND = {
    "+": "passed",
    "o": "not offered",
    "-": "not run",
    "x": "known failure, as declared",
    "F": "failed",
    ".": "does not apply",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of results, by check and transport, if a check of the kit was run."""
    cells: Dict[Tuple[str, str], str] = {}
    consequences: Set[str] = set()
    for outcome, sign in _OUTCOMES.items():
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == CELL:
                    check, transport = value
                    reason = _reason(report) if sign in "ox" else ""
                    offered = sign != "o" or reason.startswith("not offered")
                    cells[check, transport] = sign if offered else "-"
                    if reason:
                        consequences.add(f"{transport}: {reason}")
    if cells:
        terminalreporter.section("conformance of transports")
        terminalreporter.write("\n".join([*grid(cells), "", *sorted(consequences), ""]))


def grid(cells: Mapping[Tuple[str, str], str]) -> List[str]:
    """Return the lines of the table: a row for each check, a column for each transport.

    The names of the transports come first, and the counts of the signs last. `cells` has the sign
    of each outcome by the names of check and transport, and must not be empty.
    """
    checks = sorted({check for check, _ in cells})
    transports = sorted({transport for _, transport in cells})
    width = max(map(len, checks))
    lines = [" " * (width + 2) + "| " * depth + each for depth, each in enumerate(transports)]
    for check in checks:
        signs = " ".join(cells.get((check, transport), ".") for transport in transports)
        lines.append(f"{check:{width}}  {signs}")
    dots = len(checks) * len(transports) - len(cells)
    every = [*cells.values(), *"." * dots]
    counts = ", ".join(f"{sign} {words}: {every.count(sign)}" for sign, words in _LEGEND.items())
    return [*lines, "", counts]


def _reason(report: Any) -> str:
    """Return why a check was skipped, or was expected to fail."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).replace("reason: ", "", 1)
    _, _, message = report.longrepr
    return str(message).replace("Skipped: ", "", 1)

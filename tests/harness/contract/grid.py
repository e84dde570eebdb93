"""Which block runs on which runner, printed so that nothing that was not run looks passed."""

from __future__ import annotations

from typing import Dict, List, Tuple

CELL = "contract-cell"

AS_IS = "as-is"
REWRITTEN = "rewritten"
NOT_APPLICABLE = "not applicable"
FAILED = "failed"

_SIGNS = {AS_IS: "=", REWRITTEN: "~", NOT_APPLICABLE: ".", FAILED: "F"}


class Grid:
    """Cells of rows and columns; an empty one was not run."""

    def __init__(self) -> None:
        self._cells: Dict[Tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def enter(self, row: str, column: str, mark: str) -> None:
        self._cells[row, column] = mark

    def render(self) -> str:
        rows = sorted({row for row, _ in self._cells})
        columns = list(dict.fromkeys(column for _, column in self._cells))
        width = max(len(row) for row in rows)
        lines: List[str] = []
        for depth, column in enumerate(columns):
            lines.append(" " * (width + 2) + "| " * depth + column)
        for row in rows:
            signs = (_SIGNS.get(self._cells.get((row, column), ""), " ") for column in columns)
            lines.append(f"{row:{width}}  {' '.join(signs)}")
        marks = list(self._cells.values())
        counts = ", ".join(f"{sign} {mark}: {marks.count(mark)}" for mark, sign in _SIGNS.items())
        return "\n".join([*lines, "", counts, ""])

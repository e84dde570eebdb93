"""The grid of the matrix, printed so that nothing that was not run looks passed."""

from __future__ import annotations

from typing import Dict, Tuple

CELL = "fault-cell"


class Grid:
    """For each fault and transport, how many points and streams passed, of how many."""

    def __init__(self) -> None:
        self._counts: Dict[Tuple[str, str], Tuple[int, int, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def enter(
        self, fault: str, transport: str, points: Tuple[int, int], streams: Tuple[int, int]
    ) -> None:
        """Each count is a pair: passed, and in all."""
        self._counts[fault, transport] = (*points, *streams)

    def render(self) -> str:
        faults = list(dict.fromkeys(fault for fault, _ in self._counts))
        transports = list(dict.fromkeys(transport for _, transport in self._counts))
        lines = ["points passed / points (streams passed / streams)", ""]
        lines.append(f"{'':18}" + "".join(f"{name:>22}" for name in transports))
        for fault in faults:
            cells = (self._text(fault, transport) for transport in transports)
            lines.append(f"{fault:18}" + "".join(f"{text:>22}" for text in cells))
        passed, count, streams_passed, streams = map(sum, zip(*self._counts.values()))
        lines += ["", f"in all: {passed}/{count} points, {streams_passed}/{streams} streams", ""]
        return "\n".join(lines)

    def _text(self, fault: str, transport: str) -> str:
        counts = self._counts.get((fault, transport))
        return "{}/{} ({}/{})".format(*counts) if counts else "not run"

"""The matrix: what is cut where and how, what the server does then, and what the caller may see."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional

from flowmaestro import FlowMaestroError, StreamTimes
from tests.harness.faults.recording import TERMINAL, Recording
from tests.harness.runners import RUNNERS

RESET, CLEAN_END, STALL, UNAVAILABLE, GARBAGE = FAULTS = (
    "reset",
    "clean end",
    "stall",
    "503 on reconnect",
    "garbage",
)

RESUMED, ENDED, SILENT, HOPELESS = RECOVERIES = (
    "resumed",  # the rest of the events, after `Last-Event-ID` where there are ids
    "ended",  # the execution has ended meanwhile: its terminal event at once
    "silent",  # it has ended, but the stream has only keepalives for us
    "hopeless",  # the fault again and again, and no answer about the execution
)

TRANSPORTS = tuple(RUNNERS)

EVERY = int(os.environ.get("FLOWMAESTRO_FAULTS", "21"))
"""One in so many points is tried; `FLOWMAESTRO_FAULTS=1` for all, and for longer streams."""

TIMES = StreamTimes(
    event_idle=0.4,
    event_idle_max=0.6,
    bytes_idle=0.8,
    reconnect_base=0.01,
    reconnect_max=0.05,
    reconnect_for=60.0,
)
"""Of a stream that is resumed; a busy machine must not make it give up."""
HOPELESS_TIMES = replace(TIMES, reconnect_for=2.0)

RECORDINGS = {ids: Recording(ids) for ids in (True, False)}


@dataclass(frozen=True)
class Cell:
    """One stream that goes wrong."""

    transport: str
    fault: str
    ids: bool
    point: int
    recovery: str

    @property
    def execution_id(self) -> str:
        """A name of its own for each cell; the server knows its script by it."""
        ids = "ids" if self.ids else "no-ids"
        parts = (self.transport, self.fault, ids, str(self.point), self.recovery)
        return ".".join(parts).replace(" ", "-")

    @property
    def recording(self) -> Recording:
        """What the server would have sent."""
        return RECORDINGS[self.ids]

    @property
    def times(self) -> StreamTimes:
        """How long the caller of this cell tries to reconnect."""
        return HOPELESS_TIMES if self.recovery == HOPELESS else TIMES

    @property
    def garbles_events(self) -> bool:
        """Whether the garbage is in the events, not in the framing of the chunks around them."""
        return self.fault == GARBAGE and self.point % 2 == 0


def cells_of(transport: str, fault: str) -> List[Cell]:
    """Points with and without ids, and every way to go on from there; one in `EVERY` of them.

    Each fault has other ones than the next, and so has each transport.
    """
    cells = [
        Cell(transport, fault, ids, point, recovery)
        for ids, recording in RECORDINGS.items()
        for point in recording.points
        for recovery in RECOVERIES
    ]
    first = 3 * FAULTS.index(fault) + 2 * TRANSPORTS.index(transport)
    return [cell for cell in cells if (cell.point + first) % EVERY == 0]


@dataclass
class Seen:
    """What the caller got: events, and then the end of the iteration or an error."""

    events: List[Dict[str, Any]] = field(default_factory=list[Dict[str, Any]])
    error: Optional[BaseException] = None

    def of_type(self, name: str) -> List[Dict[str, Any]]:
        return [event for event in self.events if event["type"] == name]


def complaint(cell: Cell, seen: Seen) -> str:
    """What is wrong with what the caller got; `""` when it is the truth."""
    numbers = [event["number"] for event in seen.events if "number" in event]
    attempts = [event["attempt"] for event in seen.of_type("stream:reconnected")]
    if numbers != sorted(set(numbers)):
        return f"repeated or out of order: {numbers}"
    if len(seen.of_type("connected")) > 1:
        return "`connected` was repeated"
    if attempts != list(range(1, len(attempts) + 1)):
        return f"reconnections are numbered {attempts}"
    if seen.error is not None:
        return _complaint_about_error(cell, seen, seen.error)
    if len(seen.of_type(TERMINAL)) != 1:
        return f"{len(seen.of_type(TERMINAL))} terminal events"
    if seen.events[-1]["type"] != TERMINAL:
        return "the terminal event was not the last"
    if cell.recovery == HOPELESS and not _end_was_sent(cell):
        return "an end that nobody had told"
    if _must_be_whole(cell) and numbers != cell.recording.numbers:
        return f"events were lost; what came: {numbers}"
    return ""


def _complaint_about_error(cell: Cell, seen: Seen, error: BaseException) -> str:
    if not isinstance(error, FlowMaestroError):
        return f"an error that is not ours: {error!r}"
    if seen.of_type(TERMINAL):
        return f"an error after the terminal event: {error}"
    if cell.recovery != HOPELESS:
        return f"given up: {error}"
    return ""


def _end_was_sent(cell: Cell) -> bool:
    """Whether the terminal event, or its name and a garbled rest, came before the fault."""
    sent = cell.recording.content[: cell.point]
    return sent.endswith(b"\n\n") or cell.garbles_events


def _must_be_whole(cell: Cell) -> bool:
    return cell.ids and cell.recovery == RESUMED and not cell.garbles_events

"""A run's timeline, from its events to an SVG. Pure: no plotting library, no I/O.

The picture is readable in a light and a dark theme, alone or in an `<img>`. All times are the
server's.
"""

from __future__ import annotations

import math
import unicodedata
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from flowmaestro_core.arguments import check_several
from flowmaestro_core.payloads.json_values import LONGEST_NAME
from flowmaestro_core.showing.texts import event_time, in_words, safe

MOST_ROWS = 200
MAX_ERRORS = 5
"""How many errors of nodes are written below the picture."""
MAX_DESCRIBED = 20
"""How many nodes the description names."""
NO_NODE_EVENTS = "this server sends no node events"
NOT_FOLLOWED = "its events were not followed"
LONGEST_ERROR = 300
"""How many characters of an error are shown at most."""
WIDTH = 828
"""Pixels, unless the caller asks for another width."""
_ENDED = ("completed", "failed", "cancelled")
_SIGNS = {"failed": "\N{BALLOT X}", "cancelled": "\N{CIRCLED DIVISION SLASH}"}
_ROW, _BAR, _TOP, _MARGIN = 22, 14, 34, 12
_LABEL, _TOOK = 204, 92
"""The greatest width of the column of names, and the width of that of durations, in pixels."""
_CHARACTER = 7.25
"""The width of one character of the font, in pixels."""
_UNITS = (("ms", 0.001, 1.0), ("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0))
"""Units of the axis: name, seconds, and the span in seconds below which it is used; else days."""
_TICKS = 6
"""How many intervals the axis has at most."""

# Statuses differ by shape first: a failed row has a sign, a cancelled bar is an empty box, and a
# running one is hatched and open at its end. A failed bar stands out most from its page; on a
# transparent one, only its outline is drawn. Contrasts of WCAG 1.4.11: every bar to its page, and
# completed to failed in the light and dark theme, at least 3 : 1, in a simulation of deuteranopia
# as well. A mark has a halo, because it lies on bars of any colour.
_SHAPES = """svg{font:12px ui-monospace,Menlo,Consolas,monospace;direction:ltr}
.retry,.lost{stroke-width:2}.halo{stroke-width:6}.lost,.box{stroke-dasharray:3 3}
.box{fill:none}.box,.edge{stroke-width:2}rect.running{stroke:none}
"""
_LIGHT = """.page{fill:#fff}text{fill:#1f2328}.dim{fill:#59636e}.axis{stroke:#d0d7de}
.completed{fill:#2f9e52}.failed{fill:#660010}.cancelled{stroke:#8a5a00}.running{stroke:#0969da}
.retry{stroke:#1f2328}.lost{stroke:#660010}.halo{stroke:#fff}"""
_DARK = """.page{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#9198a1}.axis{stroke:#30363d}
.completed{fill:#1e7639}.failed{fill:#ffb9b3}.cancelled{stroke:#d29922}.running{stroke:#4493f8}
.retry{stroke:#e6edf3}.lost{stroke:#ffb9b3}.halo{stroke:#0d1117}"""
_ANY = """text,.dim{fill:#73797f}.axis{stroke:#73797f66}
.completed{fill:#2b8a4b}.failed{fill:none;stroke:#c4423f;stroke-width:3}.cancelled{stroke:#a06c00}
.running{stroke:#3f7fd6}.retry{stroke:#fff}.lost{stroke:#fff}.halo{stroke:#000}"""
"""Colours for a picture without a background: readable on a white and on a black page."""


class _Row:
    """The bars and retries of one node of the workflow, or of the whole execution."""

    def __init__(self, label: str) -> None:
        self.label = label[:LONGEST_NAME]
        self.bars: List[Tuple[float, Optional[float], str]] = []
        """Begin, end and status of each; the end is `None` while it runs."""
        self.retries: List[float] = []
        self.error = ""

    def status(self) -> str:
        """Return the status of the last bar of this row; `"pending"` if it has no bar."""
        return self.bars[-1][2] if self.bars else "pending"


class _Run(NamedTuple):
    """The times of one execution and its nodes, read from its events."""

    rows: List[_Row]
    lost: List[float]
    """When its stream was lost and resumed."""
    begin: float
    end: float
    status: str
    error: str


def timeline_svg(
    events: Optional[Iterable[Mapping[str, Any]]] = None,
    *,
    execution: Optional[Mapping[str, Any]] = None,
    now: Optional[float] = None,
    width: int = WIDTH,
    transparent: bool = False,
) -> str:
    """Draw the timeline of one execution, and return the text of an SVG document.

    Rows are the workflow's nodes in the order of their first events, at most 200. Ticks mark
    retries, dashed lines the places where the stream was lost and resumed. `<title>` and `<desc>`
    say in words what the picture shows.

    Args:
        events: the execution's events in order, as `executions.stream` yields them. An event
            without a `timestamp` of the server is drawn at the time of the event before it, and not
            drawn if none before it has one. `None` if the events were not followed.
        execution: the execution itself, as `executions.get` returns it. If there are no node
            events, one bar is drawn for the whole execution, unless it is pending: from its
            `started_at` (else `created_at`) to its `completed_at`, as far as they are known.
        now: the server's time, in Unix seconds. Bars that have not ended are drawn up to it; by
            default, up to the last event.
        width: of the picture, in pixels, from 320 up.
        transparent: draw no background, and use colours that are readable on white and on black.

    Raises `TypeError` for events that are not an iterable of mappings, and `ValueError` for a
    `width` below 320.

    """
    if not 320 <= width < math.inf:
        raise ValueError(f"width must be at least 320, not {width!r}")
    events = None if events is None else _list_of(events)
    return draw(events, execution or {}, now=now, width=width, transparent=transparent)


def draw(
    events: Optional[Sequence[Mapping[str, Any]]],
    about: Mapping[str, Any],
    *,
    now: Optional[float] = None,
    width: int = WIDTH,
    transparent: bool = False,
    subject: str = "an execution",
) -> str:
    """Draw the timeline of one execution, and return the text of an SVG document.

    `events` are its events in order; `None` if they were not followed. `about` is the execution, as
    far as it is known. `now` is the server's time, in Unix seconds, up to which bars are drawn that
    have not ended. `width` is in pixels. `transparent` leaves out the background, and uses colours
    that are readable on white and on black. `subject` is the noun in the title.
    """
    run = _read(events or (), about)
    begin, end, status = run.begin, run.end, run.status
    rows = run.rows
    note = f"and {len(rows) - MOST_ROWS} more nodes" if len(rows) > MOST_ROWS else ""
    if not rows:
        begin = event_time(about.get("started_at") or about.get("created_at")) or begin
        end = max(event_time(about.get("completed_at")) or end, begin)
        row = _Row("execution")
        rows = [row]
        if about.get("status") == "pending":
            status, end, note = "pending", begin, "not started"
        else:
            row.bars.append((begin, None if status == "running" else end, status))
            now = now if begin else None
            note = "" if events is None or status == "running" else why_no_nodes(events)
    end = max(end, now or end) if status == "running" else end
    shown = rows[:MOST_ROWS]
    picture = _Picture(width, len(shown), begin, end)
    picture.draw_axis()
    for index, row in enumerate(shown):
        picture.draw_row(index, row)
    for at in run.lost:
        picture.mark("lost", picture.x(at), _TOP - 6, picture.bottom)
    total = "" if note and end == begin else f"total {in_words(end - begin)}"
    ended = status if status in ("failed", "cancelled") else ""
    resumed = f"stream lost and resumed {len(run.lost)} x" if run.lost else ""
    summary = ", ".join(filter(None, (total, ended, resumed, note)))
    failed = [row for row in shown if row.error]
    for row in failed[:MAX_ERRORS]:
        picture.write_line(f"{_SIGNS['failed']} {row.label}: {row.error}")
    if run.error and not failed:
        picture.write_line(f"{_SIGNS['failed']} {run.error}")
    picture.write_legend(retries=any(row.retries for row in shown), lost=bool(run.lost))
    picture.write_line(summary)
    title = f"Timeline of {subject}: {status}, {summary or 'not begun'}"
    return picture.document(title, _description(rows, end, run.error), transparent=transparent)


class _Picture:
    """The parts of the SVG document of a timeline, and the positions of its axis and bars."""

    def __init__(self, width: int, rows: int, begin: float, end: float) -> None:
        self._width = width
        self._left = _MARGIN + min(_LABEL, width * 3 // 10)
        self._plot = width - self._left - _TOOK
        self._begin = begin
        self._end = end
        self._span = max(end - begin, 0.001)
        self.bottom = _TOP + rows * _ROW
        self._y = self.bottom
        """The base line of the last line of text below the bars."""
        self._parts: List[str] = []

    def x(self, at: Optional[float]) -> float:
        """Return the x coordinate of a time on the axis; for `None`, of the end of the axis."""
        if at is None:
            return self._left + self._plot
        share = min(max(at - self._begin, 0.0), self._span) / self._span
        return self._left + self._plot * share

    def draw_axis(self) -> None:
        """Draw ticks at round numbers of one unit. If no time has passed, draw none."""
        if self._end <= self._begin:
            return
        for after, label in _ticks(self._span, int(self._plot // 70)):
            at = self.x(self._begin + after)
            self.line("axis", at, _TOP - 6, self.bottom)
            self.text(at, 20, label, "dim", "middle")

    def draw_row(self, index: int, row: _Row) -> None:
        """Draw the name, the bars, the retries and the duration of a node."""
        y = _TOP + index * _ROW
        self.text(_MARGIN, y + 12, row.label, columns=(self._left - _MARGIN) / _CHARACTER - 1)
        for start, stop, status in row.bars:
            self._bar(self.x(start), self.x(stop), y, status, _words_of(row, status))
        for at in row.retries:
            self.mark("retry", self.x(at), y - 2, y + _BAR + 2)
        took = sum(max((self._end if stop is None else stop) - at, 0.0) for at, stop, _ in row.bars)
        if not row.bars:
            return
        sign = f"{_SIGNS.get(row.status(), '')} ".lstrip()
        self.text(self._left + self._plot + 10, y + 12, sign + in_words(took), "dim")

    def _bar(self, left: float, right: float, y: float, status: str, words: str) -> None:
        size = f'x="{left:.1f}" y="{y}" width="{max(right - left, 2):.1f}" height="{_BAR}"'
        fill = ' fill="url(#hatch)"' if status == "running" else ""
        kind = "cancelled box" if status == "cancelled" else status
        self._parts.append(f'<rect class="{kind}" {size}{fill}><title>{safe(words)}</title></rect>')
        if status == "running":  # no edge at the right: it goes on
            for top in (y, y + _BAR):
                self._parts.append(
                    f'<line class="running edge" x1="{left:.1f}" x2="{right:.1f}" '
                    f'y1="{top}" y2="{top}"/>'
                )
            self.line("running edge", left, y, y + _BAR)

    def write_line(self, text: str) -> None:
        """Write a line below the bars."""
        self._y += 18
        self.text(_MARGIN, self._y, text, "dim", columns=(self._width - 24) / _CHARACTER)

    def write_legend(self, *, retries: bool, lost: bool) -> None:
        """Write what the marks in the picture mean. Without marks, write nothing.

        `retries` and `lost` say whether the picture has marks of retries and of lost streams.
        """
        marks = [("retry", "retry")] * retries + [("lost", "stream lost and resumed")] * lost
        if not marks:
            return
        self._y += 18
        x = float(_MARGIN + 3)
        for kind, words in marks:
            self.mark(kind, x, self._y - 11, self._y + 2)
            self.text(x + 8, self._y, words, "dim")
            x += 30 + _CHARACTER * len(words)

    def mark(self, kind: str, x: float, top: float, bottom: float) -> None:
        """Draw a vertical line with a halo, so that it stands out from background and bars.

        `kind` is the CSS class of the line.
        """
        self.line("halo", x, top, bottom)
        self.line(kind, x, top, bottom)

    def line(self, kind: str, x: float, top: float, bottom: float) -> None:
        """Draw a vertical line. `kind` is its CSS class."""
        self._parts.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        kind: str = "",
        anchor: str = "start",
        columns: float = math.inf,
    ) -> None:
        """Write a text. If it is wider than `columns` characters, truncate it.

        A truncated text ends in `…`, and its tooltip shows the whole text. `kind` is the CSS class;
        `anchor` is the SVG attribute `text-anchor`: which end of the text is at `x`.
        """
        cut = _truncated(text, columns)
        whole = "" if cut == text else f"<title>{safe(text)}</title>"
        place = f'x="{x:.1f}" y="{y}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" {place}>{safe(cut)}{whole}</text>')

    def document(self, title: str, description: str, *, transparent: bool) -> str:
        """Return the whole SVG document as text.

        With `transparent`, the document has no background, and its one set of colours is readable
        on white and on black. Otherwise, the colours follow the reader's light or dark theme.
        """
        height = self._y + 12
        colours = _ANY if transparent else f"{_LIGHT}@media(prefers-color-scheme:dark){{{_DARK}}}"
        hatch = (
            '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><line class="running edge" x1="1" x2="1" y1="0" y2="6"/>'
            "</pattern>"
        )
        page = "" if transparent else '<rect class="page" width="100%" height="100%"/>'
        about = f"<title>{safe(title)}</title><desc>{safe(description)}</desc>"
        size = f'viewBox="0 0 {self._width} {height}" width="{self._width}" height="{height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{about}'
            f"<style>{_SHAPES}{colours}</style><defs>{hatch}</defs>{page}"
            f"{''.join(self._parts)}</svg>"
        )


def _ticks(span: float, most: int) -> List[Tuple[float, str]]:
    """Return the ticks of an axis that is `span` seconds long.

    A tick is the seconds from the beginning, and a label. All labels have the same unit. Between
    the ticks are at most `most` intervals, and at most `_TICKS`; a `most` below 3 counts as 3.
    """
    name, unit = next(((it, size) for it, size, least in _UNITS if span < least), ("d", 86_400.0))
    most = max(min(most, _TICKS), 3)  # with 2, a step could be longer than the span
    size = 10.0 ** math.floor(math.log10(span / unit / most))
    step = next(
        times * size for times in (1, 2, 5, 10) if span / unit <= times * size * most * 1.001
    )
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    count = int(span / unit / step + 1e-6)
    return [
        (number * step * unit, f"{number * step:.{digits}f} {name}") for number in range(count + 1)
    ]


def _truncated(text: str, columns: float) -> str:
    """Return `text`, truncated and with `…` at its end if it is wider than `columns` columns.

    A wide East Asian character takes two columns.
    """
    if len(text) * 2 <= columns:
        return text
    taken = 0
    for index, character in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return text[: max(index - 1, 0)] + "\N{HORIZONTAL ELLIPSIS}"
    return text


def _words_of(row: _Row, status: str) -> str:
    """Return the text of a bar's tooltip."""
    return f"{row.label}: {status}" + (f": {row.error}" if row.error and status == "failed" else "")


def _description(rows: Sequence[_Row], end: float, error: str) -> str:
    """Return in words what the picture shows.

    `end` is the end of bars that are still open. `error` is the error of the whole execution, or
    `""`. It is left out if a node has an error.
    """
    said: List[str] = []
    for row in rows[:MAX_DESCRIBED]:
        took = sum(max((end if stop is None else stop) - at, 0.0) for at, stop, _ in row.bars)
        retried = f", retried {len(row.retries)} x" if row.retries else ""
        why = f": {row.error}" if row.error else ""
        said.append(f"{row.label}: {row.status()}, {in_words(took)}{retried}{why}.")
    if len(rows) > MAX_DESCRIBED:
        said.append(f"And {len(rows) - MAX_DESCRIBED} more.")
    if error and not any(row.error for row in rows):
        said.append(f"Error: {error}.")
    return " ".join(said)


def _read(events: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> _Run:
    """Return the times of an execution and its nodes, read from its events.

    `about` is the execution itself, as far as it is known.
    """
    status = about["status"] if about.get("status") in _ENDED else "running"
    error = str(about.get("error") or "")[:LONGEST_ERROR]
    rows: Dict[str, _Row] = {}
    lost: List[float] = []
    times: List[float] = []
    for event in events:
        kind, _, what = str(event.get("type")).rpartition(":")
        if kind == "execution" and what in _ENDED:
            status = what
            error = str(event.get("error") or error)[:LONGEST_ERROR]
        at = event_time(event.get("timestamp"))
        if at is None and not times:
            continue
        times.append(times[-1] if at is None else at)
        if kind == "stream":
            lost.append(times[-1])
        elif kind == "node" and event.get("node_id") is not None:
            row = rows.setdefault(str(event["node_id"]), _Row(str(event["node_id"])))
            row.label = str(event.get("node_name") or row.label)[:LONGEST_NAME]
            _take(row, event, what, times[-1])
    bars = [bar for row in rows.values() for bar in row.bars]
    begin = min((*times, *(bar[0] for bar in bars)), default=0.0)  # some began unseen
    stopped = "cancelled" if any(bar[2] == "failed" for bar in bars) else status
    for row in rows.values():  # what ran when the execution ended does not go on
        if row.bars and row.bars[-1][1] is None and status != "running":
            row.bars.append((row.bars.pop()[0], times[-1], stopped))
    error = error if status == "failed" else ""
    return _Run(list(rows.values()), lost, begin, max(times, default=0.0), status, error)


def _take(row: _Row, event: Mapping[str, Any], what: str, at: float) -> None:
    """Update the row of a node from one event of this node.

    `what` is the type of the event after `node:`, such as `started`; `at` is its time.
    """
    is_open = bool(row.bars) and row.bars[-1][1] is None
    if what == "retry":
        row.retries.append(at)
    elif what == "started" and not is_open:
        row.bars.append((at, None, "running"))
    elif what in _ENDED:
        took: Any = event.get("duration_ms")
        is_time = isinstance(took, (int, float)) and 0 <= took < 1e14
        before = at - took / 1000 if is_time else at
        row.bars.append((row.bars.pop()[0] if is_open else before, at, what))
        if what == "failed":
            row.error = str(event.get("error") or "")[:LONGEST_ERROR]


def _list_of(events: Iterable[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the events as a list; raise `TypeError` for anything but mappings."""
    check_several("events", events, "mappings")
    listed: List[Any] = list(events)
    for event in listed:
        if not isinstance(event, Mapping):
            raise TypeError(f"events must be mappings; one of them is {type(event).__name__}")
    return listed


def why_no_nodes(events: Sequence[Mapping[str, Any]]) -> str:
    """Return why the events of an ended execution hold no node events; `""` if they hold some."""
    if any(str(event.get("type")).startswith("node:") for event in events):
        return ""
    live = any(
        event.get("type") == "execution:started"
        or (event.get("type") == "connected" and event.get("status") in ("pending", "running"))
        for event in events
    )
    return NO_NODE_EVENTS if live else NOT_FOLLOWED

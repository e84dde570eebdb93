"""A run's timeline, from its events to an SVG. Pure: no plotting library, no I/O.

The picture is readable in a light and a dark theme, alone or in an `<img>`. All times are the
server's.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from datetime import datetime, timezone
from itertools import accumulate, takewhile
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from flowmaestro_core.arguments import check_several
from flowmaestro_core.payloads.json_values import LONGEST_NAME, waits_for_person
from flowmaestro_core.showing.texts import event_time, in_words, safe

MOST_ROWS = 100
"""Rows of a picture: of thin rows, so many fit into 1,600 pixels. More nodes are folded."""
TALL_ROWS = 60
"""With more nodes than these, rows are thin, and nodes that are alike are folded."""
LEAST_FOLDED = 4
"""How many nodes in a row that are alike make a group. The row of a group takes the place of one
node, and hides its bar: for two or three that is not worth it."""
MAX_ERRORS = 5
"""How many errors of nodes are written above the bars: a screen shows the first bars below them."""
MAX_DESCRIBED = 20
"""How many nodes the description names. A screen reader reads all of it aloud."""
NO_NODE_EVENTS = "this server sends no node events"
NOT_FOLLOWED = "its events were not followed"
LONGEST_ERROR = 300
"""How many characters of an error are shown at most: three lines of the usual width."""
AN_EXECUTION = "an execution"
WIDTH = 828
"""Pixels, unless the caller asks for another width."""
_ENDED = ("completed", "failed", "cancelled")
_WORST_FIRST = ("failed", "paused", "cancelled", "running", "pending", "completed")
_SIGNS = {
    "failed": "\N{BALLOT X}",
    "cancelled": "\N{CIRCLED DIVISION SLASH}",
    "paused": "\N{DOUBLE VERTICAL LINE}",
}
_AT_LEAST = "\N{GREATER-THAN OR EQUAL TO} "
_EARLIEST = 1_000_000_000.0
"""An earlier Unix time is that of a test, and is not written as a date."""
_SHORT_ID = 9
"""Columns to which the id in the head may be cut: enough to tell it from others."""
_NUMBERS = re.compile(r"\d+")
_SIDE_BY_SIDE = 0.001
"""Seconds for which the bars of two nodes must overlap to have run at the same time. The server's
times are in milliseconds."""
_LONG_AXIS = 15
"""With more rows than these, the axis has its labels at both ends."""
_ROW, _BAR, _TOP, _MARGIN = 22, 14, 34, 12
_THIN_ROW, _THIN_BAR = 14, 9
_LINE = 18
"""The height of a line of text above and below the bars, in pixels."""
_LEAST_BAR = {"failed": 6}
"""The least width of a bar in pixels, by its status: a failure must be seen. Others have 2."""
_LEAST_OPEN = 12
"""The least width of a bar without an end, which may have begun at the last event."""
_LABEL, _TOOK = 204, 92
"""The greatest width of the column of names, and the width of that of durations, in pixels."""
_CHARACTER = 7.25
"""The width of one character of the font, in pixels."""
_UNITS = (("ms", 0.001, 1.0), ("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0))
"""Units of the axis: name, seconds, and the span in seconds below which it is used; else days."""
_TICKS = 6
"""How many intervals the axis has at most."""

# Statuses differ by shape first: a failed, cancelled or paused row has a sign, a cancelled bar is
# an empty box, a running or paused one is hatched. What is not over has no edge at its end.
# Contrasts of WCAG 1.4.11: every bar to its page, and completed to failed in the light and dark
# theme, at least 3 : 1, in a simulation of deuteranopia as well. Texts have 4.5 : 1 (1.4.3). A mark
# has a halo, because it lies on bars of any colour.
_SHAPES = """svg{font:12px ui-monospace,Menlo,Consolas,monospace;direction:ltr}
.retry,.lost{stroke-width:2}.halo{stroke-width:6}.lost,.box{stroke-dasharray:3 3}
.box{fill:none}.box,.edge{stroke-width:2}rect.running,rect.paused,rect.open{stroke:none}
.thin{font-size:10px}.head{font-weight:600}
"""
_LIGHT = """.page{fill:#fff}text{fill:#1f2328}.dim{fill:#59636e}.axis{stroke:#d0d7de}
.completed{fill:#3ca85a}.failed{fill:#7c001a}.cancelled{stroke:#8a5a00}.running{stroke:#0969da}
.paused{stroke:#8a5a00}.bad{fill:#b3001b}.once{stroke:#59636e}
.retry{stroke:#1f2328}.lost{stroke:#660010}.halo{stroke:#fff}"""
_DARK = """.page{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#9198a1}.axis{stroke:#30363d}
.completed{fill:#1e7639}.failed{fill:#ffaaa2}.cancelled{stroke:#d29922}.running{stroke:#4493f8}
.paused{stroke:#d29922}.bad{fill:#ffaaa2}.once{stroke:#9198a1}
.retry{stroke:#e6edf3}.lost{stroke:#ffb9b3}.halo{stroke:#0d1117}"""
_ANY = """text,.dim{fill:#757575}.axis{stroke:#75757566}
.completed{fill:#2b8a4b}.failed{fill:#d93438}.cancelled{stroke:#a06c00}
.paused{stroke:#a06c00}.bad{fill:#d93438}.once{stroke:#757575}
.running{stroke:#3f7fd6}.retry{stroke:#fff}.lost{stroke:#fff}.halo{stroke:#000}"""
"""Colours for a picture without a background: readable on a white and on a black page."""


class _Row:
    """The bars and retries of one node of the workflow, or of the whole execution."""

    def __init__(self, label: str) -> None:
        self.label = label[:LONGEST_NAME]
        self.bars: List[Tuple[float, Optional[float], str]] = []
        """Begin, end and status of each; the end is `None` while it runs, and if the end of a
        cancelled or paused node is not known."""
        self.retries: List[float] = []
        self.error = ""
        self.nodes = 1
        """How many nodes are folded into this row."""
        self._names: Optional[Tuple[str, str]] = None

    @property
    def names(self) -> Tuple[str, str]:
        """The names of the first and of the last node in this row."""
        return self._names or (self.label, self.label)

    @names.setter
    def names(self, names: Tuple[str, str]) -> None:
        self._names = names

    def status(self) -> str:
        """Return the status of the last bar of this row; `"pending"` if it has no bar.

        Of a row of several nodes, return the worst.
        """
        if self.nodes > 1:
            return min((status for _, _, status in self.bars), key=_WORST_FIRST.index)
        return self.bars[-1][2] if self.bars else "pending"

    def span(self, end: float) -> Tuple[float, float]:
        """Return the begin of the first bar and the end of the last. Open bars extend to `end`."""
        begins = [begin for begin, _, _ in self.bars]
        return min(begins), max(end if stop is None else stop for _, stop, _ in self.bars)

    def seconds(self, end: float) -> float:
        """Return how long the node ran; of several nodes, the time from first to last."""
        if self.nodes > 1:
            begin, stop = self.span(end)
            return stop - begin
        return sum(max((end if stop is None else stop) - at, 0.0) for at, stop, _ in self.bars)

    def is_open(self) -> bool:
        """Return whether it is unknown when this row ends: it runs, is paused, or was cancelled."""
        return any(stop is None for _, stop, _ in self.bars)


class _Run(NamedTuple):
    """The times of one execution and its nodes, read from its events."""

    rows: List[_Row]
    lost: List[float]
    """When its stream was lost and resumed."""
    begin: float
    end: float
    status: str
    error: str
    reason: str
    """Why it is paused; `""` if it is not."""
    workflow: str
    """The name of the workflow; `""` if it is not known."""
    is_open: bool
    """Whether the end of a cancelled or paused execution is not known."""


def timeline_svg(
    events: Optional[Iterable[Mapping[str, Any]]] = None,
    *,
    execution: Optional[Mapping[str, Any]] = None,
    now: Optional[float] = None,
    width: int = WIDTH,
    transparent: bool = False,
) -> str:
    """Draw the timeline of one execution, and return the text of an SVG document.

    Rows are the workflow's nodes in the order of their first events. A line at their left joins
    nodes that ran at the same time. With more than 60 nodes, rows are thin, and nodes that are
    alike are folded into at most 100 rows. Ticks mark retries, dashed lines the places where the
    stream was lost and resumed. Errors stand at the top. The end of what is paused, or was
    cancelled, is often not known: its bar is open at the last event, and its duration begins with
    `≥`. `<title>` and `<desc>` say in words what the picture shows.

    Args:
        events: the execution's events in order, as `executions.stream` yields them. An event
            without a `timestamp` of the server is drawn at the time of the event before it, and not
            drawn if none before it has one. `None` if the events were not followed.
        execution: the execution itself, as `executions.get` returns it; a `workflow_name` in it
            stands in place of the id of the workflow. If there are no node events, one bar is drawn
            for the whole execution, unless it is pending: from its `started_at` (else `created_at`)
            to its `completed_at`, as far as they are known.
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
    subject: str = AN_EXECUTION,
) -> str:
    """Draw the timeline of one execution, and return the text of an SVG document.

    `events` are its events in order; `None` if they were not followed. `about` is the execution, as
    far as it is known. `now` is the server's time, in Unix seconds, up to which bars are drawn that
    have not ended. `width` is in pixels. `transparent` leaves out the background, and uses colours
    that are readable on white and on black. `subject` is the noun in the title.
    """
    run = _read(events or (), about)
    begin, end, status, is_open = run.begin, run.end, run.status, run.is_open
    rows, note = _folded(run.rows), ""
    if not rows:
        begin = event_time(about.get("started_at") or about.get("created_at")) or begin
        end = max(event_time(about.get("completed_at")) or end, begin)
        row = _Row("execution")
        rows = [row]
        if about.get("status") == "pending":
            status, end, note = "pending", begin, "not started"
        else:
            row.bars.append((begin, None if is_open or status == "running" else end, status))
            now = now if begin else None
            note = "" if events is None or status == "running" else why_no_nodes(events)
    if status == "running" or (status == "paused" and begin):
        end = max(end, now or end)
    failed = [row for row in rows if row.error]
    errors = [f"{_SIGNS['failed']} {row.label}: {row.error}" for row in failed[:MAX_ERRORS]]
    if run.error and not failed:
        errors = [f"{_SIGNS['failed']} {run.error}"]
    head = _head(about, run, begin) if subject == AN_EXECUTION else ("", "", "")
    picture = _Picture(width, len(rows), begin, end, any(head) + len(errors))
    picture.write_head(head, errors)
    picture.draw_axis()
    for index, row in enumerate(rows):
        picture.draw_row(index, row)
    if subject == AN_EXECUTION:
        for first, last in _at_once(rows, end):
            picture.join(first, last)
    for at in run.lost:
        picture.mark("lost", picture.x(at), picture.top - 6, picture.bottom)
    at_least = _AT_LEAST if is_open or status == "running" else ""
    is_unknown = (note or at_least) and end == begin
    total = "" if is_unknown else f"total {at_least}{in_words(end - begin)}"
    ended = status if status in ("failed", "cancelled", "paused", "running") else ""
    ended = f"{ended}: {run.reason}" if run.reason else ended
    resumed = f"stream lost and resumed {len(run.lost)} x" if run.lost else ""
    summary = ", ".join(filter(None, (total, ended, resumed, note)))
    picture.write_legend(retries=any(row.retries for row in rows), lost=bool(run.lost))
    picture.write_line(summary)
    title = f"Timeline of {subject}: {status}, {summary or 'not begun'}"
    return picture.document(title, _description(rows, end, run.error), transparent=transparent)


def _head(about: Mapping[str, Any], run: _Run, begin: float) -> Tuple[str, str, str]:
    """Return workflow, id and beginning of the execution; `""` for what is unknown."""
    moment = ""
    if begin >= _EARLIEST:
        at = datetime.fromtimestamp(begin, timezone.utc)
        moment = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    workflow = run.workflow or about.get("workflow_name") or about.get("workflow_id")
    id = about.get("id")
    return str(workflow or "")[:LONGEST_NAME], str(id or "")[:LONGEST_NAME], moment


def _fitting(head: Sequence[str], columns: float) -> str:
    """Return a head of at most so many columns: the id is cut first, then the name of the workflow.

    The middle of the whole line would be the end of the id and the year of the moment.
    """
    parts = list(head)
    for at, least in ((1, _SHORT_ID), (0, 1)):
        over = _width("  ".join(filter(None, parts))) - columns
        if over > 0:
            parts[at] = _truncated(parts[at], max(_width(parts[at]) - over, least))
    return "  ".join(filter(None, parts))


def _at_once(rows: Sequence[_Row], end: float) -> Iterator[Tuple[int, int]]:
    """Yield the first and the last row of each group of rows that ran at the same time."""
    first, latest = 0, -math.inf
    for index, row in enumerate(rows):
        begin, stop = row.span(end) if row.bars else (math.inf, -math.inf)
        if min(latest, stop) - begin <= _SIDE_BY_SIDE:
            if index - first > 1:
                yield first, index - 1
            first, latest = index, stop
        latest = max(latest, stop)
    if len(rows) - first > 1:
        yield first, len(rows) - 1


def _folded(rows: List[_Row]) -> List[_Row]:
    """Return the rows, of which at most `MOST_ROWS` remain: others are folded into groups.

    Up to `TALL_ROWS` rows stay as they are. Then completed nodes that follow each other are folded
    if their names differ in numbers only. If that is not enough, all completed nodes are folded,
    and if that is not enough, all nodes.
    """
    if len(rows) <= TALL_ROWS:
        return rows
    alike = [_NUMBERS.sub("0", row.label) if _is_plain(row) else None for row in rows]
    rows = _grouped(rows, alike, LEAST_FOLDED, len(rows))
    others = sum(not _is_plain(row) for row in rows)
    # Each row that is not folded may leave a group that is not full.
    room = MOST_ROWS - 2 * others - 1
    if len(rows) > MOST_ROWS and room > 0:
        plain = ["" if _is_plain(row) else None for row in rows]
        rows = _grouped(rows, plain, 2, -(-(len(rows) - others) // room))
    if len(rows) > MOST_ROWS:
        rows = _grouped(rows, [""] * len(rows), 2, -(-len(rows) // MOST_ROWS))
    return rows


def _is_plain(row: _Row) -> bool:
    return row.status() == "completed" and not row.retries


def _grouped(
    rows: Sequence[_Row], keys: Sequence[Optional[str]], least: int, most: int
) -> List[_Row]:
    """Return the rows, with from `least` to `most` neighbours of the same key as one row each.

    A row whose key is `None` stays as it is.
    """
    runs: List[List[_Row]] = []
    last: Optional[str] = None
    for row, key in zip(rows, keys):
        if key is None or key != last or len(runs[-1]) >= most:
            runs.append([])
        runs[-1].append(row)
        last = key
    grouped: List[_Row] = []
    for run in runs:
        grouped += run if len(run) < least else [_group(run)]
    return grouped


def _group(rows: Sequence[_Row]) -> _Row:
    """Return one row for several."""
    group = _Row("")
    group.nodes = sum(row.nodes for row in rows)
    group.names = rows[0].names[0], rows[-1].names[1]
    first, last = group.names
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    last = last[last.rfind(" ", 0, alike) + 1 :]  # The words that both share stand there once.
    group.label = f"{first} \N{HORIZONTAL ELLIPSIS} {last} ({group.nodes})"
    group.bars = [bar for row in rows for bar in row.bars]
    group.retries = [at for row in rows for at in row.retries]
    group.error = next((row.error for row in rows if row.error), "")
    return group


class _Picture:
    """The parts of the SVG document of a timeline, and the positions of its axis and bars."""

    def __init__(self, width: int, rows: int, begin: float, end: float, lines: int) -> None:
        self._width = width
        self._left = _MARGIN + min(_LABEL, width * 3 // 10)
        self._plot = width - self._left - _TOOK
        self._begin = begin
        self._end = end
        self._span = max(end - begin, 0.001)
        self.top = _TOP + lines * _LINE
        """Where the first row begins, below the head and the labels of the axis."""
        thin = rows > TALL_ROWS
        self._row, self._bar_height = (_THIN_ROW, _THIN_BAR) if thin else (_ROW, _BAR)
        self._size = "thin" if thin else ""
        self._has_both_ends = rows > _LONG_AXIS
        self.bottom = self.top + rows * self._row
        self._y = self.bottom
        """The base line of the last line of text below the bars."""
        self._parts: List[str] = []

    def write_head(self, head: Sequence[str], errors: Iterable[str]) -> None:
        """Write the lines above the axis: workflow, id and beginning, and then the errors."""
        columns, y = (self._width - 24) / _CHARACTER, 2
        if any(head):
            y += _LINE
            whole = "  ".join(filter(None, head))
            self.text(_MARGIN, y, whole, "head", cut=_fitting(head, columns))
        for error in errors:
            y += _LINE
            self.text(_MARGIN, y, error, "bad", columns=columns)

    def x(self, at: Optional[float]) -> float:
        """Return the x coordinate of a time on the axis; for `None`, of the end of the axis."""
        if at is None:
            return self._left + self._plot
        share = min(max(at - self._begin, 0.0), self._span) / self._span
        return self._left + self._plot * share

    def draw_axis(self) -> None:
        """Draw ticks at round numbers of one unit. If no time has passed, draw none.

        If there are many rows, the labels stand below them, too.
        """
        if self._end <= self._begin:
            return
        for after, label in _ticks(self._span, int(self._plot // 70)):
            at = self.x(self._begin + after)
            self.line("axis", at, self.top - 6, self.bottom)
            self.text(at, self.top - 14, label, "dim", "middle")
            if self._has_both_ends:
                self.text(at, self.bottom + 14, label, "dim", "middle")
        self._y += _LINE * self._has_both_ends

    def _y_of(self, index: int) -> int:
        return self.top + index * self._row

    def draw_row(self, index: int, row: _Row) -> None:
        """Draw the name, the bars, the retries and the duration of a node."""
        y, status = self._y_of(index), row.status()
        base = y + self._bar_height - 2
        kind = f"{self._size} {'bad' if status == 'failed' else ''}".strip()
        label = f"{_SIGNS.get(status, '')} {row.label}".lstrip() if row.bars else row.label
        scale = 1.2 if self._size else 1.0  # Thin rows have a smaller font.
        columns = scale * (self._left - _MARGIN) / _CHARACTER - 1
        self.text(_MARGIN, base, label, kind, columns=columns)
        for start, stop, its in row.bars:
            is_open = stop is None
            words = _words_of(row, its)
            self._bar(self.x(start), self.x(stop), y, its, words, is_open=is_open)
        for at in row.retries:
            self.mark("retry", self.x(at), y - 2, y + self._bar_height + 2)
        took = _time_of(row, self._end) if row.bars else ""
        if took:
            self.text(self._width - _MARGIN, base, took, f"{self._size} dim".strip(), "end")

    def join(self, first: int, last: int) -> None:
        """Draw a line at the left of rows that ran at the same time."""
        top, bottom = self._y_of(first), self._y_of(last) + self._bar_height
        self._parts.append(
            f'<line class="once edge" x1="5" x2="5" y1="{top}" y2="{bottom}">'
            "<title>ran at the same time</title></line>"
        )

    def _bar(
        self, left: float, right: float, y: int, status: str, words: str, *, is_open: bool
    ) -> None:
        height, least = self._bar_height, _LEAST_OPEN if is_open else _LEAST_BAR.get(status, 2)
        right = min(max(right, left + least), self._left + self._plot)
        left = min(left, right - least)  # A short bar at the end of the axis begins earlier.
        size = f'x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{height}"'
        hatch = {"running": "hatch", "paused": "waits"}.get(status)
        fill = f' fill="url(#{hatch})"' if hatch else ""
        kind = "cancelled box" if status == "cancelled" else status
        kind += " open" if is_open and status == "cancelled" else ""
        self._parts.append(f'<rect class="{kind}" {size}{fill}><title>{safe(words)}</title></rect>')
        if is_open:  # no edge at the right: nobody knows when it ends
            edge = f"{'box ' if status == 'cancelled' else ''}{status} edge"
            for top in (y, y + height):
                self._parts.append(
                    f'<line class="{edge}" x1="{left:.1f}" x2="{right:.1f}" y1="{top}" y2="{top}"/>'
                )
            self.line(edge, left, y, y + height)

    def write_line(self, text: str) -> None:
        """Write a line below the bars."""
        self._y += _LINE
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
        cut: Optional[str] = None,
    ) -> None:
        """Write a text. If it is wider than `columns` characters, truncate it; or write `cut`.

        A truncated text has a `…`, and its tooltip shows the whole text. `kind` is the CSS class;
        `anchor` is the SVG attribute `text-anchor`: which end of the text is at `x`.
        """
        cut = _truncated(text, columns) if cut is None else cut
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
        hatch = "".join(
            f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><line class="{kind} edge" x1="1" x2="1" y1="0" y2="6"/>'
            "</pattern>"
            for name, kind in (("hatch", "running"), ("waits", "paused"))
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
    """Return `text`, truncated and with `…` in its middle if it is wider than `columns` columns.

    Names often differ at their ends. A wide East Asian character takes two columns.
    """
    if len(text) * 2 <= columns or _width(text) <= columns:
        return text
    half = (columns - 1) / 2
    first, last = _beginning(text, half), _beginning(text[::-1], half)[::-1]
    return f"{first}\N{HORIZONTAL ELLIPSIS}{last}"


def _width(text: str) -> int:
    return sum(map(_columns, text))


def _beginning(text: str, columns: float) -> str:
    return text[: bisect_right(list(accumulate(map(_columns, text))), columns)]


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _time_of(row: _Row, end: float) -> str:
    """Return in words how long a row took; `""` if nothing is known of it but when it began.

    `end` is the end of bars that are still open.
    """
    seconds = row.seconds(end)
    if not row.is_open():
        return in_words(seconds)
    return _AT_LEAST + in_words(seconds) if seconds else ""


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
        took = _time_of(row, end) if row.bars else in_words(0.0)
        retried = f", retried {len(row.retries)} x" if row.retries else ""
        why = f": {row.error}" if row.error else ""
        status = row.status() if row.bars else "pending"
        took = f", {took}" if took else ""
        said.append(f"{row.label}: {status}{took}{retried}{why}.")
    if len(rows) > MAX_DESCRIBED:
        said.append(f"And {len(rows) - MAX_DESCRIBED} more.")
    if error and not any(row.error for row in rows):
        said.append(f"Error: {error}.")
    return " ".join(said)


def _read(events: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> _Run:
    """Return the times of an execution and its nodes, read from its events.

    `about` is the execution itself, as far as it is known.
    """
    status = about["status"] if about.get("status") in (*_ENDED, "paused") else "running"
    error = str(about.get("error") or "")[:LONGEST_ERROR]
    reason = workflow = ""
    is_timed = event_time(about.get("completed_at")) is not None
    rows: Dict[str, _Row] = {}
    lost: List[float] = []
    times: List[float] = []
    for event in events:
        kind, _, what = str(event.get("type")).rpartition(":")
        at = event_time(event.get("timestamp"))
        if kind == "execution":
            if what in _ENDED:
                status, reason = what, ""
                is_timed = is_timed or at is not None
                error = str(event.get("error") or error)[:LONGEST_ERROR]
            elif what in ("paused", "resumed") and about.get("status") not in _ENDED:
                status = "paused" if what == "paused" else "running"
                reason = str(event.get("reason") or "")[:LONGEST_ERROR]
            workflow = str(event.get("workflow_name") or workflow)
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
    # The server publishes no cancellation, and does not set the time of one.
    is_open = status == "paused" or (status == "cancelled" and not is_timed)
    for row in rows.values():  # what ran when the execution ended does not go on
        if row.bars and row.bars[-1][1] is None and status != "running":
            row.bars.append((row.bars.pop()[0], None if is_open else times[-1], stopped))
    return _Run(
        list(rows.values()),
        lost,
        begin,
        max(times, default=0.0),
        status,
        error if status == "failed" else "",
        reason if status == "paused" else "",
        workflow,
        is_open,
    )


def _take(row: _Row, event: Mapping[str, Any], what: str, at: float) -> None:
    """Update the row of a node from one event of this node.

    `what` is the type of the event after `node:`, such as `started`; `at` is its time.
    """
    is_open = bool(row.bars) and row.bars[-1][1] is None
    if what == "retry":
        row.retries.append(at)
    elif what == "started" and not is_open:
        row.bars.append((at, None, "running"))
    elif waits_for_person(event):
        if not is_open:
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

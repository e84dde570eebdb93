"""A run's timeline, from its events to an SVG. Pure: no plotting library, no I/O.

The picture is readable in light and dark, alone or in an `<img>`. All times are the server's.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from flowmaestro_core.arguments import check_several
from flowmaestro_core.payloads.json_values import LONGEST_NAME
from flowmaestro_core.showing.texts import event_time, in_words, safe

MOST_ROWS = 200
NO_NODE_EVENTS = "this server sends no node events"
NOT_FOLLOWED = "its events were not followed"
_ENDED = ("completed", "failed", "cancelled")
_ROW, _BAR, _TOP = 22, 14, 34
_MARGIN, _LEFT, _PLOT, _WIDTH = 12, 216, 520, 828
_STYLE = """svg{font:12px ui-monospace,Menlo,Consolas,monospace;direction:ltr}
.page{fill:#fff}text{fill:#1f2328}.dim{fill:#656d76}.axis{stroke:#d0d7de}
.completed{fill:#2da44e}.failed{fill:#cf222e}.cancelled{fill:#9a6700}.running{fill:#0969da}
.retry{stroke:#1f2328;stroke-width:2}.lost{stroke:#cf222e;stroke-dasharray:3 3}
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#8d96a0}
.axis{stroke:#30363d}.completed{fill:#3fb950}.failed{fill:#f85149}.cancelled{fill:#d29922}
.running{fill:#4493f8}.retry{stroke:#e6edf3}.lost{stroke:#f85149}}"""


class _Row:
    def __init__(self, label: str, *bars: Tuple[float, Optional[float], str]) -> None:
        self.label = label[:LONGEST_NAME]
        self.bars = list(bars)  # begin, end, status
        self.retries: List[float] = []


def timeline_svg(
    events: Optional[Iterable[Mapping[str, Any]]] = None,
    *,
    execution: Optional[Mapping[str, Any]] = None,
    now: Optional[float] = None,
) -> str:
    """The timeline of one execution, as the text of an SVG document.

    Rows are the workflow's nodes in the order in which they began, at most 200. Ticks mark
    retries, dashed lines the places where the stream was lost and resumed.

    Args:
        events: the execution's events in order, as `executions.stream` yields them. An event
            without a `timestamp` of the server's stands where the one before it does. `None`
            where nobody followed them.
        execution: the execution itself, as `executions.get` returns it. Where no node events
            came, its `started_at` and `completed_at` give the one bar that is drawn.
        now: the server's time, in seconds since 1970: until then runs what has not ended.

    Raises `TypeError` for events that are no iterable of mappings.

    """
    about, events = execution or {}, None if events is None else _list_of(events)
    status = about["status"] if about.get("status") in _ENDED else "running"
    rows, lost, begin, end, status = _read(events or (), status)
    note = f"and {len(rows) - MOST_ROWS} more nodes" if len(rows) > MOST_ROWS else ""
    if not rows:
        begin = event_time(about.get("started_at") or about.get("created_at")) or begin
        end = max(event_time(about.get("completed_at")) or end, begin)
        rows = [_Row("execution", (begin, None if status == "running" else end, status))]
        now = None if not begin or about.get("status") == "pending" else now
        note = "" if events is None or status == "running" else why_no_nodes(events)
    end = max(end, now or end) if status == "running" else end
    span, shown = max(end - begin, 0.001), rows[:MOST_ROWS]
    bottom = _TOP + len(shown) * _ROW

    def x(at: Optional[float]) -> float:
        return _LEFT + (_PLOT if at is None else _PLOT * min(max(at - begin, 0.0), span) / span)

    parts: List[str] = []
    for after in (span * step / 4 for step in range(5 if end > begin else 0)):
        parts.append(_line("axis", x(begin + after), _TOP - 6, bottom))
        parts.append(_text(x(begin + after), 20, in_words(after), "dim", "middle"))
    for index, row in enumerate(shown):
        y = _TOP + index * _ROW
        label = _text(0, 12, row.label)  # an inner `svg` cuts off what is too long
        parts.append(f'<svg x="{_MARGIN}" y="{y}" width="196" height="{_ROW}">{label}</svg>')
        for start, stop, what in row.bars:
            size = f'width="{max(x(stop) - x(start), 2):.1f}" height="{_BAR}"'
            title = f"<title>{safe(row.label)}: {what}</title>"
            parts.append(f'<rect class="{what}" x="{x(start):.1f}" y="{y}" {size}>{title}</rect>')
        parts += [_line("retry", x(at), y - 2, y + _BAR + 2) for at in row.retries]
        took = sum(max((end if stop is None else stop) - at, 0.0) for at, stop, _ in row.bars)
        parts.append(_text(_LEFT + _PLOT + 10, y + 12, in_words(took), "dim"))
    parts += [_line("lost", x(at), _TOP - 6, bottom) for at in lost]
    total = "" if note and end == begin else f"total {in_words(end - begin)}"
    ended = status if status in ("failed", "cancelled") else ""
    resumed = f"stream lost and resumed {len(lost)} x" if lost else ""
    said = ", ".join(filter(None, (total, ended, resumed, note)))
    parts.append(_text(_MARGIN, bottom + 18, said, "dim"))
    size = f'viewBox="0 0 {_WIDTH} {bottom + 30}" width="{_WIDTH}" height="{bottom + 30}"'
    page = f'<style>{_STYLE}</style><rect class="page" width="100%" height="100%"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{page}{"".join(parts)}</svg>'


def _read(
    events: Iterable[Mapping[str, Any]], status: str
) -> Tuple[List[_Row], List[float], float, float, str]:
    """Rows, when the stream was lost, when all began and ended, and the status at the end."""
    rows: Dict[str, _Row] = {}
    lost: List[float] = []
    times: List[float] = []
    for event in events:
        kind, _, what = str(event.get("type")).rpartition(":")
        status = what if kind == "execution" and what in _ENDED else status
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
    return list(rows.values()), lost, begin, max(times, default=0.0), status


def _take(row: _Row, event: Mapping[str, Any], what: str, at: float) -> None:
    """One event of the node of a row."""
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


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{safe(text)}</text>'


def _list_of(events: Iterable[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """The events, or `TypeError`."""
    check_several("events", events, "mappings")
    listed: List[Any] = list(events)
    for event in listed:
        if not isinstance(event, Mapping):
            raise TypeError(f"events must be mappings; one of them is {type(event).__name__}")
    return listed


def why_no_nodes(events: Sequence[Mapping[str, Any]]) -> str:
    """Why there are no node events among these, of an ended execution; `""` if there are."""
    if any(str(event.get("type")).startswith("node:") for event in events):
        return ""
    live = any(
        event.get("type") == "execution:started"
        or (event.get("type") == "connected" and event.get("status") in ("pending", "running"))
        for event in events
    )
    return NO_NODE_EVENTS if live else NOT_FOLLOWED

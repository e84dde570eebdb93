"""What objects show in a notebook: static HTML, loaded when a notebook first asks for it.

There is no style in it but the width of the picture, so that it is readable in every theme. All
text is escaped, and isolated from the direction of what stands around it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple, cast

from flowmaestro_core.payloads.json_values import hidden_member, list_or_empty, object_or_empty
from flowmaestro_core.showing.texts import duration_of, safe
from flowmaestro_core.showing.timeline import timeline_svg

MOST_ROWS = 100
MOST_COLUMNS = 8
LONGEST_CELL = 80
LONGEST_VALUE = 2000
"""Characters of outputs, as JSON."""


class Outcome(Protocol):
    """The parts of a `RunOutcome` that are shown."""

    # Not imported, because the module of `RunOutcome` imports this one.
    @property
    def index(self) -> int: ...
    @property
    def execution_id(self) -> Optional[str]: ...
    @property
    def execution(self) -> Optional[Mapping[str, Any]]: ...
    @property
    def error(self) -> Optional[Exception]: ...
    @property
    def outputs(self) -> Optional[Mapping[str, Any]]: ...


class Progress(Protocol):
    """The parts of a `BatchProgress` that are shown."""

    @property
    def total(self) -> Optional[int]: ...
    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


_Events = Optional[Iterable[Mapping[str, Any]]]


def execution_html(execution: Mapping[str, Any], events: _Events = None) -> str:
    """Status, outputs and timeline of an execution; `events` as in `timeline_svg`."""
    facts = [
        ("execution", execution.get("id")),
        ("workflow", execution.get("workflow_id")),
        ("took", duration_of(execution)),
        ("error", execution.get("error")),
    ]
    outputs = execution.get("outputs")
    shown = "" if outputs is None else f"<pre>{_text(_json(outputs), LONGEST_VALUE)}</pre>"
    head = _head("Execution", execution.get("status"))
    return head + _facts(facts) + shown + image(timeline_svg(events, execution=execution))


def reply_html(reply: Mapping[str, Any]) -> Optional[str]:
    """A page as a table, an execution as such; `None` for any other reply."""
    data = reply.get("data")
    if isinstance(data, list):
        about = object_or_empty(reply.get("pagination"))
        page, pages, total = (about.get(key) for key in ("page", "total_pages", "total_count"))
        place = "" if page is None else f"page {page}" + (f" of {pages}" if pages else "")
        whole = "" if total is None else f"{total} in all"
        return _head("Page", ", ".join(filter(None, (place, whole)))) + _table(
            list_or_empty(cast("Any", data))
        )
    execution = object_or_empty(data)
    is_execution = {"status", "outputs", "error", "workflow_id"} <= execution.keys()
    return execution_html(execution) if is_execution else None


def outcome_html(outcome: Outcome) -> str:
    """A row of a batch and what became of it."""
    head = _head("Row", outcome.index)
    if outcome.error is not None:
        facts = [("execution", outcome.execution_id), ("error", repr(outcome.error))]
        return head + _facts(facts)
    return head + execution_html(outcome.execution or {"id": outcome.execution_id})


def batch_html(progress: Progress, recent: Iterable[Outcome]) -> str:
    """How far a batch has come, and its latest outcomes."""
    of = "" if progress.total is None else f" of {progress.total}"
    said = f"{progress.done}{of} done, {progress.failed} failed, {progress.in_flight} in flight"
    rows: List[Dict[str, Any]] = []
    spans: List[Dict[str, Any]] = []
    for outcome in recent:
        execution: Mapping[str, Any] = outcome.execution or {}
        status = execution.get("status") if outcome.error is None else repr(outcome.error)
        row = {"row": outcome.index, "execution": outcome.execution_id, "status": status}
        outputs = None if outcome.outputs is None else _json(outcome.outputs, indent=None)
        rows.append({**row, "took": duration_of(execution), "outputs": outputs})
        node = {"node_id": f"row {outcome.index}"}
        ending = status if status in ("failed", "cancelled") else "completed"
        began = execution.get("started_at")
        for what, at in (("started", began), (ending, execution.get("completed_at") or began)):
            spans.append({"type": f"node:{what}", "timestamp": at, **node})
    timed = [span for span in spans if span["timestamp"] is not None]
    return _head("Batch", said) + _table(rows) + (image(timeline_svg(timed)) if timed else "")


def stream_html(state: str, execution: Mapping[str, Any], events: _Events) -> str:
    """How far a stream has come, and the timeline up to there."""
    return _head("Stream", state) + image(timeline_svg(events, execution=execution))


def image(svg: str) -> str:
    """A picture in the page itself: notebooks strip inline SVG that they do not trust."""
    data = base64.b64encode(svg.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<p><img alt="timeline" style="max-width:100%" src="{source}"></p>'


def _head(what: str, state: Any) -> str:
    return f"<p><b>{what}</b> {_text(state)}</p>"


def _facts(pairs: Iterable[Tuple[str, Any]]) -> str:
    rows = (f"<tr><th>{name}</th><td>{_text(value)}</td></tr>" for name, value in pairs if value)
    return f"<table>{''.join(rows)}</table>"


def _table(rows: Sequence[Any]) -> str:
    """The first rows, and the first of the names that they have values for."""
    shown = [object_or_empty(row) for row in rows[:MOST_ROWS]]
    names = dict.fromkeys(name for row in shown for name in row if row[name] is not None)
    columns = list(names)[:MOST_COLUMNS]
    lines = ["".join(f"<th>{_text(name)}</th>" for name in columns)]
    lines += ["".join(f"<td>{_cell(name, row)}</td>" for name in columns) for row in shown]
    more = len(rows) - len(shown)
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{table}</table>" + (f"<p>and {more} more</p>" if more else "")


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value = hidden_member(name, row.get(name))
    if not isinstance(value, (dict, list)):
        return _text(value)
    return "..." if name == "headers" else _text(_json(value, indent=None), LONGEST_CELL)


def _json(value: Any, indent: Optional[int] = 2) -> str:
    return json.dumps(hidden_member("", value), indent=indent, ensure_ascii=False, default=str)


def _text(value: Any, longest: int = 200) -> str:
    """A text as HTML shows it: one direction of its own, no markup, no key of the API."""
    if value is None:
        return ""
    text = str(value)[: longest + 1]
    cut = text if len(text) <= longest else text[:longest] + "..."
    return "<bdi>" + "\n".join(safe(line) for line in cut.split("\n")) + "</bdi>"

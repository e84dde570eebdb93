"""The HTML that objects show in a notebook. This module is loaded when it is first needed.

The HTML is static. It sets no colours, so that it is readable in every theme. The timeline is a
picture, whose colours are readable on white and on black. The only styles of the HTML are the width
of this picture, and that ids and other short texts without spaces do not wrap. All text is escaped.
Text in another direction does not change the text around it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple, cast

from flowmaestro_core.payloads.json_values import hidden_member, list_or_empty, object_or_empty
from flowmaestro_core.showing.texts import duration_of, safe
from flowmaestro_core.showing.timeline import draw, timeline_svg

# A cell of a notebook is about 1,000 pixels wide, and is saved with the notebook.
MOST_ROWS = 100
"""As many as a page of a list may have."""
MOST_COLUMNS = 8
LONGEST_CELL = 80
LONGEST_VALUE = 2000
"""Characters that are shown of outputs and other JSON values: some thirty lines. All of them are
saved with the notebook."""
MAX_OPEN_LINES = 20
"""Outputs and other JSON values with more lines are folded: about half a screen, so that the next
cell stays in sight."""


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
    """Return HTML that shows status, outputs and timeline of an execution.

    `events` are the execution's events in order; `None` if they were not followed.
    """
    facts = [
        ("execution", execution.get("id")),
        ("workflow", execution.get("workflow_id")),
        ("took", duration_of(execution)),
        ("error", execution.get("error")),
    ]
    outputs = execution.get("outputs")
    shown = "" if outputs is None else _folded("outputs", outputs)
    head = _head("Execution", execution.get("status"))
    return head + _facts(facts) + shown + _timeline(events, execution)


def reply_html(reply: Mapping[str, Any]) -> Optional[str]:
    """Return HTML for a reply; `None` if there is nothing to show.

    A page of a list and search results become a table. An execution becomes what `execution_html`
    returns. Any other resource becomes a table of its members.
    """
    data = reply.get("data")
    if isinstance(data, list):
        about = object_or_empty(reply.get("pagination"))
        page, pages, total = (about.get(key) for key in ("page", "total_pages", "total_count"))
        place = "" if page is None else f"page {page}" + (f" of {pages}" if pages else "")
        whole = "" if total is None else f"{total} in all"
        return _head("Page", ", ".join(filter(None, (place, whole)))) + _table(
            list_or_empty(cast("Any", data))
        )
    resource = object_or_empty(data)
    if {"status", "outputs", "error", "workflow_id"} <= resource.keys():
        return execution_html(resource)
    if not resource:
        return None
    results = resource.get("results")
    if isinstance(results, list):
        rows = list_or_empty(cast("Any", results))
        said = f"{len(rows)} for {resource['query']}" if resource.get("query") else len(rows)
        return _head("Results", said) + _table(rows)
    return _head("Reply", resource.get("name")) + _resource(resource)


def error_html(error: Exception, facts: Sequence[Tuple[str, Any]]) -> str:
    """Return HTML for an error: its class, its message, and `facts` about the call."""
    return _head(type(error).__name__, str(error)) + _facts(facts)


def outcome_html(outcome: Outcome) -> str:
    """Return HTML that shows a row of a batch and its result."""
    head = _head("Row", outcome.index)
    if outcome.error is not None:
        facts = [("execution", outcome.execution_id), ("error", repr(outcome.error))]
        return head + _facts(facts)
    return head + execution_html(outcome.execution or {"id": outcome.execution_id})


def batch_html(progress: Progress, recent: Iterable[Outcome]) -> str:
    """Return HTML that shows the progress of a batch and its latest outcomes, `recent`.

    The outcomes are in a table and, if their times are known, in a timeline.
    """
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
        ended = execution.get("status")
        ending = ended if ended in ("failed", "cancelled") else "completed"
        began = execution.get("started_at")
        for what, at in (("started", began), (ending, execution.get("completed_at") or began)):
            spans.append({"type": f"node:{what}", "timestamp": at, **node})
    timed = [span for span in spans if span["timestamp"] is not None]
    shown = _head("Batch", said) + _table(rows)
    if not timed:
        return shown
    about = {"status": "completed" if progress.done == progress.total else "running"}
    return shown + image(draw(timed, about, transparent=True, subject="the latest rows of a batch"))


def stream_html(state: str, execution: Mapping[str, Any], events: _Events) -> str:
    """Return HTML that shows the state of a stream, and the timeline of the events so far."""
    return _head("Stream", state) + _timeline(events, execution)


def _timeline(events: _Events, execution: Optional[Mapping[str, Any]]) -> str:
    # A notebook's theme may differ from the system's, which is all that a picture can know.
    return image(timeline_svg(events, execution=execution, transparent=True))


def image(svg: str) -> str:
    """Return a paragraph with an `img` that holds the SVG: untrusted notebooks remove inline SVG.

    Its `alt` is the title of the SVG, which a screen reader does not find in an image.
    """
    data = base64.b64encode(svg.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    alt = svg.partition("<title>")[2].partition("</title>")[0]
    return f'<p><img alt="{alt}" style="max-width:100%" src="{source}"></p>'


def _head(what: str, state: Any) -> str:
    return f"<p><b>{what}</b> {_text(state)}</p>"


def _facts(pairs: Iterable[Tuple[str, Any]]) -> str:
    rows = (f"<tr><th>{name}</th>{_data(_text(value))}</tr>" for name, value in pairs if value)
    return f"<table>{''.join(rows)}</table>"


def _resource(resource: Mapping[str, Any]) -> str:
    """Return the first `MOST_ROWS` members of a resource as a table, except those that are `None`.

    Long JSON values are folded. An object or array in `headers` is shown as `...`.
    """
    lines: List[str] = []
    for name in list(resource)[:MOST_ROWS]:
        value = hidden_member(str(name), resource[name])
        if isinstance(value, (dict, list)):
            shown = "..." if name == "headers" else _folded("", cast("Any", value))
            lines.append(f"<tr><th>{_text(name)}</th><td>{shown}</td></tr>")
        elif value is not None:
            lines.append(f"<tr><th>{_text(name)}</th>{_data(_text(value))}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _folded(name: str, value: Any) -> str:
    """Return the HTML of a value as JSON, truncated after `LONGEST_VALUE` characters.

    It is folded if the value has more than `MAX_OPEN_LINES` lines. `name` is in the line that is
    shown while it is folded.
    """
    text = _json(value)
    lines = text.count("\n") + 1
    shown = f"<pre>{_text(text, LONGEST_VALUE)}</pre>"
    if lines <= MAX_OPEN_LINES:
        return shown
    return f"<details><summary>{name} {lines} lines</summary>{shown}</details>"


def _data(text: str) -> str:
    """Return a table cell that holds the HTML `text`.

    If it is short and has no spaces, such as an id, it does not wrap.
    """
    short = len(text) <= 80 and " " not in text
    return f'<td style="white-space:nowrap">{text}</td>' if short else f"<td>{text}</td>"


def _table(rows: Sequence[Any]) -> str:
    """Return the first `MOST_ROWS` rows as a table, and how many more rows there are.

    The columns are the first `MOST_COLUMNS` names that have a value in one of these rows. A row
    that is not an object is empty.
    """
    shown = [object_or_empty(row) for row in rows[:MOST_ROWS]]
    names = dict.fromkeys(name for row in shown for name in row if row[name] is not None)
    columns = list(names)[:MOST_COLUMNS]
    lines = ["".join(f"<th>{_text(name)}</th>" for name in columns)]
    lines += ["".join(_data(_cell(name, row)) for name in columns) for row in shown]
    more = len(rows) - len(shown)
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{table}</table>" + (f"<p>and {more} more</p>" if more else "")


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value = hidden_member(str(name), row.get(name))
    if not isinstance(value, (dict, list)):
        return _text(value)
    return "..." if name == "headers" else _text(_json(value, indent=None), LONGEST_CELL)


def _json(value: Any, indent: Optional[int] = 2) -> str:
    return json.dumps(hidden_member("", value), indent=indent, ensure_ascii=False, default=str)


def _text(value: Any, longest: int = 200) -> str:
    """Return the first `longest` characters of `str(value)`, as HTML without API keys.

    A truncated text ends in `...`. For `None`, return `""`.

    Markup in the text is escaped. A `<bdi>` element keeps the direction of the text, which may be
    right to left, from affecting the text around it.
    """
    if value is None:
        return ""
    text = str(value)[: longest + 1]
    cut = text if len(text) <= longest else text[:longest] + "..."
    return "<bdi>" + "\n".join(safe(line) for line in cut.split("\n")) + "</bdi>"

"""An execution on standard error: a live picture of its nodes, or lines for its events."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from flowmaestro import RetryInfo
from flowmaestro.cli.console import Console, Text, shorten
from flowmaestro.types import EndedExecution, ExecutionEvent
from flowmaestro_core.payloads.json_values import LONGEST_NAME, waits_for_person
from flowmaestro_core.showing.texts import event_time
from flowmaestro_core.showing.timeline import why_no_nodes

_STYLES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "started": "cyan",
}
SHOWS_AGE_AFTER = 2.0
"""Seconds without an event after which the age of the last poll is shown: by then, `STREAM_TIMES`
has made the first one."""
_ENDED = ("completed", "failed", "cancelled")


@dataclass
class Node:
    """One node of a workflow, as its events describe it. Times are in seconds.

    `seconds` is how long the node ran. It is `None` while the node runs, and if that is not known.
    """

    name: str
    began: float
    status: str = "started"
    seconds: Optional[float] = None
    note: str = ""


class RunView:
    """The known state of one execution. This view prints lines for its events.

    An event `execution:progress` gets no line once a node is known. Create the view before the
    execution starts: rich takes a while to load, and events could be missed.

    Attributes:
        execution_id: the execution, set before the view is entered.
        workflow: the name of its workflow; "" if it is not known.
        status: the execution's status, by its events; `LiveRunView` takes it from polls, too.
        ahead: the server's time in Unix seconds less `time.monotonic()`, by the last event with a
            time; 0.0 before.

    """

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.execution_id: str = ""
        self.workflow: str = ""
        self.note: str = ""
        self.took: str = ""
        self.why_no_nodes: str = ""
        self.began: float = 0.0
        self.ahead: float = 0.0
        self.status: str = "pending"
        self.progress: Optional[float] = None
        self.nodes: Dict[str, Node] = {}

    @property
    def failed(self) -> List[str]:
        """Names of the nodes that failed, in the order of their first events."""
        return [node.name for node in self.nodes.values() if node.status == "failed"]

    def __enter__(self) -> None:
        """Begin to show the execution: print its id, so that a truncated log says what to watch."""
        self.began = time.monotonic()
        self.screen.line(f"execution {self.execution_id}")

    def __exit__(self, *exc: object) -> None:
        """Stop showing the execution. If `end` has found why its nodes are not known, print why."""
        if self.why_no_nodes:
            took = f"; the execution took {self.took}" if self.took else ""
            self.screen.line(" " * 11, self.why_no_nodes + took, indent=11)

    def follow(self, stream: Any) -> None:
        """Show what `stream` learns from polls, too (`EventStream.last_seen`).

        Only `LiveRunView` does this; here, the method has no effect.
        """

    def end(self, execution: EndedExecution, events: Sequence[Mapping[str, Any]]) -> None:
        """Store the end of the execution. `events` are those that its stream has kept."""
        self.took = _duration_of(execution)
        self.status = execution["status"]
        if execution["error"]:  # The command ends with it, and with the names of failed nodes.
            for node in self.nodes.values():
                node.note = "" if node.status == "failed" else node.note
        # A cancelled execution may never have come to a node.
        self.why_no_nodes = "" if self.status == "cancelled" else why_no_nodes(events)

    def show(self, event: ExecutionEvent) -> None:
        """Update the state by one event. Then print a line, if the view has one for this event.

        `LiveRunView` redraws its picture instead.
        """
        fields = cast("Mapping[str, Any]", event)
        kind, _, what = event["type"].rpartition(":")
        at = event_time(fields.get("timestamp"))
        self.ahead = self.ahead if at is None else at - time.monotonic()
        if kind == "node":
            self._update_node(fields, what)
        elif kind == "execution":
            self._update(fields, what)
        elif event["type"] == "connected":
            self.status = fields.get("status") or self.status
        elif kind == "stream":
            self.note = "the connection was lost and resumed"
        self._draw(fields)

    def retrying(self, info: RetryInfo) -> None:
        """Show that the event stream is lost, once an attempt to open it again has failed.

        A loss alone is not shown, because the SDK often reconnects at once.
        """
        said = "the connection is lost; trying again"
        if info.reconnects and info.code is not None and self.note != said:
            self.note = said
            self._draw({"type": "stream:lost"})

    def _update(self, event: Mapping[str, Any], what: str) -> None:
        if what == "progress":
            self.progress = event.get("progress")
        else:
            self.status = {"started": "running", "resumed": "running"}.get(what, what)
            if what == "paused":
                self.note = f"paused: {event.get('reason') or 'it waits for a person'}"
            elif self.note.startswith("paused"):
                self.note = ""
        failed = event.get("failed_node_id")
        if failed is not None:
            self._node(str(failed), event.get("node_name")).status = "failed"

    def _update_node(self, event: Mapping[str, Any], what: str) -> None:
        now, was_known = time.monotonic(), str(event.get("node_id")) in self.nodes
        node = self._node(str(event.get("node_id")), event.get("node_name"))
        if what in ("started", "retry"):
            node.status, node.began, node.seconds = "started", now, None
            node.note = f"attempt {event.get('attempt')}" if what == "retry" else node.note
        elif waits_for_person(event):
            node.status, node.note = "paused", "waits for a person"
        elif what in ("completed", "failed"):
            took = event.get("duration_ms")
            node.status = what
            node.seconds = now - node.began if was_known else None
            if isinstance(took, (int, float)):
                node.seconds = took / 1000
            if what == "failed":
                node.note = str(event.get("error") or "")

    def _node(self, node_id: str, name: Any) -> Node:
        short = str(name or node_id)[:LONGEST_NAME]
        return self.nodes.setdefault(node_id, Node(short, time.monotonic()))

    def _draw(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "execution:progress" and self.nodes:
            return  # The lines of the nodes say more.
        texts: List[Text] = [(f"{time.monotonic() - self.began:7.2f} s  ", "dim"), event["type"]]
        progress = event.get("progress")
        if event.get("node_id") is not None:
            node = self._node(str(event["node_id"]), event.get("node_name"))
            took = "" if node.seconds is None else f" ({node.seconds:.2f} s)"
            took = f" {node.note}" if node.status == "paused" else took
            texts.append(f"  {node.name}{took}")
        elif isinstance(progress, (int, float)):
            texts.append(f"  {progress:.0f} %")
        if event.get("error") and event["type"] != "execution:failed":  # The command ends with it.
            texts.append(f"  {event['error']}")
        if event["type"].startswith("stream:"):
            texts.append(f"  {self.note}")
        if event["type"] == "execution:paused" and event.get("reason"):
            texts.append(f"  {event['reason']}")
        self.screen.line(*texts, indent=11)


class LiveRunView(RunView):
    """A picture of the execution, redrawn `FRAMES_PER_SECOND` times a second.

    An event redraws it at once. It fits a terminal that is not tiny. If there are more nodes than
    rows, completed nodes are left out first, and lines count the nodes that are left out.
    """

    def __init__(self, screen: Console) -> None:
        super().__init__(screen)
        # Imported now: an import while drawing would delay the first events.
        from rich.console import Group
        from rich.padding import Padding

        self._group, self._padding = Group, Padding
        screen.bar(1, 0, 1)

        self._stream: Any = None
        self._polled: Mapping[str, Any] = {}
        self._polled_at = self._event_at = 0.0
        self._live = screen.live(self._picture)

    def __enter__(self) -> None:
        """Begin to draw the picture of the execution."""
        self._event_at = time.monotonic()
        self.began: float = self._event_at
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        """Stop drawing. The last picture stays on the screen."""
        self._live.stop()

    def follow(self, stream: Any) -> None:
        """Let the picture show what `stream` learns from polls (`last_seen`), until `end`.

        It shows the status of the execution and, while no events come, how old the last poll is.
        """
        self._stream = stream

    def end(self, execution: EndedExecution, events: Sequence[Mapping[str, Any]]) -> None:
        """Store the end of the execution. `events` are those that its stream has kept.

        Later redraws show this end. They no longer show what the stream has seen by polling
        (`last_seen`).
        """
        super().end(execution, events)
        self._stream = None

    def _draw(self, event: Mapping[str, Any]) -> None:
        self._event_at = time.monotonic()
        self._live.refresh()

    def _picture(self) -> Any:
        now = time.monotonic()
        self._look_at_polls(now)
        columns = max((self.screen.width or 80) - 2, 20)  # Leaves room for the `^C` of a terminal.
        rows = self.screen.terminal.height - 1
        lines: List[Any] = [self._line(columns, *part) for part in self._head(now, columns)]
        foot: List[Any] = []
        if self.progress is not None and self.status not in _ENDED:
            bar = self.screen.bar(100, self.progress, min(columns - 2, 40))
            foot.append(self._padding(bar, (0, 0, 0, 2), expand=False))
        age = self._age(now)
        notes = [(age, "dim"), (self.note, "yellow"), (self.why_no_nodes, "dim")]
        foot += [self._line(columns, note) for note in notes if note[0]]
        nodes = self._shown(max(rows - len(lines) - len(foot), 2))
        lines += [self._line(columns, *parts) for parts in nodes]
        return self._group(*lines, *foot)

    def _look_at_polls(self, now: float) -> None:
        polled: Mapping[str, Any] = {} if self._stream is None else self._stream.last_seen
        if polled and polled is not self._polled:
            self._polled, self._polled_at = polled, now
            status = polled.get("status")
            if isinstance(status, str) and status != "pending" and self.status not in _ENDED:
                self.status = status

    def _age(self, now: float) -> str:
        """Return how old the last poll is, as text; "" while events come, and without a poll."""
        if not self._polled or self._stream is None or now - self._event_at < SHOWS_AGE_AFTER:
            return ""
        return f"checked {now - self._polled_at:.0f} s ago"

    def _head(self, now: float, columns: int) -> List[Tuple[Text, ...]]:
        percent = ""
        if self.progress is not None and self.status not in _ENDED:
            percent = f"  {self.progress:.0f} %"
        took = f"  {self.took or in_short(now - self.began)}"
        status = (self.status, _STYLES.get(self.status, "cyan"))
        name = self.workflow or f"execution {self.execution_id}"
        room = columns - len(self.status) - len(percent) - len(took) - 2
        name = shorten(name, max(room, 8), self.screen.symbols.cut)
        head = ((name, "bold"), "  ", status, percent, (took, "dim"))
        if not self.workflow:
            return [head]
        about = f"execution {self.execution_id}"
        return [head, ((about if len(about) <= columns else self.execution_id, "dim"),)]

    def _shown(self, rows: int) -> List[Tuple[Text, ...]]:
        """Return a line for each node, but at most `rows` lines.

        If there are more nodes, one line counts the oldest completed nodes ("12 done"). If that is
        not enough, a last line counts the other nodes that have no line ("3 more"). With fewer
        than 4 rows, this last line counts the completed nodes, too, in place of the first.
        """
        nodes = list(self.nodes.values())
        if len(nodes) <= rows:
            return [self._node_line(node) for node in nodes]
        kept = [node for node in nodes if node.status != "completed"]
        folded = [node for node in nodes if node.status == "completed"]
        room = rows - len(kept) - 1
        recent = folded[max(len(folded) - room, 0) :] if room > 0 else []
        done = len(folded) - len(recent)
        lines: List[Tuple[Text, ...]] = []
        # More nodes run or failed than there are rows.
        are_too_many = len(kept) + bool(done) > rows
        if done and not (are_too_many and rows < 4):
            lines.append(self._fold(self.screen.symbols.good, "green", f"{done} done"))
        shown = [node for node in nodes if node in kept or any(node is one for one in recent)]
        if are_too_many:
            room = rows - len(lines) - 1
            running = [node for node in kept if node.status != "failed"]
            failed = [node for node in kept if node.status == "failed"]
            failed = failed[: max(room // 2, room - len(running))]
            running = running[: room - len(failed)]
            more = len(kept) - len(failed) - len(running) + (0 if lines else done)
            lines += [self._node_line(node) for node in (*failed, *running)]
            return [*lines, self._fold(self.screen.symbols.running, "cyan", f"{more} more")]
        return [*lines, *(self._node_line(node) for node in shown)]

    def _fold(self, sign: str, style: str, text: str) -> Tuple[Text, ...]:
        return "  ", (sign, style), f" {text}"

    def _node_line(self, node: Node) -> Tuple[Text, ...]:
        symbols = self.screen.symbols
        signs = {"completed": symbols.good, "failed": symbols.bad}
        took = "" if node.seconds is None else f"  {in_short(node.seconds)}"
        if node.status == "started":
            took = f"  {in_short(time.monotonic() - node.began)}"
        note = (f"  {node.note}", "red" if node.status == "failed" else "dim")
        sign = (signs.get(node.status, symbols.running), _STYLES[node.status])
        return (
            "  ",
            sign,
            f" {node.name}",
            (took, "dim"),
            note if node.note else "",
        )

    def _line(self, columns: int, *texts: Text) -> Any:
        line = self.screen.styled(*texts)
        line.no_wrap = True
        line.truncate(columns, overflow="ellipsis" if self.screen.symbols.cut == "…" else "crop")
        return line


def _duration_of(execution: Mapping[str, Any]) -> str:
    """Return how long an execution took, as text; "" if its times are not known.

    Both times are the server's.
    """
    began, ended = (event_time(execution.get(key)) for key in ("started_at", "completed_at"))
    return "" if began is None or ended is None else in_short(max(ended - began, 0.0))


def in_short(seconds: float) -> str:
    """Return a duration as text, such as `0.30 s`, `12 s`, `2 m 40 s` or `3 h 05 m`.

    An `int` has no decimals: 3 is `3 s`.
    """
    whole = int(seconds)
    if seconds < 10 and isinstance(seconds, float):
        return f"{seconds:.2f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


class QuietRunView(RunView):
    """Follows the state of an execution and prints nothing but its id."""

    def __exit__(self, *exc: object) -> None:
        """Print nothing."""

    def _draw(self, event: Mapping[str, Any]) -> None:
        """Print nothing."""


def run_view(*, prints_events: bool = False) -> RunView:
    """Return the best view that standard error allows.

    With `prints_events`, the command writes each event to standard output. If both outputs are
    terminals, the view prints only the execution's id, because the events would interrupt a live
    picture.
    """
    screen = Console(sys.stderr)
    if prints_events and sys.stdout.isatty() and screen.columns is not None:
        return QuietRunView(screen)
    if screen.is_live:
        return LiveRunView(screen)
    return RunView(screen)

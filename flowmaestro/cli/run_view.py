"""An execution on standard error: a line for each event, or with rich a live tree of its nodes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, cast

from flowmaestro import RetryInfo
from flowmaestro.cli.console import Console, RichConsole, Text, console, rich_text
from flowmaestro.types import Execution, ExecutionEvent
from flowmaestro_core.payloads.json_values import LONGEST_NAME
from flowmaestro_core.showing.texts import duration_of, event_time
from flowmaestro_core.showing.timeline import why_no_nodes

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "started": "cyan"}


@dataclass
class Node:
    """One node of a workflow, as its events tell; times in seconds."""

    name: str
    began: float
    status: str = "started"
    seconds: Optional[float] = None
    note: str = ""


class RunView:
    """What is known of one execution; this one prints a line for each event.

    Make it before the execution starts: rich takes a while to load, and events would pass.
    """

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.execution_id = self.note = self.took = self.why_no_nodes = ""
        self.began = self.ahead = 0.0  # `ahead` of our clock is the server's time since 1970
        self.status = "pending"
        self.progress: Optional[float] = None
        self.nodes: Dict[str, Node] = {}

    @property
    def failed(self) -> List[str]:
        """Names of the nodes that failed, in order."""
        return [node.name for node in self.nodes.values() if node.status == "failed"]

    def __enter__(self) -> None:
        """Begin to draw; `execution_id` is known by now."""
        self.began = time.monotonic()

    def __exit__(self, *exc: object) -> None:
        """End the drawing."""
        if self.why_no_nodes:
            took = f"; the execution took {self.took}" if self.took else ""
            self.screen.line(" " * 11, self.why_no_nodes + took, indent=11)

    def end(self, execution: Execution, events: Sequence[Mapping[str, Any]]) -> None:
        """Take in the ended execution and the events that came of it."""
        self.took = duration_of(cast("Mapping[str, Any]", execution)) or ""
        self.why_no_nodes = why_no_nodes(events)

    def show(self, event: ExecutionEvent) -> None:
        """Take in one event, and show it."""
        told = cast("Mapping[str, Any]", event)
        kind, _, what = event["type"].rpartition(":")
        at = event_time(told.get("timestamp"))
        self.ahead = self.ahead if at is None else at - time.monotonic()
        if kind == "node":
            self._take_node(told, what)
        elif kind == "execution":
            self._take(told, what)
        elif event["type"] == "connected":
            self.status = told.get("status") or self.status
        elif kind == "stream":
            self.note = "the connection was lost and resumed"
        self._draw(told)

    def retrying(self, info: RetryInfo) -> None:
        """Something goes out again; that a lost stream did not come back at once is told."""
        said = "the connection is lost; trying again"
        if info.reconnects and info.code is not None and self.note != said:
            self.note = said
            self._draw({"type": "stream:lost"})

    def _take(self, event: Mapping[str, Any], what: str) -> None:
        if what == "progress":
            self.progress = event.get("progress")
        else:
            self.status = {"started": "running", "resumed": "running"}.get(what, what)
        failed = event.get("failed_node_id") or event.get("failed_node")
        if failed is not None:
            self._node(str(failed), event.get("node_name")).status = "failed"

    def _take_node(self, event: Mapping[str, Any], what: str) -> None:
        now = time.monotonic()
        node = self._node(str(event.get("node_id")), event.get("node_name"))
        if what in ("started", "retry"):
            node.status, node.began, node.seconds = "started", now, None
            node.note = f"attempt {event.get('attempt')}" if what == "retry" else node.note
        elif what in ("completed", "failed"):
            took = event.get("duration_ms")
            node.status = what
            node.seconds = took / 1000 if isinstance(took, (int, float)) else now - node.began
            if what == "failed":
                node.note = str(event.get("error") or "")

    def _node(self, node_id: str, name: Any) -> Node:
        short = str(name or node_id)[:LONGEST_NAME]
        return self.nodes.setdefault(node_id, Node(short, time.monotonic()))

    def _draw(self, event: Mapping[str, Any]) -> None:
        texts: List[Text] = [(f"{time.monotonic() - self.began:7.2f} s  ", "dim"), event["type"]]
        progress = event.get("progress")
        if event.get("node_id") is not None:
            node = self.nodes[str(event["node_id"])]
            took = "" if node.seconds is None else f" ({node.seconds:.2f} s)"
            texts.append(f"  {node.name}{took}")
        elif isinstance(progress, (int, float)):
            texts.append(f"  {progress:.0f} %")
        if event.get("error"):
            texts.append(f"  {event['error']}")
        if event["type"].startswith("stream:"):
            texts.append(f"  {self.note}")
        self.screen.line(*texts, indent=11)


class LiveRunView(RunView):
    """Redraws the tree with each event, and its clock four times a second."""

    def __init__(self, screen: RichConsole) -> None:
        super().__init__(screen)
        from rich.live import Live

        self._symbols = screen.symbols
        self._live = Live(get_renderable=self._tree, console=screen.terminal, refresh_per_second=4)

    def __enter__(self) -> None:
        """As `RunView.__enter__`."""
        super().__enter__()
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        """As `RunView.__exit__`; the last picture stays."""
        self._live.stop()

    def _draw(self, event: Mapping[str, Any]) -> None:
        self._live.refresh()

    def _tree(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.tree import Tree

        head: List[Text] = [
            (f"execution {self.execution_id}  ", "bold"),
            (self.status, _STYLES.get(self.status, "cyan")),
            (f"  {self.took or f'{time.monotonic() - self.began:.1f} s'}", "dim"),
        ]
        tree = Tree(rich_text(*head))
        signs = {"completed": self._symbols.good, "failed": self._symbols.bad}
        for node in self.nodes.values():
            took = time.monotonic() - node.began if node.seconds is None else node.seconds
            note = (f"  {node.note}", "dim") if node.note else ""
            sign = signs.get(node.status, self._symbols.running), _STYLES[node.status]
            tree.add(rich_text(sign, f" {node.name}", (f"  {took:.2f} s", "dim"), note))
        if self.progress is not None and self.status == "running":
            tree.add(ProgressBar(total=100, completed=self.progress, width=40))
        for note in filter(None, (self.note, self.why_no_nodes)):
            tree.add(rich_text((note, "yellow")))
        return tree


def run_view() -> RunView:
    """The best view that standard error allows."""
    screen = console(sys.stderr)
    return LiveRunView(screen) if isinstance(screen, RichConsole) else RunView(screen)

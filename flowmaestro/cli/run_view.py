"""An execution on standard error: a line for each event, or with rich a live tree of its nodes."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Any, Dict, Generator, List, Mapping, Optional, cast

from flowmaestro.cli.console import Console, RichConsole, Span, Text, console, rich_text
from flowmaestro.types import ExecutionEvent

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "started": "cyan"}


class Node:
    """One node of a workflow, as its events tell."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.status = "started"
        self.began = now
        self.seconds: Optional[float] = None
        self.note = ""


class RunView:
    """What is known of one execution; this one prints a line for each event."""

    def __init__(self, screen: Console, execution_id: str) -> None:
        self.screen = screen
        self.execution_id = execution_id
        self.began = time.monotonic()
        self.status = "pending"
        self.progress: Optional[float] = None
        self.nodes: Dict[str, Node] = {}
        self.failed: List[str] = []
        """Names of the nodes that failed."""
        self.note = ""

    def show(self, event: ExecutionEvent) -> None:
        """Take in one event, and show it."""
        told = cast("Mapping[str, Any]", event)
        kind, _, what = event["type"].rpartition(":")
        if kind == "node":
            self._take_node(told, what)
        elif kind == "execution":
            self._take(told, what)
        elif event["type"] == "connected":
            self.status = told.get("status") or self.status
        self.note = "the connection was lost and resumed" if kind == "stream" else ""
        self._draw(told)

    def _take(self, event: Mapping[str, Any], what: str) -> None:
        if what == "progress":
            self.progress = event.get("progress")
        else:
            self.status = {"started": "running", "resumed": "running"}.get(what, what)
        failed = self.nodes.get(str(event.get("failed_node_id") or event.get("failed_node")))
        if failed is not None and failed.name not in self.failed:
            self.failed.append(failed.name)

    def _take_node(self, event: Mapping[str, Any], what: str) -> None:
        now = time.monotonic()
        node_id = str(event.get("node_id"))
        node = self.nodes.setdefault(node_id, Node(str(event.get("node_name") or node_id), now))
        if what in ("started", "retry"):
            node.status, node.began, node.seconds = "started", now, None
            node.note = f"attempt {event.get('attempt')}" if what == "retry" else node.note
        elif what in ("completed", "failed"):
            took = event.get("duration_ms")
            node.status = what
            node.seconds = took / 1000 if isinstance(took, (int, float)) else now - node.began
            node.note = str(event.get("error") or "") if what == "failed" else node.note
            if what == "failed":
                self.failed.append(node.name)

    def _draw(self, event: Mapping[str, Any]) -> None:
        texts: List[Text] = [(f"{time.monotonic() - self.began:7.2f} s  ", "dim"), event["type"]]
        progress = event.get("progress")
        if event.get("node_id") is not None:
            node = self.nodes[str(event["node_id"])]
            texts.append(f"  {node.name}")
            if node.seconds is not None:
                texts.append(f" ({node.seconds:.2f} s)")
        elif isinstance(progress, (int, float)):
            texts.append(f"  {progress:.0f} %")
        if event.get("error"):
            texts.append(f"  {event['error']}")
        if self.note:
            texts.append(f"  {self.note}")
        self.screen.line(*texts, indent=11)


class LiveRunView(RunView):
    """Redraws the tree with each event, and its clock four times a second."""

    def __init__(self, screen: RichConsole, execution_id: str) -> None:
        super().__init__(screen, execution_id)
        from rich.live import Live

        self.symbols = screen.symbols
        self.live = Live(get_renderable=self._tree, console=screen.terminal, refresh_per_second=4)

    def _draw(self, event: Mapping[str, Any]) -> None:
        self.live.refresh()

    def _tree(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.tree import Tree

        seconds = time.monotonic() - self.began
        head: List[Text] = [
            (f"execution {self.execution_id}  ", "bold"),
            (self.status, _STYLES.get(self.status, "cyan")),
            (f"  {seconds:.1f} s", "dim"),
        ]
        if self.note:
            head.append((f"  {self.note}", "yellow"))
        tree = Tree(rich_text(*head))
        for node in self.nodes.values():
            took = time.monotonic() - node.began if node.seconds is None else node.seconds
            note = (f"  {node.note}", "dim") if node.note else ""
            tree.add(rich_text(self._sign(node), f" {node.name}", (f"  {took:.2f} s", "dim"), note))
        if self.progress is not None and self.status == "running":
            tree.add(ProgressBar(total=100, completed=self.progress, width=40))
        return tree

    def _sign(self, node: Node) -> Span:
        signs = {"completed": self.symbols.good, "failed": self.symbols.bad}
        return signs.get(node.status, self.symbols.running), _STYLES[node.status]


@contextmanager
def run_view(execution_id: str) -> Generator[RunView, None, None]:
    """The view of one execution while a `with` block lasts."""
    screen = console(sys.stderr)
    if isinstance(screen, RichConsole):
        view = LiveRunView(screen, execution_id)
        with view.live:
            yield view
    else:
        yield RunView(screen, execution_id)

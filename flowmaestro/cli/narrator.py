"""What the demonstration shows of everything that it meets.

The tour (`tour.py`) is ordinary code over a client; every word on the screen is chosen here.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence, cast

from flowmaestro.cli import CommandFailed
from flowmaestro.cli.console import Console, Text
from flowmaestro.cli.session import written
from flowmaestro.errors import FlowMaestroError, WebhookVerificationError
from flowmaestro.types import (
    Execution,
    ExecutionEvent,
    ExecutionStatus,
    KnowledgeBaseResult,
    MessageCompleted,
    Page,
    WebhookEvent,
)

MARGIN = "  "
DETAILS = ("error", "node_name", "node_id", "attempt")
"""What is worth saying of an event, the best first."""
_STYLES = {"completed": "green", "failed": "red", "started": "cyan"}


class Narrator:
    """Tells a tour on one screen; `now` is the transport's clock, in seconds."""

    def __init__(self, screen: Console, now: Callable[[], float]) -> None:
        self._screen = screen
        self._now = now
        self._since = now()

    def step(self, title: str, *calls: str) -> None:
        """Head the next part, and name the client's methods that it shows."""
        self._screen.line()
        sign = self._screen.symbols.step + " "
        self._screen.line(
            (sign, "cyan"), (title, "bold"), (f"  {', '.join(calls)}", "dim"), indent=2
        )
        self._since = self._now()

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._say((text, "dim"))

    def page(self, page: Page[Any], *keys: str) -> None:
        """Show some keys of each row of a page, the first key in front."""
        rows = [[written(row.get(key)) for key in keys] for row in page["data"]]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            first, *others = map(str.ljust, row, widths)
            self._say(first, *(("  " + cell, "dim") for cell in others))
        total = page["pagination"]["total_count"]
        if not rows:
            self.note("none")
        elif total != len(rows):
            self.note(f"{len(rows)} shown of {total}")

    def started(self, execution_id: str) -> None:
        """An execution was started."""
        self._say("execution ", (execution_id, "cyan"), " started")
        self._since = self._now()

    def event(self, event: ExecutionEvent) -> None:
        """An event of an execution came."""
        style = _STYLES.get(event["type"].partition(":")[2], "dim")
        lead = f"{self._now() - self._since:6.2f} s  "
        detail = self._detail(cast("Mapping[str, Any]", event))
        self._say((lead, "dim"), (f"{event['type']:22}", style), detail, indent=len(lead))

    def ended(self, execution: Execution, wanted: ExecutionStatus) -> None:
        """An execution has ended; raises `CommandFailed` if not as it should."""
        status, error = execution["status"], execution["error"]
        if status != wanted:
            raise CommandFailed(f"execution {execution['id']} is {status}, not {wanted}: {error}")
        if status == "completed":
            self._good(written(execution["outputs"]))
        else:
            self._bad(f"{status}: {error}")

    def asked(self, question: str) -> None:
        """The user said something to an agent."""
        self._say(("you   ", "dim"), question)

    def token(self, token: str) -> None:
        """A piece of the agent's answer came."""
        self._screen.stream(token, MARGIN + "agent ")

    def answered(self, event: MessageCompleted) -> None:
        """The answer is whole."""
        self._screen.end_stream(len(MARGIN + "agent "))
        usage = cast("Mapping[str, Any]", event.get("usage") or {})
        total = usage.get("total_tokens")
        said = "this server does not say how many tokens" if total is None else f"{total} tokens"
        self._good(f"answered; {said}")

    def hits(self, question: str, results: Sequence[KnowledgeBaseResult]) -> None:
        """A knowledge base was asked."""
        self._say(("query ", "dim"), question)
        for result in cast("Sequence[Mapping[str, Any]]", results):
            self._say(f"{result['similarity'] or 0.0:.3f}  ", written(result["document_name"]))
            self._say((" " * 7 + written(result["content"]), "dim"), indent=7)
        if not results:
            self.note("nothing found")

    def verified(self, event: WebhookEvent) -> None:
        """A webhook delivery is authentic."""
        about = f"{event['event']}, execution {event['data'].get('execution_id')}"
        self._good(f"delivery verified: {about}")

    def refused(self, what: str, error: WebhookVerificationError) -> None:
        """A webhook delivery is not authentic."""
        self._bad(f"{what} refused: {error.message}")

    def raised(self, error: FlowMaestroError) -> None:
        """A call raised an error, as it should."""
        self._bad(f"{type(error).__name__}: {error}")

    def _say(self, *texts: Text, indent: int = 0) -> None:
        self._screen.line(MARGIN, *texts, indent=len(MARGIN) + indent)

    def _good(self, text: str) -> None:
        self._say((self._screen.symbols.good + " ", "green"), text, indent=2)

    def _bad(self, text: str) -> None:
        self._say((self._screen.symbols.bad + " ", "red"), text, indent=2)

    def _detail(self, event: Mapping[str, Any]) -> str:
        """What there is to say of an event beside its type."""
        progress = event.get("progress")
        if isinstance(progress, (int, float)):
            return f"{progress:3.0f} %"
        known = ("status",) if event["type"] == "connected" else DETAILS
        return next((str(event[key]) for key in known if event.get(key) is not None), "")

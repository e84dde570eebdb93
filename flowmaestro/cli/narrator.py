"""What the demonstration shows of everything that it meets.

The tours (`blocking_tour.py`, `awaiting_tour.py`) are ordinary code over a client; every word on
the screen is chosen here.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Callable, Generator, Mapping, Optional, Sequence, Tuple, cast

from flowmaestro.cli import CommandFailed
from flowmaestro.cli.screen import Flow, Screen, Span, Text, bold, columns, cyan, dim, green, red
from flowmaestro.errors import AuthorizationError, FlowMaestroError, WebhookVerificationError
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
METER = 10
"""Columns of a meter for something between 0 and 1."""


class Narrator:
    """Tells a tour on one screen; `now` is the transport's clock, in seconds."""

    def __init__(self, screen: Screen, now: Callable[[], float]) -> None:
        self._screen = screen
        self._now = now
        self._since = now()
        self._answer: Optional[Flow] = None

    def step(self, title: str, *calls: str) -> None:
        """Head the next part, and name the client's methods that it shows."""
        self._screen.line()
        self._screen.line(
            cyan(self._screen.symbols.step), " ", bold(title), "  ", dim(", ".join(calls))
        )
        self._since = self._now()

    @contextmanager
    def allowed_step(self, title: str, *calls: str) -> Generator[None, None, None]:
        """A part that the key may not be good for; that is then said, and no failure."""
        self.step(title, *calls)
        try:
            yield
        except AuthorizationError as error:
            self._say(red("not with this key: "), error.message)

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._screen.paragraph([MARGIN], dim(text))

    def page(self, page: Page[Any], *keys: str) -> None:
        """Show some keys of each row of a page, the first key in front."""
        rows = [[_written(row.get(key)) for key in keys] for row in page["data"]]
        widths = [max(columns(cell) for cell in column) for column in zip(*rows)]
        for row in rows:
            first, *others = map(_padded, row, [*widths[:-1], 0])
            self._say(first, *(dim("  " + cell) for cell in others))
        total = page["pagination"]["total_count"]
        if not rows:
            self.note("none")
        elif total != len(rows):
            self.note(f"{len(rows)} shown of {total}")

    def about(self, resource: Mapping[str, Any], *keys: str) -> None:
        """Show some keys of one resource, a line each; those that have no value are left out."""
        known = [key for key in keys if resource.get(key) is not None]
        width = max(map(columns, known), default=0)
        for key in known:
            self._say(dim(_padded(key, width) + "  "), _written(resource[key]))

    def started(self, execution_id: str) -> None:
        """An execution was started."""
        self._say("execution ", cyan(execution_id), " started")
        self._since = self._now()

    def event(self, event: ExecutionEvent) -> None:
        """An event of an execution came."""
        _, _, what = event["type"].partition(":")
        paint = {"completed": green, "failed": red, "started": cyan}.get(what, dim)
        detail = self._detail(cast("Mapping[str, Any]", event))
        self._say(
            dim(f"{self._now() - self._since:6.2f} s  "),
            paint(_padded(event["type"], 22 if detail else 0)),
            *detail,
        )

    def ended(self, execution: Execution, wanted: ExecutionStatus) -> None:
        """An execution has ended; raises `CommandFailed` if not as it should."""
        status, error = execution["status"], execution["error"]
        if status != wanted:
            raise CommandFailed(f"execution {execution['id']} is {status}, not {wanted}: {error}")
        if status == "completed":
            result = _written(execution["outputs"])
            self._verdict(green, self._screen.symbols.good, result)
        else:
            self._verdict(red, self._screen.symbols.bad, f"{status}: {error}")

    def asked(self, question: str) -> None:
        """The user said something to an agent."""
        self._say(dim("you   "), question)

    def token(self, token: str) -> None:
        """A piece of the agent's answer came."""
        if self._answer is None:
            self._answer = self._screen.flow([MARGIN, dim("agent ")])
        self._answer.add(token)

    def answered(self, event: MessageCompleted) -> None:
        """The answer is whole."""
        if self._answer is not None:
            self._answer.end()
            self._answer = None
        usage = cast("Mapping[str, Any]", event.get("usage") or {})
        total = usage.get("total_tokens")
        said = "this server does not say how many tokens" if total is None else f"{total} tokens"
        self._verdict(green, self._screen.symbols.good, f"answered; {said}")

    def hits(self, question: str, results: Sequence[KnowledgeBaseResult]) -> None:
        """A knowledge base was asked."""
        self._say(dim("query "), question)
        for result in cast("Sequence[Mapping[str, Any]]", results):
            similarity = result["similarity"] or 0.0
            document = _written(result["document_name"])
            self._say(f"{similarity:.3f}", *self._meter(similarity), "  ", document)
            self._screen.paragraph([MARGIN + " " * 7], dim(_written(result["content"])))
        if not results:
            self.note("nothing found")

    def verified(self, event: WebhookEvent) -> None:
        """A webhook delivery is authentic."""
        about = f"{event['event']}, execution {event['data'].get('execution_id')}"
        self._verdict(green, self._screen.symbols.good, f"delivery verified: {about}")

    def refused(self, what: str, error: WebhookVerificationError) -> None:
        """A webhook delivery is not authentic."""
        self._verdict(red, self._screen.symbols.bad, f"{what} refused: {error.message}")

    def raised(self, error: FlowMaestroError) -> None:
        """A call raised an error, as it should."""
        self._verdict(red, self._screen.symbols.bad, f"{type(error).__name__}: {error}")

    def _say(self, *texts: Text) -> None:
        self._screen.line(MARGIN, *texts)

    def _verdict(self, paint: Callable[[str], Span], symbol: str, text: str) -> None:
        self._screen.paragraph([MARGIN, paint(symbol + " ")], text)

    def _detail(self, event: Mapping[str, Any]) -> Sequence[Text]:
        """What there is to say of an event beside its type."""
        progress = event.get("progress")
        if isinstance(progress, (int, float)):
            return (f"{progress:3.0f} %", *self._meter(progress / 100))
        known = ("status",) if event["type"] == "connected" else DETAILS
        for key in known:
            if event.get(key) is not None:
                return (str(event[key]),)
        return ()

    def _meter(self, value: float) -> Tuple[Text, ...]:
        """A meter, where the screen has signs for one."""
        if not self._screen.coloured:
            return ()
        full = round(METER * min(max(value, 0.0), 1.0))
        symbols = self._screen.symbols
        return ("  ", cyan(symbols.full * full), dim(symbols.empty * (METER - full)))


def _written(value: Any) -> str:
    """A value as it is read most easily."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))

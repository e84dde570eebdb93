"""A server that lists executions, for machines that wait for many: each answer in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import parse_qs, urlsplit

from flowmaestro_core.actions import Done, Fail, Send
from tests.harness.core.stepping import Stepper, an_envelope

BEGUN = 1000.0
"""When a `Stepper` begins."""


def iso(seconds: float) -> str:
    """A time of the virtual clock as the server writes it."""
    at = int(seconds)
    return f"2026-01-01T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}.{seconds % 1 * 1e6:06.0f}Z"


@dataclass
class Known:
    """One execution of the server."""

    id: str
    workflow_id: str
    created_at: float
    ends_at: float
    status: str = "completed"

    def entry(self, now: float) -> Dict[str, Any]:
        """What a list shows of it at `now`."""
        has_ended = now >= self.ends_at
        return {
            "id": self.id,
            "workflow_id": self.workflow_id,
            "status": self.status if has_ended else "running",
            "inputs": {},
            "outputs": {"of": self.id} if has_ended else None,
            "error": None,
            "created_at": iso(self.created_at),
            "completed_at": iso(self.ends_at) if has_ended else None,
        }


@dataclass
class ListingServer:
    """Answers starts, polls and pages as the deployed server does.

    `takes` says how long an execution takes, by its number. `entries` may change what a page shows,
    and `refuses` returns the status of a page that fails, or None.
    """

    takes: Callable[[int], float] = lambda _: 10.0
    entries: Callable[[List[Any]], List[Any]] = lambda entries: entries
    refuses: Callable[[int, int], Optional[int]] = lambda page, size: None
    shows_workflow: bool = True
    executions: List[Known] = field(default_factory=list)
    asked: List[str] = field(default_factory=list)
    """The requests: `start`, `list PAGE SIZE`, or the id of the execution that is polled."""

    def add(self, workflow_id: str = "wf_1", *, ends: float, id: str = "") -> str:
        """Add an execution that was not started by the machine; its id."""
        known = Known(id or f"ex_{len(self.executions)}", workflow_id, BEGUN, BEGUN + ends)
        self.executions.append(known)
        return known.id

    def answer(self, stepper: Stepper, after: float = 0.0) -> None:
        """Answer the request in flight."""
        assert isinstance(stepper.action, Send)
        request, now = stepper.action.request, stepper.now + after
        url = urlsplit(request.url)
        if request.method == "POST":
            self.asked.append("start")
            number = len(self.executions)
            found = Known(f"ex_{number}", "wf_1", now, now + self.takes(number))
            self.executions.append(found)
            stepper.replies(202, an_envelope({"execution_id": found.id}), after=after)
        elif url.query:
            query = {key: value for key, (value,) in parse_qs(url.query).items()}
            page, size = int(query["page"]), int(query["per_page"])
            self.asked.append(f"list {page} {size}")
            refusal = self.refuses(page, size)
            if refusal is not None:
                stepper.replies(refusal, after=after)
                return
            mine = [one for one in self.executions if one.workflow_id == query["workflow_id"]]
            newest = mine[::-1]
            rows = [one.entry(now) for one in newest[(page - 1) * size : page * size]]
            pagination = {"page": page, "per_page": size, "has_next": page * size < len(mine)}
            body = {"data": self.entries(rows), "pagination": pagination}
            stepper.replies(200, body, after=after)
        else:
            id = url.path.rpartition("/")[2]
            self.asked.append(id)
            (found,) = (one for one in self.executions if one.id == id)
            data = found.entry(now)
            if not self.shows_workflow:
                del data["workflow_id"]
            stepper.replies(200, an_envelope(data), after=after)

    def play(self, stepper: Stepper, *, until: float = 1e9, after: float = 0.0) -> Stepper:
        """Answer everything until the machine ends, or until so many seconds have passed."""
        for _ in range(100_000):
            if isinstance(stepper.action, (Done, Fail)) or stepper.now > BEGUN + until:
                return stepper
            if isinstance(stepper.action, Send):
                self.answer(stepper, after)
            else:
                stepper.idles()
        raise AssertionError("there is no end")

    @property
    def lists(self) -> List[str]:
        """The pages that were requested."""
        return [asked for asked in self.asked if asked.startswith("list")]

    @property
    def polls(self) -> List[str]:
        """The single polls that were made."""
        return [asked for asked in self.asked if not asked.startswith(("list", "start"))]

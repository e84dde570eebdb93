"""What the server really did: the fake keeps a ledger of every request that reached it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from flowmaestro.testing import FakeFlowMaestro, FakeReply
from flowmaestro_core.http.messages import Headers, Request

API_ROOT = "/api/v1"

ONCE = ("/execute", "/messages", "/threads", "/webhooks", "/test")
"""Ends of the paths to which a POST must not come twice."""


@dataclass
class Entry:
    """One request that reached the server, and how it was answered."""

    method: str
    path: str
    key: Optional[str]
    reply: FakeReply

    @property
    def acted(self) -> bool:
        """Whether the server did what it was asked."""
        reply = self.reply
        return not reply.ready or reply.status < 300 or reply.status == 408

    @property
    def body(self) -> Any:
        """What the server sent, decoded; `None` for nothing, or events."""
        return json.loads(self.reply.body) if self.reply.body else None

    @property
    def harms_twice(self) -> bool:
        """Whether doing this a second time would do harm."""
        return self.method == "POST" and self.path.endswith(ONCE)


class LedgerFake(FakeFlowMaestro):
    """A FlowMaestro that notes what it was asked: requests in `entries`, messages in `heard`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entries: List[Entry] = []
        self.heard: Counter[str] = Counter()

    def handle(self, request: Request, now: float) -> FakeReply:
        reply = super().handle(request, now)
        path = urlsplit(request.url).path.removeprefix(API_ROOT)
        key = request.headers.get("idempotency-key")
        self.entries.append(Entry(request.method, path, key, reply))
        return reply

    def reply_to(self, text: str) -> str:
        """The answer of an agent whose messages are counted."""
        self.heard[text] += 1
        return answer_to(text)

    def ask(self, path: str) -> Any:
        """What a GET of `path` is answered now, beside the ledger."""
        url = f"http://localhost{API_ROOT}{path}"
        request = Request("GET", url, Headers({"X-API-Key": self.api_key}))
        return json.loads(super().handle(request, self.now).body)


def answer_to(text: str) -> str:
    """What the agent says to `text`."""
    return f"You said: {text} " + "and so on " * 20


class Ledger:
    """The ledger after the last operation, with everything looked up by what a caller knows."""

    def __init__(self, fake: LedgerFake) -> None:
        self.entries = fake.entries
        self.heard = fake.heard
        self.executions = {execution.id: execution for execution in fake.executions}
        self.workflows = [row["id"] for row in fake.ask("/workflows?per_page=100")["data"]]
        self.starts = Counter(_mark(row) for row in self.executions.values())
        self._by_request_id: Dict[str, Entry] = {}
        for entry in self.entries:
            if entry.reply.ready:
                self._by_request_id[entry.reply.headers.get("x-request-id", "")] = entry
                meta = (entry.body or {}).get("meta") or {}
                self._by_request_id[meta.get("request_id", "")] = entry

    def entry_of(self, request_id: Optional[str]) -> Optional[Entry]:
        """The entry of the reply with this id."""
        return self._by_request_id.get(request_id or "-")

    def acted(self, method: str, path: str) -> List[Entry]:
        """The entries in which the server did `method` to `path`."""
        return [
            entry
            for entry in self.entries
            if (entry.method, entry.path) == (method, path) and entry.acted
        ]

    def acted_on(self, key: Optional[str]) -> bool:
        """Whether the server did what came under this idempotency key."""
        return key is not None and any(one.acted for one in self.entries if one.key == key)

    def doubled(self) -> List[str]:
        """What was done twice: under one idempotency key, or with the mark of one operation."""
        keys = Counter(entry.key for entry in self.entries if entry.harms_twice and entry.acted)
        return [
            *(f"key {key}: done {count} times" for key, count in keys.items() if count > 1),
            *_more_than_once("execution of", self.starts),
            *_more_than_once("message", self.heard),
        ]


def _more_than_once(what: str, counted: Counter[str]) -> List[str]:
    return [f"{what} {mark!r}: {count} times" for mark, count in counted.items() if count > 1]


def _mark(execution: Any) -> str:
    """Whose execution it is; those that were there before have their own id."""
    return str(execution.inputs.get("mark") or execution.id)

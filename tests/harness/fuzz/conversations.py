"""Conversations with the API as bytes: the replies to every operation, recorded and stepped.

A conversation is the replies that a machine gets one after another, each a status, header lines,
an empty line and a body. Bytes are read back without complaint, whatever they have become.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.cassettes.recorder import Recording, RecordingTransport
from flowmaestro_core.actions import Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.http.messages import Headers, Phase, Request, Response, ResponseHead
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_core.resources import (
    Agents,
    Executions,
    KnowledgeBases,
    Threads,
    Triggers,
    Webhooks,
    Workflows,
)
from flowmaestro_core.streams.events import EXECUTION_TERMINAL, MESSAGE_TERMINAL
from flowmaestro_core.types.resources import WebhookEventType
from tests.harness.core.stepping import Report, Stepper, a_context, a_failure
from tests.harness.fuzz.mutations import SEPARATOR

MOST_STEPS = 5_000
"""More than any conversation takes that comes to an end."""

WORLDS: List[Dict[str, Any]] = [
    {"shapes": "documented", "messages": "sse"},
    {"shapes": "deployed", "events": "silent", "messages": "refused"},
    {"shapes": "deployed", "messages": "sse"},
]

_PAGE: Dict[str, Any] = {"page": 1, "per_page": 2}
_EVENTS: List[WebhookEventType] = ["execution.failed"]
_HOOK = "https://hooks.example.com/fuzz"

OPERATIONS: Dict[str, Callable[[], Operation[Any, Any]]] = {
    "workflows.list": partial(Workflows.list, **_PAGE),
    "workflows.iterate": partial(Workflows.iterate, per_page=2),
    "workflows.get": partial(Workflows.get, "wf_123"),
    "workflows.execute": partial(Workflows.execute, "wf_123", inputs={"name": "Ada"}),
    "workflows.run": partial(Workflows.run, "wf_123", {"name": "Ada"}, None, 20.0),
    "workflows.run_many": partial(Workflows.run_many, "wf_123", [{}, {}], timeout=5.0),
    "executions.list": partial(Executions.list, **_PAGE),
    "executions.iterate": partial(Executions.iterate, per_page=9, workflow_id="wf_123"),
    "executions.get": partial(Executions.get, "exec_xyz789"),
    "executions.cancel": partial(Executions.cancel, "exec_xyz789"),
    "executions.wait_for_completion": partial(
        Executions.wait_for_completion, "exec_xyz789", timeout=10.0
    ),
    "executions.wait_many": partial(Executions.wait_many, ["exec_xyz789", "no"], timeout=5.0),
    "executions.stream": partial(Executions.stream, "exec_xyz789"),
    "agents.list": partial(Agents.list, **_PAGE),
    "agents.get": partial(Agents.get, "agent_abc123"),
    "agents.create_thread": partial(Agents.create_thread, "agent_abc123", metadata={"a": 1}),
    "agents.list_memory": partial(Agents.list_memory, "agent_abc123", **_PAGE),
    "agents.get_memory": partial(Agents.get_memory, "agent_abc123", "user_456"),
    "agents.update_memory": partial(
        Agents.update_memory, "agent_abc123", "user_456", working_memory="Likes tea."
    ),
    "agents.search_memory": partial(Agents.search_memory, "agent_abc123", "bicycle"),
    "agents.memory_stats": partial(Agents.memory_stats, "agent_abc123"),
    "agents.delete_memory": partial(Agents.delete_memory, "agent_abc123", "user_789"),
    "threads.get": partial(Threads.get, "thread_xyz789"),
    "threads.list_messages": partial(Threads.list_messages, "thread_xyz789"),
    "threads.iterate_messages": partial(Threads.iterate_messages, "thread_xyz789", per_page=1),
    "threads.send_message": partial(Threads.send_message, "thread_xyz789", "Tell me a story"),
    "threads.send_message_stream": partial(
        Threads.send_message_stream, "thread_xyz789", "Tell me a story"
    ),
    "threads.delete": partial(Threads.delete, "thread_xyz789"),
    "triggers.list": partial(Triggers.list, workflow_id="wf_abc123"),
    "triggers.execute": partial(Triggers.execute, "trigger_abc123", inputs={"a": 1}),
    "knowledge_bases.list": partial(KnowledgeBases.list, **_PAGE),
    "knowledge_bases.get": partial(KnowledgeBases.get, "kb_abc123"),
    "knowledge_bases.query": partial(KnowledgeBases.query, "kb_abc123", "reset password"),
    "webhooks.create": partial(Webhooks.create, name="Fuzz", url=_HOOK, events=_EVENTS),
    "webhooks.list": partial(Webhooks.list, **_PAGE),
    "webhooks.get": partial(Webhooks.get, "wh_abc123"),
    "webhooks.update": partial(Webhooks.update, "wh_abc123", name="Fuzz 2"),
    "webhooks.test": partial(Webhooks.test, "wh_abc123"),
    "webhooks.list_deliveries": partial(Webhooks.list_deliveries, "wh_abc123"),
    "webhooks.delete": partial(Webhooks.delete, "wh_abc123"),
    "not found": partial(Workflows.get, "wf_none"),
}

_TERMINAL: Dict[str, FrozenSet[str]] = {
    "executions.stream": EXECUTION_TERMINAL,
    "threads.send_message_stream": MESSAGE_TERMINAL,
}


def recorded() -> Dict[str, List[bytes]]:
    """The conversations of every operation, in each world. The same each time."""
    corpus: Dict[str, List[bytes]] = {name: [] for name in OPERATIONS}
    for world in WORLDS:
        fake = FakeFlowMaestro(**world)
        for name, build in OPERATIONS.items():
            recording = Recording()
            transport = RecordingTransport(MemoryTransport(fake), recording)
            client = FlowMaestroClient(api_key=fake.api_key, transport=transport)
            operation = build()
            perform = client._executor.iterate if _iterates(name) else client._executor.perform
            with suppress(FlowMaestroError):
                value = perform(operation)
                if _iterates(name):
                    list(value)
            corpus[name].append(SEPARATOR.join(map(_reply, recording.exchanges())))
    return corpus


def _reply(exchange: RecordedExchange) -> bytes:
    head = next(step for step in exchange.steps if isinstance(step, ResponseHead))
    lines = "".join(f"{name}: {value}\n" for name, value in head.headers.pairs)
    body = b"".join(step for step in exchange.steps if isinstance(step, bytes))
    return f"{head.status}\n{lines}\n".encode("latin-1") + body


def _iterates(name: str) -> bool:
    return name.partition(".")[2] in {
        *("iterate", "iterate_messages", "run_many", "wait_many", "stream", "send_message_stream"),
    }


class Reply(NamedTuple):
    """One reply of a conversation, as far as the bytes make sense."""

    status: int
    headers: Headers
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> Reply:
        head, _, body = data.partition(b"\n\n")
        first, *lines = head.split(b"\n")
        status = int(first) if first.isdigit() and len(first) == 3 else 200
        fields = [line.decode("latin-1").partition(":") for line in lines if b":" in line]
        return cls(status, Headers([(name, value.strip()) for name, _, value in fields]), body)

    @property
    def pieces(self) -> List[bytes]:
        """The body in pieces, of sizes that follow from it."""
        size = max(1 + sum(self.body[:50]) % 300, len(self.body) // 300)
        return [self.body[at : at + size] for at in range(0, len(self.body), size)]


def step(name: str, data: bytes) -> str:
    """Have the operation's machine converse; what it came to. Raises if it did what it must not."""
    operation = OPERATIONS[name]()
    once = partial(_must_not_be_repeated, operation)
    machine = machine_for(operation, a_context(), "token")
    stepper = Stepper(machine, once=once, terminal=_TERMINAL.get(name))
    replies = [Reply.read(part) for part in data.split(SEPARATOR)]
    _converse(stepper, list(reversed(replies)))
    if isinstance(stepper.action, Fail):
        return type(stepper.action.error).__name__
    assert stepper.terminal is None or stepper.ended_by is not None, "an end without a last event"
    if isinstance(operation, Call):
        _check_reply(stepper.value)
    return "done"


def _check_reply(reply: Any) -> None:
    """A reply is JSON still, and can be asked what came with it."""
    json.dumps(reply)
    assert reply.attempts >= 1
    assert reply.request_id is None or isinstance(reply.request_id, str)
    assert reply.rate_limit.remaining is None or reply.rate_limit.remaining >= 0


def _must_not_be_repeated(operation: Operation[Any, Any], request: Request) -> bool:
    if isinstance(operation, Call):
        return not operation.repeatable
    return request.method == "POST" and not isinstance(operation, Batch)


def _converse(stepper: Stepper, replies: List[Reply]) -> None:
    pieces: List[bytes] = []
    ends_well = True
    action: Any = stepper.start()
    for _ in range(MOST_STEPS):
        if isinstance(action, (Done, Fail)):
            return
        if isinstance(action, Send):
            if not replies:
                action = stepper.fails(Phase.REPLY_BROKEN, after=0.1)
                continue
            action = stepper.report(Report("response_received", (Response(*replies.pop()),), 0.1))
        elif isinstance(action, Open):
            if not replies:
                action = stepper.fails(Phase.MAYBE_PROCESSED, after=0.1)
                continue
            reply = replies.pop()
            pieces, ends_well = list(reversed(reply.pieces)), len(reply.body) % 2 == 0
            head = ResponseHead(reply.status, reply.headers)
            action = stepper.report(Report("stream_opened", (head,), 0.1))
        elif isinstance(action, Read):
            if pieces:
                action = stepper.receives(pieces.pop())
            elif ends_well:
                action = stepper.ends()
            else:
                broken = a_failure(Phase.REPLY_BROKEN)
                action = stepper.report(Report("transport_failed", (broken,), 0.0))
        elif isinstance(action, Close):
            action = stepper.closes()
        elif isinstance(action, Wait):
            action = stepper.waits()
        else:
            assert isinstance(action, Emit)
            action = stepper.takes()
    raise AssertionError(f"no end after {MOST_STEPS} steps")

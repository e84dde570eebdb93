"""Conversations with the API as bytes: the replies to every operation, recorded and stepped.

A conversation is the replies that a machine gets one after another, each a status, header lines,
an empty line and a body. Bytes are read back without complaint, whatever they have become.
"""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Tuple

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.cassettes.recorder import Recording, RecordingTransport
from flowmaestro_core import resources
from flowmaestro_core.actions import Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.http.messages import Headers, Phase, Request, Response, ResponseHead
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_core.streams.events import EXECUTION_TERMINAL, MESSAGE_TERMINAL
from tests.harness.core.stepping import Report, Stepper, a_context, a_failure
from tests.harness.fuzz.mutations import SEPARATOR

MOST_STEPS = 5_000
"""More than any conversation takes that comes to an end."""

WORLDS: List[Dict[str, Any]] = [
    {"shapes": "documented", "messages": "sse"},
    {"shapes": "deployed", "events": "silent", "messages": "refused"},
    {"shapes": "deployed", "messages": "sse"},
]

_GIVEN: Dict[str, Any] = {
    "workflow_id": "wf_123",
    "execution_id": "exec_xyz789",
    "execution_ids": ["exec_xyz789", "no"],
    "agent_id": "agent_abc123",
    "user_id": "user_456",
    "thread_id": "thread_xyz789",
    "trigger_id": "trigger_abc123",
    "knowledge_base_id": "kb_abc123",
    "webhook_id": "wh_abc123",
    "inputs": {"name": "Ada"},
    "metadata": {"a": 1},
    "working_memory": "Likes tea.",
    "query": "bicycle",
    "content": "Tell me a story",
    "name": "Fuzz",
    "url": "https://hooks.example.com/fuzz",
    "events": ["execution.failed"],
    "page": 1,
    "per_page": 2,
    "timeout": 10.0,
}
"""What each parameter of this name is given."""


def _operations() -> Iterator[Tuple[str, Callable[[], Operation[Any, Any]]]]:
    for each in resources.__all__:
        resource = getattr(resources, each)
        methods = [name for name in vars(resource) if not name.startswith("_")]
        for method in sorted(methods, key=lambda name: name.startswith("delete")):
            if (each, method) == ("Threads", "stream"):
                continue  # It never ends.
            build = getattr(resource, method)
            defaults = {name: p.default for name, p in inspect.signature(build).parameters.items()}
            given = {name: _GIVEN[name] for name in defaults if name in _GIVEN}
            if defaults.get("timeout", 0) is None:
                del given["timeout"]  # A stream has none.
            if method == "run_many":
                given["inputs"] = [{}, {}]
            yield f"{each.lower()}.{method}", partial(build, **given)
    yield "not found", partial(resources.Workflows.get, "wf_none")


OPERATIONS = dict(_operations())

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
    method = name.partition(".")[2]
    return method.startswith("iterate") or method.endswith(("_many", "stream"))


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


class Target(NamedTuple):
    """What is fed, and the valid inputs that mutations begin with."""

    name: str
    feed: Callable[[bytes], str]
    corpus: Sequence[bytes]


def core_targets() -> Dict[str, Target]:
    """The machine of every operation."""
    return {
        f"core {name}": Target(f"core {name}", partial(converse, name, corpus), corpus)
        for name, corpus in recorded().items()
    }


def is_cut_short(data: bytes, corpus: Sequence[bytes]) -> bool:
    """Whether `data` is the beginning of a valid input, and not itself one."""
    return data not in corpus and any(valid.startswith(data) for valid in corpus)


def converse(name: str, corpus: Sequence[bytes], data: bytes) -> str:
    outcome = step(name, data)
    if outcome == "done" and isinstance(OPERATIONS[name](), Call) and is_cut_short(data, corpus):
        assert not Reply.read(data).body, "a reply that was cut short passed for a whole one"
    return outcome


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

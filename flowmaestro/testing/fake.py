"""`FakeFlowMaestro`: the whole service as one pure model, a request and a time in, a reply out.

No sockets, clocks or dice here: a driver brings requests and says what time it is, and carries
out the webhook deliveries that are due. `memory.py` drives it on a virtual clock, `server.py`
over real sockets.
"""

from __future__ import annotations

import copy
import json
import random
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import (
    Any,
    Callable,
    Generator,
    Iterable,
    List,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
    get_args,
)
from urllib.parse import urlsplit

from flowmaestro.testing.assertions import Assertions
from flowmaestro.testing.checks import check_count, check_number, check_text, one_of, several
from flowmaestro.testing.clock import VirtualClock
from flowmaestro.testing.deployed import Deployed
from flowmaestro.testing.dialect import Dialect, Events, MessageAnswers, Shapes
from flowmaestro.testing.documented import Documented
from flowmaestro.testing.endpoints import ROUTES
from flowmaestro.testing.executions import Execution
from flowmaestro.testing.faults import Fault, Faults
from flowmaestro.testing.journal import Entry, Journal, RecordedRequest, path_below_root
from flowmaestro.testing.keys import ALL_SCOPES, ApiKey, KeyRing, KeyState
from flowmaestro.testing.refusals import Refusal, invalid
from flowmaestro.testing.replies import Answer, EventStream, FakeReply, JsonObject, Later, encode
from flowmaestro.testing.routing import Call, Outcome, Router, query_of
from flowmaestro.testing.scripting import Scripts, UnusedScriptWarning
from flowmaestro.testing.seeds import furnish
from flowmaestro.testing.service import Service
from flowmaestro.testing.timeline import Timeline
from flowmaestro.testing.webhooks import Delivery
from flowmaestro_core.http import Headers, Request
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.stand_in import standing_in

MAX_BODY_BYTES = 1024 * 1024
TEST_EPOCH = 1_700_000_000.0
"""The wall clock at the start, in Unix seconds, unless a driver brings a real one."""

HeaderPairs = List[Tuple[str, str]]
F = TypeVar("F", bound="FakeFlowMaestro")


class FakeFlowMaestro(Scripts, Assertions):
    """An embedded FlowMaestro.

    `shapes` is the description of the API that it follows: the server that answers today, or
    the published reference. With `events="silent"` an execution's stream says nothing but
    `connected` and keepalives, as happens on the deployed server. `messages` says how a message
    sent with `"stream": true` is answered; by default token by token where a test scripted the
    agent, otherwise as the description has it (the server of today refuses to stream).

    Ids and secrets come from `seed`; timestamps from `epoch` (Unix seconds) and the driver's
    clock. The limits are each key's, in fixed windows. In memory its time is that of `clock`.

    It holds resources to try things on, among them every id that the documentation names;
    `api_key` is a key that may do everything. Close it at the end of a test, or use it in a
    `with` block, to hear of scripts that were never used: with `strict` as an error.

    Safe to use from several threads; a driver that needs several steps to be one holds `lock`,
    which may be taken again by its holder.
    """

    def __init__(
        self,
        shapes: Shapes = "deployed",
        events: Events = "live",
        *,
        messages: Optional[MessageAnswers] = None,
        seed: int = 0,
        epoch: float = TEST_EPOCH,
        rate_limit_per_minute: int = 6_000,
        rate_limit_per_day: int = 1_000_000,
        strict: bool = False,
    ) -> None:
        super().__init__()
        check_number("epoch", epoch)
        self.seed = seed
        self._strict = strict
        self._timeline = Timeline(epoch)
        self._journal = Journal()
        self._faults = Faults()
        self.clock = VirtualClock(world=self)
        self._dialect = _dialect(shapes, self._timeline)
        self._service = Service(
            self._timeline,
            self._dialect,
            random.Random(seed),  # noqa: S311 - repeatable on purpose
            live=one_of("events", events, ("live", "silent")) == "live",
            message_answers=(
                None if messages is None else one_of("messages", messages, get_args(MessageAnswers))
            ),
        )
        check_count("rate_limit_per_minute", rate_limit_per_minute)
        check_count("rate_limit_per_day", rate_limit_per_day)
        self._keys = KeyRing(
            rate_limit_per_minute,
            rate_limit_per_day,
            accepts_test_keys=self._dialect.accepts_test_keys,
        )
        self._router = Router(ROUTES)
        self.api_key = self.add_key()
        furnish(self._service, self._keys)

    def __repr__(self) -> str:
        return f"<FakeFlowMaestro {type(self._dialect).__name__.lower()}>"

    # What a driver calls.

    @property
    def lock(self) -> threading.RLock:
        """Held while anything here changes."""
        return self._timeline.lock

    def handle(self, request: Request, now: float) -> FakeReply:
        """Take one request at `now`, in seconds of the driver's monotonic clock.

        The world begins with the first one. The reply may become ready only later: see
        `FakeReply`.
        """
        with self.lock:
            self._timeline.begin(now)
            request_id = self._dialect.request_id(self._service.new_id())
            gateway_id = request.headers.get("x-request-id") or self._service.new_id()
            entry = self._journal.note(request, self._timeline.now)
            path = path_below_root(request.url)
            fault = self._faults.meet(request.method, path, stream=False)
            reply = FakeReply()
            headers: HeaderPairs = []

            def settle(answer: Union[Answer, Refusal]) -> None:
                pairs = [("X-Request-ID", gateway_id), *headers]
                self._arrive(
                    entry, fault, reply, lambda: self._settle(reply, answer, pairs, request_id)
                )

            try:
                if fault is not None and fault.status is not None:
                    raise fault.refusal(fault.status)
                outcome = self._answer(request, headers)
            except Refusal as refusal:
                settle(refusal)
                return reply
            if isinstance(outcome, Later):
                outcome.then(settle)
            elif isinstance(outcome, EventStream):
                stream = outcome
                lost = self._faults.meet(request.method, path, stream=True)
                if lost is not None and lost.after_events is not None:
                    stream.break_after(lost.after_events)
                shown = self._stream_headers(headers)
                self._arrive(entry, fault, reply, lambda: reply.settle(200, shown, stream=stream))
            else:
                settle(outcome)
            return reply

    def _arrive(
        self, entry: Entry, fault: Optional[Fault], reply: FakeReply, settle: Callable[[], None]
    ) -> None:
        """Have the reply arrive after the latency, or get lost."""

        def arrive() -> None:
            if fault is not None and fault.status is None:
                reply.drop()
            else:
                settle()
                entry.status = reply.status

        if self._faults.latency:
            self._timeline.schedule(self._faults.latency, arrive)
        else:
            arrive()

    def observe(self, now: float) -> None:
        """Tie the wall clock to the driver's without beginning: the server is up, and idle."""
        with self.lock:
            self._timeline.observe(now)

    def advance(self, now: float) -> None:
        """Let time pass until `now`."""
        with self.lock:
            self._timeline.advance(now)

    def live_until(self, now: float) -> None:
        """Let time pass until `now`, in memory: make the webhook deliveries that are due."""
        while True:
            due = self.due(now)
            if not due:
                return
            for delivery in due:
                self.delivered(delivery, self._receiver(delivery.request), now)

    def next_time(self) -> Optional[float]:
        """When, on the driver's clock, something happens of itself; `None` for never."""
        with self.lock:
            return self._timeline.next_time()

    @property
    def now(self) -> float:
        """Where the driver's clock was when time last passed."""
        with self.lock:
            return self._timeline.driver_now()

    def due(self, now: float) -> List[Delivery]:
        """Let time pass until `now` and take the webhook deliveries to attempt.

        Report on each one with `delivered`; until then it is not handed out again.
        """
        with self.lock:
            self._timeline.advance(now)
            return self._service.desk.take_due()

    def delivered(self, delivery: Delivery, status: Optional[int], now: float) -> None:
        """The receiver answered an attempt with `status`; `None`: not within ten seconds."""
        with self.lock:
            self._timeline.advance(now)
            self._service.desk.delivered(delivery, status)

    # What a test arranges and looks at; see also `Scripts` and `Assertions`.

    def add_key(
        self,
        key: Optional[str] = None,
        *,
        scopes: Iterable[str] = ALL_SCOPES,
        state: KeyState = "active",
    ) -> str:
        """Add an API key, by default a new `fm_live_` one, and return it."""
        given = several("scopes", scopes, "scopes")
        for scope in given:
            one_of("a scope", scope, sorted(ALL_SCOPES))
        check_text("key", key, or_none=True)
        one_of("state", state, get_args(KeyState))
        with self.lock:
            key = key or self._service.new_secret("fm_live_")
            self._keys.add(key, given, state)
            return key

    @contextmanager
    def installed(self: F) -> Generator[F, None, None]:
        """A `with` block in which clients made without `transport=` use this fake.

        They need no key, and any key will do: from then on one that is not known may do
        everything. It holds for the whole process, worker threads included, as patching would;
        of several fakes the one installed last serves. A client that was made in the block
        keeps to this fake ever after; one that was made before is not affected.
        """
        with self.lock:
            self._keys.adopt_strangers()
        with standing_in(self):
            yield self

    def transport(self) -> Transport:
        """A new transport that reaches this fake, for a blocking client."""
        from flowmaestro.testing.memory import MemoryTransport

        return MemoryTransport(self)

    def async_transport(self) -> AsyncTransport:
        """A new transport that reaches this fake, for an awaiting client."""
        from flowmaestro.testing.memory import AsyncMemoryTransport

        return AsyncMemoryTransport(self)

    def close(self) -> None:
        """The test is over: tell of scripts that were never used.

        They are a workflow, an agent, a knowledge base or a trigger that nobody looked at,
        replies that nobody heard, and faults that met no request. `UnusedScriptWarning`, or
        with `strict` an `AssertionError`. Closing twice is harmless.
        """
        with self.lock:
            unused, self._scripts = self._unused(), {}
            self._faults.pending.clear()
        if unused:
            message = f"never used by this test: {'; '.join(unused)}"
            if self._strict:
                raise AssertionError(message)
            warnings.warn(message, UnusedScriptWarning, stacklevel=2)

    def __enter__(self: F) -> F:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *exc: object) -> None:
        if kind is None:
            self.close()

    def set_credits(self, executions: Optional[int]) -> None:
        """How many executions can still be paid for; `None` for any number."""
        if executions is not None:
            check_count("executions", executions, 0)
        with self.lock:
            self._service.credits = executions

    @property
    def requests(self) -> List[RecordedRequest]:
        """Every request that came, in order, as values that do not change."""
        with self.lock:
            return self._journal.recorded()

    @property
    def executions(self) -> List[Execution]:
        """Every execution that was started, the oldest first, as it stands."""
        with self.lock:
            return [_snapshot(execution) for execution in self._service.started]

    @property
    def deliveries(self) -> List[Delivery]:
        """Every webhook delivery that has been delivered or given up, in that order."""
        with self.lock:
            return list(self._service.desk.finished)

    @property
    def open_streams(self) -> int:
        """How many event streams of executions and threads have a reader."""
        with self.lock:
            return self._service.open_streams

    # How a request is answered.

    def _answer(self, request: Request, headers: HeaderPairs) -> Outcome:
        found = self._router.find(request.method, request.url)
        if found is None:
            raise self._dialect.no_route(request.method, urlsplit(request.url).path)
        route, ids = found
        key = self._keys.identify(request.headers)
        self._admit(key, headers)
        body = self._json(request)
        key.require(route.scopes)
        return route.handler(self._service, Call(ids, query_of(request.url), body))

    def _admit(self, key: ApiKey, headers: HeaderPairs) -> None:
        try:
            key.admit(self._timeline.now)
        finally:
            headers += key.limit_headers(self._timeline.wall(key.minute.ends))

    def _json(self, request: Request) -> JsonObject:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if len(request.body) > MAX_BODY_BYTES:
            raise self._dialect.too_large()
        if not request.body:
            if media_type == "application/json" and not self._dialect.accepts_empty_json:
                raise self._dialect.malformed_json("the body is empty")
            return {}
        if media_type != "application/json":
            raise self._dialect.wrong_media_type(media_type)
        try:
            value: object = json.loads(request.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self._dialect.malformed_json(str(error)) from None
        if not isinstance(value, dict):
            raise invalid("Request body must be an object")
        return cast("JsonObject", value)

    def _settle(
        self,
        reply: FakeReply,
        answer: Union[Answer, Refusal],
        headers: HeaderPairs,
        request_id: str,
    ) -> None:
        if isinstance(answer, Refusal):
            body: Optional[JsonObject] = self._dialect.refusal(answer, request_id)
        elif answer.body is None:
            body = None
        else:
            body = {**answer.body, "meta": self._dialect.meta(request_id)}
        pairs = [("Date", self._timeline.http_date()), *headers, *answer.headers]
        if body is None:
            reply.settle(answer.status, Headers(pairs))
        else:
            pairs.insert(0, ("Content-Type", "application/json; charset=utf-8"))
            reply.settle(answer.status, Headers(pairs), body=encode(body))

    def _stream_headers(self, headers: HeaderPairs) -> Headers:
        return Headers(
            [
                ("Content-Type", "text/event-stream"),
                ("Cache-Control", "no-cache"),
                ("Date", self._timeline.http_date()),
                *headers,
            ]
        )


def _dialect(shapes: Shapes, timeline: Timeline) -> Dialect:
    one_of("shapes", shapes, ("deployed", "documented"))
    return Deployed(timeline) if shapes == "deployed" else Documented(timeline)


def _snapshot(execution: Execution) -> Execution:
    """A value of its own: what is done to it does not reach the fake."""
    inputs, outputs = copy.deepcopy((execution.inputs, execution.outputs))
    return replace(execution, inputs=inputs, outputs=outputs)


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"Unexpected token {constant} in JSON")

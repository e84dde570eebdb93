"""`FakeFlowMaestro`: the whole service as one pure model, a request and a time in, a reply out.

No sockets, clocks or dice here: a driver brings requests and says what time it is, and carries
out the webhook deliveries that are due. `memory.py` drives it on a virtual clock, `server.py`
over real sockets.
"""

from __future__ import annotations

import json
import random
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union, cast
from urllib.parse import urlsplit

from flowmaestro.testing.agents import Agent, AgentReply, echo
from flowmaestro.testing.deployed import Deployed
from flowmaestro.testing.dialect import Dialect, Events, MessageAnswers, Shapes
from flowmaestro.testing.documented import Documented
from flowmaestro.testing.endpoints import ROUTES
from flowmaestro.testing.executions import InputField, Node, Outputs, Workflow, greeting
from flowmaestro.testing.keys import ALL_SCOPES, ApiKey, KeyRing, KeyState
from flowmaestro.testing.refusals import Refusal, invalid
from flowmaestro.testing.replies import Answer, EventStream, FakeReply, JsonObject, Later, encode
from flowmaestro.testing.routing import Call, Outcome, Router, query_of
from flowmaestro.testing.seeds import furnish
from flowmaestro.testing.service import Service
from flowmaestro.testing.timeline import Timeline
from flowmaestro.testing.webhooks import Delivery
from flowmaestro_core.http import Headers, Request

MAX_BODY_BYTES = 1024 * 1024
TEST_EPOCH = 1_700_000_000.0
"""The wall clock at the start, in Unix seconds, unless a driver brings a real one."""

HeaderPairs = List[Tuple[str, str]]


class FakeFlowMaestro:
    """An embedded FlowMaestro.

    `shapes` is the description of the API that it follows: the server that answers today, or
    the published reference. With `events="silent"` an execution's stream says nothing but
    `connected` and keepalives, as happens on the deployed server. `messages` says how a message
    sent with `"stream": true` is answered; by default as the dialect has it.

    Ids and secrets come from `seed`; timestamps from `epoch` (Unix seconds) and the driver's
    clock. The limits are each key's, in fixed windows.

    It holds resources to try things on, among them every id that the documentation names;
    `api_key` is a key that may do everything. Safe to use from several threads; a driver that
    needs several steps to be one holds `lock`, which may be taken again by its holder.
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
    ) -> None:
        self.seed = seed
        self._timeline = Timeline(epoch)
        self.lock = self._timeline.lock
        self._dialect = _dialect(shapes, self._timeline)
        self._service = Service(
            self._timeline,
            self._dialect,
            random.Random(seed),  # noqa: S311 - repeatable on purpose
            live=_one_of("events", events, ("live", "silent")) == "live",
            message_answers=messages or self._dialect.message_answers,
        )
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

    def handle(self, request: Request, now: float) -> FakeReply:
        """Take one request at `now`, in seconds of the driver's monotonic clock.

        The world begins with the first one. The reply may become ready only later: see
        `FakeReply`.
        """
        with self.lock:
            self._timeline.begin(now)
            request_id = self._dialect.request_id(self._service.new_id())
            gateway_id = request.headers.get("x-request-id") or self._service.new_id()
            reply = FakeReply()
            headers: HeaderPairs = []

            def settle(answer: Union[Answer, Refusal]) -> None:
                pairs = [("X-Request-ID", gateway_id), *headers]
                self._settle(reply, answer, pairs, request_id)

            try:
                outcome = self._answer(request, headers)
            except Refusal as refusal:
                settle(refusal)
                return reply
            if isinstance(outcome, Later):
                outcome.then(settle)
            elif isinstance(outcome, EventStream):
                reply.settle(200, self._stream_headers(headers), stream=outcome)
            else:
                settle(outcome)
            return reply

    def observe(self, now: float) -> None:
        """Tie the wall clock to the driver's without beginning: the server is up, and idle."""
        with self.lock:
            self._timeline.observe(now)

    def advance(self, now: float) -> None:
        """Let time pass until `now`."""
        with self.lock:
            self._timeline.advance(now)

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

    # What a test arranges and looks at.

    def add_workflow(
        self,
        name: str,
        *,
        id: Optional[str] = None,
        nodes: Sequence[Node] = (Node("work", "Work"),),
        inputs: Optional[Mapping[str, InputField]] = None,
        outputs: Outputs = greeting,
    ) -> str:
        """Add a workflow and return its id, by default a new UUID.

        `outputs` makes the result from the inputs; if it raises, the execution fails. A node
        with an `error` fails it too.
        """
        with self.lock:
            id = id or self._service.new_id()
            workflow = Workflow(
                id, name, self._timeline.now, inputs=inputs or {}, nodes=nodes, outputs=outputs
            )
            self._service.workflows[id] = workflow
            return id

    def add_agent(
        self,
        name: str,
        reply: AgentReply = echo,
        *,
        id: Optional[str] = None,
        model: str = "gpt-4o",
        seconds: float = 0.4,
    ) -> str:
        """Add an agent and return its id, by default a new UUID.

        `reply` makes the answer to a message's text, which takes `seconds`; if it raises, the
        message fails.
        """
        with self.lock:
            id = id or self._service.new_id()
            agent = Agent(id, name, model, self._timeline.now, reply=reply, seconds=seconds)
            self._service.agents[id] = agent
            return id

    def add_key(
        self,
        key: Optional[str] = None,
        *,
        scopes: Iterable[str] = ALL_SCOPES,
        state: KeyState = "active",
    ) -> str:
        """Add an API key, by default a new `fm_live_` one, and return it."""
        with self.lock:
            key = key or self._service.new_secret("fm_live_")
            self._keys.add(key, scopes, state)
            return key

    def set_credits(self, executions: Optional[int]) -> None:
        """How many executions can still be paid for; `None` for any number."""
        with self.lock:
            self._service.credits = executions

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
    _one_of("shapes", shapes, ("deployed", "documented"))
    return Deployed(timeline) if shapes == "deployed" else Documented(timeline)


def _one_of(name: str, value: str, allowed: Tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"Unexpected token {constant} in JSON")

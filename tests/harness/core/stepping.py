"""Driving a machine by hand: one reported event at a time, in virtual time.

`Stepper` is a driver that does nothing by itself. A test says what the world did
(`replies`, `fails`, `opens`, `receives`, ...), gets the machine's next action, and everything
that must hold for every machine at every step is checked on the way. It also notes each
transition taken, of the machine and of those it owns.
"""

from __future__ import annotations

import json
import math
import random
from itertools import zip_longest
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Type,
    Union,
)

from flowmaestro_core.actions import (
    EVENTS,
    Action,
    Close,
    Done,
    Emit,
    Fail,
    Open,
    Read,
    Send,
    Wait,
)
from flowmaestro_core.context import Context
from flowmaestro_core.errors import CheckpointError, FlowMaestroError
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.machine import LocalProtocolError, Machine
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.payloads.reply import retry_after
from flowmaestro_core.store import Loaded

HeaderFields = Union[Mapping[str, str], Tuple[Tuple[str, str], ...]]
Transition = Tuple[str, str, str, str]


class Report(NamedTuple):
    """One event to report, with its arguments but for `now` and `jitter`."""

    event: str
    args: Tuple[Any, ...] = ()
    after: Optional[float] = None
    """Seconds that pass before; `None` for what the action itself asks for."""


def a_context(**options: Any) -> Context:
    """A context with a key and a base URL; `options` as for `ClientOptions`."""
    return Context(ClientOptions(api_key="fm_live_key", base_url="https://api.test", **options))


def a_response(
    status: int = 200, body: Any = None, headers: HeaderFields = (), *, raw: bytes = b""
) -> Response:
    """A reply whose body is `body` as JSON, or `raw`."""
    return Response(status, Headers(headers), raw if body is None else json.dumps(body).encode())


def an_envelope(data: Any, **more: Any) -> Dict[str, Any]:
    """What the API puts around `data`."""
    return {"data": data, "meta": {"request_id": "req_1"}, **more}


def an_error(code: str, message: str = "", **details: Any) -> Dict[str, Any]:
    """The API's own error body."""
    return {"error": {"code": code, "message": message or code, "details": details}}


def a_failure(
    phase: Phase = Phase.MAYBE_PROCESSED, *, timed_out: bool = False, permanent: bool = False
) -> TransportFailure:
    """A failure of the network."""
    text = "the network is down"
    return TransportFailure(phase, text, timed_out=timed_out, permanent=permanent)


def sse(kind: str, data: Any = None, *, id: Optional[str] = None) -> bytes:
    """One event as the deployed server writes it."""
    named = "" if id is None else f"id: {id}\n"
    return f"{named}event: {kind}\ndata: {json.dumps(data or {})}\n\n".encode()


KEEPALIVE = b": keepalive\n\n"


class Stepper:
    """Steps one machine and checks what must hold whatever the machine.

    `trace` has every action so far, `sent` the requests, `items` what the caller got.

    `once` says which requests must not be sent again once the server may have acted on one;
    `terminal` has the types of the items after which none may come, `None` when the items are
    no events. `foreign` has the types of the caller's own exceptions that may end it.
    """

    def __init__(
        self,
        machine: Machine[Any],
        *,
        body_open: bool = False,
        once: Callable[[Request], bool] = lambda request: False,
        terminal: Optional[FrozenSet[str]] = None,
    ) -> None:
        self.machine = machine
        self.once = once
        self.terminal = terminal
        self.foreign: Tuple[Type[Exception], ...] = ()
        self.ended_by: Optional[str] = None
        self.now = 1000.0
        self.jitter = 0.5
        self.body_open = body_open
        self.action: Optional[Action] = None
        self.trace: List[Action] = []
        self.transitions: Set[Transition] = set()
        self._acted = False

    # What the world does

    def start(self) -> Action:
        return self.report(Report("start", (), 0.0))

    def replies(
        self,
        status: int = 200,
        body: Any = None,
        headers: HeaderFields = (),
        *,
        raw: bytes = b"",
        after: float = 0.0,
    ) -> Action:
        response = a_response(status, body, headers, raw=raw)
        return self.report(Report("response_received", (response,), after))

    def fails(
        self,
        phase: Phase = Phase.MAYBE_PROCESSED,
        *,
        timed_out: bool = False,
        permanent: bool = False,
        after: float = 0.0,
    ) -> Action:
        failure = a_failure(phase, timed_out=timed_out, permanent=permanent)
        return self.report(Report("transport_failed", (failure,), after))

    def opens(
        self,
        status: int = 200,
        content_type: str = "text/event-stream",
        headers: Mapping[str, str] = {},
        *,
        after: float = 0.0,
    ) -> Action:
        head = ResponseHead(status, Headers({"Content-Type": content_type, **headers}))
        return self.report(Report("stream_opened", (head,), after))

    def receives(self, data: bytes, *, after: float = 0.0) -> Action:
        return self.report(Report("bytes_received", (data,), after))

    def stays_quiet(self, *, after: Optional[float] = None) -> Action:
        return self.report(Report("stream_quiet", (), after))

    def ends(self, *, after: float = 0.0) -> Action:
        return self.report(Report("stream_ended", (), after))

    def closes(self, *, after: float = 0.0) -> Action:
        return self.report(Report("stream_closed", (), after))

    def waits(self, *, after: Optional[float] = None) -> Action:
        return self.report(Report("waited", (), after))

    def takes(self, *, after: float = 0.0) -> Action:
        return self.report(Report("emitted", (), after))

    def loads(self, loaded: Loaded, *, after: float = 0.0) -> Action:
        return self.report(Report("loaded", (loaded,), after))

    def saves(self, *, after: float = 0.0) -> Action:
        return self.report(Report("saved", (), after))

    def fails_to_keep(self, error: Exception, *, after: float = 0.0) -> Action:
        """The store fails."""
        return self.report(Report("store_failed", (error,), after))

    def takes_all(self) -> Action:
        """The caller takes items as long as there are any."""
        while isinstance(self.action, Emit):
            self.takes()
        assert self.action is not None
        return self.action

    def times_out(self) -> Action:
        """The server hangs until the patience of the request is over."""
        assert isinstance(self.action, (Send, Open))
        return self.fails(timed_out=True, after=self.action.timeout)

    def idles(self) -> Action:
        """Do what needs no server: wait, take, stay quiet or close."""
        if isinstance(self.action, Wait):
            return self.waits()
        if isinstance(self.action, Emit):
            return self.takes()
        return self.closes() if isinstance(self.action, Close) else self.stays_quiet()

    def plays(self, answer: Callable[[], Any], *, until: Any = (Done, Fail)) -> None:
        """`answer` each request until there is an action of the types `until`."""
        while not isinstance(self.action, until):
            answer() if isinstance(self.action, (Send, Open)) else self.idles()

    # What came of it

    @property
    def sent(self) -> List[Any]:
        return [action.request for action in self.trace if isinstance(action, (Send, Open))]

    @property
    def waited_for(self) -> List[float]:
        return [action.seconds for action in self.trace if isinstance(action, Wait)]

    @property
    def items(self) -> List[Any]:
        return [item for action in self.trace if isinstance(action, Emit) for item in action.items]

    @property
    def value(self) -> Any:
        assert isinstance(self.action, Done), self.action
        return self.action.value

    @property
    def error(self) -> Any:
        assert isinstance(self.action, Fail), self.action
        return self.action.error

    # One step

    def report(self, report: Report) -> Action:
        """Let time pass, report, check, and give back the next action."""
        self.now += self._duration() if report.after is None else report.after
        self._note_effect(report)
        before = [(machine, machine.state) for machine in chain(self.machine)]
        action: Action = getattr(self.machine, report.event)(*report.args, self.now, self.jitter)
        self._note(report.event, before)
        self._check_body(report.event, action)
        self._check(action)
        self.action = action
        self.trace.append(action)
        return action

    def refuses(self, report: Report) -> None:
        """An event that does not belong is refused, and changes nothing."""
        before = picture(self.machine)
        try:
            getattr(self.machine, report.event)(*report.args, self.now, self.jitter)
        except LocalProtocolError:
            assert picture(self.machine) == before
        else:
            raise AssertionError(f"{report.event} was not refused after {self.action}")

    def refuses_all_but_expected(self) -> None:
        """Every event of the vocabulary that the present action does not call for is refused."""
        expected = ("start",) if self.action is None else EVENTS[type(self.action)]
        for name, args in _ANY_ARGS.items():
            if name not in expected:
                self.refuses(Report(name, args))

    def _duration(self) -> float:
        if isinstance(self.action, Read):
            return self.action.patience
        return self.action.seconds if isinstance(self.action, Wait) else 0.0

    def _note(self, event: str, before: List[Tuple[Machine[Any], str]]) -> None:
        for machine, state in before:
            self.transitions.add((_of_table(machine), state, event, machine.state))
        owned = [machine for machine, _ in before]
        for machine in chain(self.machine):
            if not any(machine is known for known in owned):
                self.transitions.add((_of_table(machine), "ready", "start", machine.state))

    def _note_effect(self, report: Report) -> None:
        """Note whether the server may now have acted on a request that must not come twice."""
        if isinstance(self.action, (Send, Open)) and self.once(self.action.request):
            self._acted = self._acted or may_have_acted(report)

    def _check_body(self, event: str, action: Action) -> None:
        """`Read` and `Close` only while a body is open, and no body is left open."""
        if event == "stream_opened":
            self.body_open = True
        elif event in ("stream_ended", "stream_closed") or (
            event == "transport_failed" and isinstance(self.action, (Open, Read))
        ):
            self.body_open = False
        if isinstance(action, (Read, Close)):
            assert self.body_open, f"{action} without an open body"
        if isinstance(action, (Open, Wait, Fail)):
            assert not self.body_open, f"{action} beside an open body"
        if isinstance(action, Done) and not isinstance(action.value, ResponseHead):
            assert not self.body_open, "ended beside an open body"

    def _check(self, action: Action) -> None:
        assert type(action) in EVENTS, action
        ended = isinstance(action, (Done, Fail))
        assert ended == (self.machine.state in ("done", "failed"))
        if self.terminal is not None:
            assert self.machine.finished == self._nothing_is_left(action)
        if isinstance(action, (Send, Open)):
            assert not (self._acted and self.once(action.request)), "sent a second time"
            assert 0 < action.timeout < math.inf
        elif isinstance(action, Read):
            assert 0 <= action.patience < math.inf
        elif isinstance(action, Wait):
            assert 0 <= action.seconds < math.inf
        elif isinstance(action, Emit) and self.terminal is not None:
            assert action.items, "an Emit without an item"
            for item in action.items:
                self._check_event(item)
            if self.ended_by is not None:
                assert len(action.items) == 1, "the last event comes alone"
        elif isinstance(action, Fail):
            assert isinstance(action.error, (FlowMaestroError, *self.foreign)), repr(action.error)
            str(action.error)

    def _nothing_is_left(self, action: Action) -> bool:
        """After the end; of a stream of events, after its terminal event already."""
        of_events = type(self.machine).finished is not Machine.finished
        if isinstance(action, Emit) and of_events:
            return action.items[0]["type"] in (self.terminal or ())
        return isinstance(action, Done)

    def _check_event(self, item: Any) -> None:
        assert isinstance(item, dict)
        assert isinstance(item["type"], str)
        assert self.ended_by is None, f"{item['type']} after {self.ended_by}"
        if item["type"] in (self.terminal or ()):
            self.ended_by = item["type"]
            assert not self.body_open, "the last event beside an open body"


def may_have_acted(report: Report) -> bool:
    """Whether, for all that a client can know after this, the server did what it was asked."""
    if report.event == "transport_failed":
        return report.args[0].phase is not Phase.NOT_SENT
    reply: Union[Response, ResponseHead] = report.args[0]
    if reply.status == 503:
        return retry_after(reply.headers) is None
    return reply.status < 400 or reply.status in (408, 500, 502, 504)


def _of_table(machine: Machine[Any]) -> str:
    """The name of the class that its table is of: machines may share one."""
    return next(kind.__name__ for kind in type(machine).__mro__ if "TRANSITIONS" in vars(kind))


def chain(machine: Optional[Machine[Any]]) -> List[Machine[Any]]:
    """The machine, the one it owns, the one that owns, ..."""
    found: List[Machine[Any]] = []
    while machine is not None:
        found.append(machine)
        machine = machine._inner
    return found


def picture(machine: Machine[Any]) -> List[Dict[str, str]]:
    """All that a machine and those it owns know, to see whether anything has changed."""
    return [{name: repr(value) for name, value in vars(owned).items()} for owned in chain(machine)]


def table(machine: type) -> Set[Transition]:
    """The transitions that a machine's table lists."""
    return {
        (machine.__name__, state, event, following)
        for state, events in machine.TRANSITIONS.items()  # type: ignore[attr-defined]
        for event, nexts in events.items()
        for following in nexts
    }


_ANY_ARGS: Dict[str, Tuple[Any, ...]] = {
    "start": (),
    "response_received": (a_response(200, an_envelope({})),),
    "transport_failed": (a_failure(),),
    "stream_opened": (ResponseHead(200, Headers()),),
    "bytes_received": (b"data: 1\n\n",),
    "stream_quiet": (),
    "stream_ended": (),
    "stream_closed": (),
    "waited": (),
    "emitted": (),
    "loaded": (Loaded(),),
    "saved": (),
    "store_failed": (CheckpointError(),),
}


class Possibilities(NamedTuple):
    """What a world may do: the replies, heads and bytes that it has in store."""

    responses: Tuple[Response, ...]
    heads: Tuple[ResponseHead, ...] = ()
    chunks: Tuple[bytes, ...] = ()
    durations: Tuple[float, ...] = (0.0, 0.01, 1.0, 31.0, 100.0)

    def after(self, action: Optional[Action]) -> List[Report]:
        """Every report that this world may make for an action, but for the time it takes."""
        if action is None:
            return [Report("start")]
        if isinstance(action, Send):
            replied = [Report("response_received", (response,)) for response in self.responses]
            return replied + _FAILURES
        if isinstance(action, Open):
            return [Report("stream_opened", (head,)) for head in self.heads] + _FAILURES
        if isinstance(action, Read):
            received = [Report("bytes_received", (chunk,)) for chunk in self.chunks]
            return [*received, Report("stream_quiet"), Report("stream_ended"), *_FAILURES]
        return [Report(name) for name in EVENTS[type(action)]]


_FAILURES = [
    Report("transport_failed", (a_failure(phase, timed_out=timed_out),))
    for phase in Phase
    for timed_out in (False, True)
]


def wander(
    make: Callable[[], Stepper], world: Possibilities, *, walks: int, steps: int = 40
) -> Iterator[Set[Transition]]:
    """The transitions of walks through a machine, at random, but alike each time."""
    rng = random.Random(6)
    for _ in range(walks):
        stepper = make()
        for _ in range(steps):
            reports = world.after(stepper.action)
            if not reports:
                break
            stepper.jitter = rng.random()
            event = rng.choice(sorted({report.event for report in reports}))
            report = rng.choice([report for report in reports if report.event == event])
            spent = None if rng.random() < 0.5 else rng.choice(world.durations)
            if spent is None and isinstance(stepper.action, Wait) and stepper.jitter < 0.5:
                spent = stepper.action.seconds + 0.002  # A real clock wakes late.
            stepper.report(report._replace(after=spent))
        yield stepper.transitions


def assert_table_is_true(
    machine: type, *wanders: Iterator[Set[Transition]], schedules: bool = False
) -> None:
    """Assert that `machine` does all that its table lists, and nothing else.

    The wanders walk in turn, until every transition was taken. If it `schedules`, every event is
    enough: any task may follow.
    """
    untaken = table(machine)
    for walks in zip_longest(*wanders, fillvalue=set()):
        own = {taken for walk in walks for taken in walk if taken[0] == machine.__name__}
        assert own <= table(machine)
        happened = {transition[:3] for transition in own}
        untaken -= {other for other in untaken if schedules and other[:3] in happened} | own
        if not untaken:
            return
    raise AssertionError(f"never taken: {sorted(untaken)}")

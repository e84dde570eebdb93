"""Check a driver: whether it carries out the actions of the core's machines as they demand.

May open sockets on loopback: the fake is served there, with faults.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import errno
import inspect
import math
import re
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Generator,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.plans import Node
from flowmaestro.testing.fake.server.serve import running_server
from flowmaestro_core.actions import (
    EVENTS,
    Done,
    Open,
    Send,
    Wait,
)
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.resources import Workflows
from flowmaestro_transports.contract import Transport

Drive = Callable[[Any, Callable[[Any], Any], Any], Any]
"""A driver: a function from a machine, a listener and a store to the value of the machine. Or a
coroutine function, which `check_driver` runs on asyncio."""

SPEED = 20.0
"""The fake's time goes so much faster than ours, so that workflows of seconds need no patience."""
SLACK = 0.02
"""Seconds by which a pause may be too short: clocks and timers are rounded differently."""
LATEST = 3.0
"""Seconds by which the end of an attempt may be late: a busy machine must not fail the check. The
responses of the scenes with a time limit come 9 seconds late."""
HOUR = 3600.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Broken(Exception):
    """The driver has broken a rule. Raised in the driver, which must not catch it."""


class _Watched:
    """A machine that checks what its driver reports, and notes the actions that it returned."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._action: Any = None
        self._asked_at = -math.inf
        self._now = -math.inf
        self._jitters: List[float] = []
        self._is_busy = False
        self.trace: List[str] = []
        self.broken: Optional[str] = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._machine, name)
        known = {"start", *(event for events in EVENTS.values() for event in events)}
        if name not in known:
            return found

        def report(*args: Any) -> Any:
            return self._report(name, found, *args)

        return report

    def _report(self, event: str, method: Callable[..., Any], *args: Any) -> Any:
        *facts, now, jitter = args
        self._check(event, facts, now, jitter)
        if event == "transport_failed":
            late = " timed_out" if facts[0].timed_out else ""
            self.trace.append(f"failed {facts[0].phase.name}{late}")
        self._is_busy = True
        self._action = method(*args)
        self._is_busy = False
        self._asked_at = self._now = now
        self.trace.append(_described(self._action))
        return self._action

    def _check(self, event: str, facts: List[Any], now: float, jitter: float) -> None:
        action = self._action
        allowed = ("start",) if action is None else EVENTS[type(action)]
        if event not in allowed:
            said = "nothing" if action is None else type(action).__name__
            self._break(f"after {said}, report {' or '.join(allowed) or 'nothing'}, not {event}")
        if self._is_busy:
            self._break("report one event at a time: call no method of a machine within another")
        if not now >= self._now:
            self._break(f"now must not run backwards: {now!r} after {self._now!r}")
        if not 0 <= jitter < 1:
            self._break(f"jitter must be at least 0 and below 1, not {jitter!r}")
        self._jitters = [*self._jitters[-2:], jitter]
        # Three equal draws in turn do not happen by chance.
        if len(self._jitters) == 3 and len({*self._jitters}) == 1:
            self._break(f"jitter must be drawn for each event, not be always {jitter!r}")
        took = now - self._asked_at
        if isinstance(action, (Send, Open)) and took > action.timeout + LATEST:
            self._break(f"end an attempt after its timeout: {action.timeout:.3g} s")
        if isinstance(action, Wait) and event == "waited" and took < action.seconds - SLACK:
            self._break(f"wait for the whole of Wait.seconds: {action.seconds:.3g} s")
        if event == "bytes_received" and not facts[0]:
            self._break("an empty read is the end of the body: report stream_ended")
        fact: Any = facts[0] if facts else None
        if event == "transport_failed" and not isinstance(fact, TransportFailure):
            self._break("transport_failed takes a TransportFailure, with its phase")
        if event == "store_failed" and not isinstance(fact, FlowMaestroError):
            self._break("store_failed takes an error of the SDK: make a JournalError of any other")
        if event == "loaded" and not abs(facts[0].wall_time - time.time()) < HOUR:
            self._break("Loaded.wall_time is the present time, in Unix seconds")

    def _break(self, rule: str) -> None:
        self.broken = self.broken or rule
        raise _Broken(rule)


class _MemoryStore:
    """A store in memory, for one batch."""

    def __init__(self) -> None:
        self._states: Dict[str, Dict[str, Any]] = {}

    def load(self, keys: Iterable[str], outcomes: bool) -> List[Mapping[str, Any]]:
        """Return the states under these keys."""
        return [self._states[key] for key in keys if key in self._states]

    def save(self, states: Iterable[Dict[str, Any]]) -> None:
        """Keep the states."""
        self._states.update({state["key"]: state for state in states})

    def known(self, execution_ids: Iterable[str]) -> Dict[str, int]:
        """Return the numbers of the starts of these executions."""
        wanted = set(execution_ids)
        return {
            state["execution_id"]: state["number"]
            for state in self._states.values()
            if state.get("execution_id") in wanted
        }


class _FullStore(_MemoryStore):
    """A store that cannot save."""

    def save(self, states: Iterable[Dict[str, Any]]) -> None:
        raise OSError(errno.ENOSPC, "no space left on the device")


@contextmanager
def _served(fake: FakeFlowMaestro) -> Generator[str, None, None]:
    with running_server(fake, speed=SPEED) as url:
        yield url


@contextmanager
def _refusing(_fake: FakeFlowMaestro) -> Generator[str, None, None]:
    """An address that refuses connections."""
    with socket.socket() as bound:  # It does not listen.
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def _breaking_off(_fake: FakeFlowMaestro) -> Generator[str, None, None]:
    """A server that ends each connection within the body of its response."""

    def answer(listener: socket.socket) -> None:
        with suppress(OSError):  # It was closed: the scene is over.
            while True:
                connection, _ = listener.accept()
                with connection:
                    while b"\r\n\r\n" not in connection.recv(65536):
                        pass
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer, args=(listener,), daemon=True)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    server.join()


class Scene(NamedTuple):
    """One thing that a driver must be able to do."""

    name: str
    make: Callable[[Any], Operation[Any, Any]]
    """Returns the operation for a store."""
    arrange: Callable[[FakeFlowMaestro], object] = lambda _: None
    """Puts the workflows and the faults into a fake."""
    options: Dict[str, Any] = {}
    is_exact: bool = True
    """Whether the driver's actions and requests must be ours. Polls depend on time."""
    times: StreamTimes = StreamTimes()
    breaks: bool = False
    """Whether a stream breaks off, so that a failure must be reported."""
    opens: Optional[int] = None
    """The number of times that the stream must be opened; `None` if that depends on time."""
    served: Callable[[FakeFlowMaestro], ContextManager[str]] = _served
    """Serves the fake, or a server that does worse, and gives its URL."""
    store: Callable[[], _MemoryStore] = _MemoryStore


def _be_quiet(fake: FakeFlowMaestro) -> None:
    fake.workflow("wf_quiet", nodes=[Node("think", seconds=1.5 * SPEED)], outputs={"answer": 42})


def _be_quiet_and_lose_a_poll(fake: FakeFlowMaestro) -> None:
    _be_quiet(fake)
    fake.drop_connection(method="GET", path="/executions/*")


def _open_late(fake: FakeFlowMaestro) -> None:
    fake.workflow("wf_quiet", nodes=[Node("think", seconds=2 * SPEED)], outputs={"answer": 42})
    fake.delay_next(10 * SPEED, path="/executions/*/events")


def _lose_a_stream(fake: FakeFlowMaestro) -> None:
    fake.workflow("wf_long", nodes=[Node("think", seconds=20)], outputs={"answer": 42})
    fake.drop_connection(after_events=1, path="/executions/*/events")


_QUIET = Scene(
    "a run whose event stream is quiet, so that the execution is polled",
    lambda _: Workflows.run("wf_quiet", timeout=60.0),
    _be_quiet,
    is_exact=False,
    times=StreamTimes(event_idle=0.4),
    opens=1,
)
SCENES = (
    Scene(
        "a call that is retried after two 503",
        lambda _: Workflows.get("wf_123"),
        lambda fake: fake.fail_next(2, 503, retry_after=0),
    ),
    Scene(
        "a call whose connection is lost",
        lambda _: Workflows.get("wf_123"),
        lambda fake: fake.drop_connection(path="/workflows/*"),
    ),
    Scene(
        "a call whose first attempt times out",
        lambda _: Workflows.get("wf_123"),
        lambda fake: fake.delay_next(10 * SPEED, path="/workflows/*"),
        {"timeout": 3.0},  # On a busy machine the second attempt takes more than one second.
    ),
    Scene("a call that fails", lambda _: Workflows.get("wf_gone")),
    Scene("pages", lambda _: Workflows.iterate(per_page=1)),
    Scene(
        "a start whose connection is refused: nothing was sent, so it is retried",
        lambda _: Workflows.execute("wf_123"),
        options={"max_retries": 1},
        served=_refusing,
    ),
    Scene(
        "a start whose response is lost: it may have been processed, so it is not retried",
        lambda _: Workflows.execute("wf_123"),
        lambda fake: fake.drop_connection(method="POST", path="/workflows/*/execute"),
    ),
    Scene(
        "a response that breaks off",
        lambda _: Workflows.get("wf_123"),
        options={"max_retries": 0},
        served=_breaking_off,
    ),
    Scene(
        "a run whose event stream is lost",
        lambda _: Workflows.run("wf_long", timeout=60.0),
        _lose_a_stream,
        is_exact=False,
        breaks=True,
    ),
    _QUIET,
    _QUIET._replace(
        name="a run with a quiet event stream, and a poll beside it that fails",
        arrange=_be_quiet_and_lose_a_poll,
    ),
    Scene(
        "a run whose event stream is not opened in time",
        lambda _: Workflows.run("wf_quiet", timeout=60.0),
        _open_late,
        is_exact=False,
    ),
    Scene(
        "a batch with a store",
        lambda store: Workflows.run_many("wf_123", [{"n": 1}, {"n": 2}, {"n": 3}], journal=store),
        is_exact=False,
    ),
    Scene(
        "a batch with a store that fails",
        lambda store: Workflows.run_many("wf_123", [{"n": 1}], journal=store),
        store=_FullStore,
    ),
)


def check_driver(drive: Drive) -> None:
    """Check that a driver carries out the core's machines as they demand.

    It drives calls with retries, time limits, errors and lost connections, starts, pages, runs
    whose event stream is lost, late or quiet, and batches with a store, over sockets on loopback,
    against the fake. What the driver reports is checked after each action; the values, and where
    time does not matter the actions, failures and requests, are compared with those of our own
    driver. It takes some 25 seconds.

    It does not see whether a driver decompresses, speaks TLS, closes what it must, passes on a
    cancellation, or dates an error response that has no `Date`.

    Raises `AssertionError`, which lists what went wrong, each with the rule that was broken.

    Args:
        drive: called with a machine that was not started, a function to call with each item that
            the machine emits, and a store with the methods of `flowmaestro.Store`, for `Load` and
            `Save`. It must return the machine's value, or raise its error. It may be a coroutine
            function, which is run on asyncio; for another event loop, pass a plain function that
            runs it.

    """
    check_scenes(drive, SCENES)


def check_scenes(drive: Drive, scenes: Sequence[Scene]) -> None:
    """Check some of the things that a driver must be able to do: see `check_driver`."""
    played = [(scene, _played_in_time(drive, scene)) for scene in scenes]
    found = [f"* {scene.name}: {said}" for scene, it in played for said in _failures(scene, it)]
    if found:
        raised = next((it.raised for _, it in played if it.raised is not None), None)
        raise AssertionError("the driver breaks rules:\n" + "\n".join(found)) from raised


def _failures(scene: Scene, theirs: _Played) -> Iterable[str]:
    if theirs.broken is not None:
        yield theirs.broken
        return
    ours = _played(our_drive, scene)
    if theirs.value != ours.value:
        yield f"it must end with {ours.value}, not with {theirs.value}"
    # Which events a stream shows depends on when it was opened, but not its last one.
    wanted, given = (it.items if scene.is_exact else it.items[-1:] for it in (ours, theirs))
    if given != wanted:
        yield f"its listener must get {wanted}, not {given}"
    posts = [line for line in theirs.requests if line.startswith("POST")]
    if sorted(posts) != sorted(line for line in ours.requests if line.startswith("POST")):
        yield f"it must send each POST once: {posts}"
    opens = _opens(theirs)
    if scene.opens not in (None, opens):
        yield f"it must keep a stream open while it carries out a Send, not open {opens} in turn"
    if scene.breaks and not any(line.startswith("failed") for line in theirs.trace):
        yield "a body that breaks off has not ended: report transport_failed, not stream_ended"
    if scene.is_exact:
        if theirs.trace != ours.trace:
            yield f"actions and failures must be {ours.trace}, not {theirs.trace}"
        elif theirs.requests != ours.requests:
            yield f"the requests must be {ours.requests}, not {theirs.requests}"


class _Played(NamedTuple):
    """The result of one scene."""

    value: str
    items: List[str]
    trace: List[str]
    requests: List[str]
    broken: Optional[str]
    raised: Optional[Exception]
    """What the driver raised, if it is no error of a machine."""


def _opens(played: _Played) -> int:
    return sum(line.endswith("/events") for line in played.requests)


def _played_in_time(drive: Drive, scene: Scene) -> _Played:
    """Play a scene; once more if its stream was opened more often than wanted.

    A busy machine may need longer for opening it than the machine allows before it polls. A driver
    that loses its stream loses it each time.
    """
    played = _played(drive, scene)
    return played if scene.opens in (None, _opens(played)) else _played(drive, scene)


def _played(drive: Drive, scene: Scene) -> _Played:
    fake = FakeFlowMaestro()
    scene.arrange(fake)
    items: List[Any] = []
    store = scene.store()
    raised: Optional[Exception] = None
    with scene.served(fake) as url:
        options = ClientOptions(fake.api_key, url, **scene.options)
        context = Context(options, stream_times=scene.times)
        machine = _Watched(machine_for(scene.make(store), context, uuid.uuid4().hex))
        try:
            value = drive(machine, items.append, store)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            returned = "a returned " if isinstance(value, BaseException) else ""
            said = returned + type(value).__name__
        except Exception as error:
            said = type(error).__name__
            if not isinstance(error, (FlowMaestroError, _Broken)):
                raised = error
    requests = [f"{it.method} {_ID.sub('ID', it.path)}" for it in fake.requests]
    shown = list(map(_kind, items))
    return _Played(said, shown, machine.trace, requests, machine.broken, raised)


def _kind(item: Any) -> str:
    """Return what an item is: the type of an event, or the id of a resource."""
    if isinstance(item, dict):
        return str(item.get("type") or item.get("id"))
    return type(item).__name__


def _described(action: Any) -> str:
    """Return the name of an action, with the method and the path of its request."""
    if isinstance(action, (Send, Open)):
        path = _ID.sub("ID", action.request.url.partition("/api/v1")[2])
        return f"{type(action).__name__} {action.request.method} {path}"
    return type(action).__name__


def our_drive(
    machine: Any, emit: Callable[[Any], Any], store: Any, transport: Optional[Transport] = None
) -> Any:
    """Carry out a machine with our own sync driver, and close the transport."""
    from flowmaestro_transports.driving.drivers import SyncDriver
    from flowmaestro_transports.driving.stores import Kept, SyncKeeper
    from flowmaestro_transports.sockets.transport import SocketTransport

    transport = transport or SocketTransport()
    keeper = SyncKeeper(Kept(store), transport)
    driver = SyncDriver(machine, transport, keeper=keeper)
    try:
        while True:
            action = driver.advance()
            if isinstance(action, Done):
                return action.value
            for item in action.items:
                emit(item)
    finally:
        transport.close()

"""`FakeFlowMaestro`: the model of the service, with scripts, faults and assertions.

`testing/virtual/` drives it on a virtual clock, `server/` over real sockets.
"""

from __future__ import annotations

import math
import random
import re
import threading
import warnings
from contextlib import contextmanager
from typing import (
    Counter,
    Generator,
    Iterable,
    Literal,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
)

from flowmaestro.testing.arguments import check_number, one_of, several
from flowmaestro.testing.fake.assertions import Assertions
from flowmaestro.testing.fake.fault_injection import FaultInjection
from flowmaestro.testing.fake.model.dialects import (
    Deployed,
    Documented,
    Events,
    MessageAnswers,
    Shapes,
)
from flowmaestro.testing.fake.model.keys import ALL_SCOPES, KeyRing, KeyState
from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.requests import path_below_root
from flowmaestro.testing.fake.model.seeds import add_documented_resources
from flowmaestro.testing.fake.model.service import Service
from flowmaestro.testing.fake.scripting import Scripts, UnusedScriptWarning
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.virtual.real_clock import RealClock
from flowmaestro_core.arguments import optional_text
from flowmaestro_core.http.messages import Request
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.driving.event_loops import current_task
from flowmaestro_transports.override import override_transport

TEST_EPOCH = 1_700_000_000.0
"""The wall clock when a fake is made, in Unix seconds, unless `epoch` is given. It is a fixed time
in November 2023, so that each run of a test sees the same dates."""

Time = Literal["virtual", "real"]
"""Virtual time advances, in no real time, when every call in flight waits."""
MAX_POLLS = 100
"""How many times a thread or task may request one changing URL while time stands still. More are
those of a loop that waits by another clock, and would never end."""
MAX_REPEATED = 1000
"""The same limit for other URLs, and for a changing URL and all tasks of a thread together. A test
may well read one workflow for each of some hundred rows."""
_CHANGES = re.compile("/(executions|threads|webhooks)")

F = TypeVar("F", bound="FakeFlowMaestro")


class FakeFlowMaestro(Scripts, FaultInjection, Assertions):
    """A fake FlowMaestro, for tests and demos.

    A new one already holds some resources, such as the workflow `wf_123`, the execution
    `exec_xyz789`, the agent `agent_abc123` and a webhook. `api_key` is a key with all scopes. Each
    key may make 6,000 requests a minute and 1,000,000 a day; see `rate_limit`.

    In virtual time, a loop that polls without a pause would never end. So a GET that is repeated
    while time stands still raises `AssertionError` beyond a limit. For executions, conversations
    and webhooks, this limit is 100 requests of one task, and 1,000 requests of all tasks of one
    thread together. For other resources, it is 1,000 requests of one task. A thread without tasks
    counts as one task.

    Close the fake at the end of a test, or use it in a `with` block: it warns of scripts that were
    never used.

    Safe to use from several threads. Hold `lock`, which is reentrant, during several
    operations if no operation of another thread may come in between.

    Args:
        shapes: which description of the API it follows, the `"deployed"` server or the published
            reference (`"documented"`).
        events: with `"silent"`, a stream that is opened before its execution has ended sends only
            `connected` and keepalives, as can happen on the deployed server.
        messages: how a message that is sent with `"stream": true` is answered: `"sse"` or
            `"refused"`. By default, agents that a test scripted stream tokens, and others do as
            `shapes` says: the deployed server refuses.
        time: with `"virtual"`, time is that of `clock` and advances when every call in flight
            waits; `"real"` is for an application that sleeps by itself or sets a time limit
            around a call.
        seed: of the random ids and secrets.
        epoch: the wall clock when the fake is made, in Unix seconds. Timestamps count from it.
        strict: whether scripts that were never used raise `AssertionError` at the end.

    """

    def __init__(
        self,
        shapes: Shapes = "deployed",
        events: Events = "live",
        *,
        messages: Optional[MessageAnswers] = None,
        time: Time = "virtual",
        seed: int = 0,
        epoch: float = TEST_EPOCH,
        strict: bool = False,
    ) -> None:
        check_number("epoch", epoch)
        one_of("time", time, get_args(Time))
        one_of("shapes", shapes, get_args(Shapes))
        one_of("events", events, get_args(Events))
        if messages is not None:
            one_of("messages", messages, get_args(MessageAnswers))
        model_time = ModelTime(epoch)
        dialect = Deployed(model_time) if shapes == "deployed" else Documented(model_time)
        random_source = random.Random(seed)  # noqa: S311 - repeatable on purpose
        keys = KeyRing(accepts_test_keys=dialect.accepts_test_keys)
        live = events == "live"
        service = Service(model_time, dialect, random_source, live=live, message_answers=messages)
        super().__init__(service, keys)
        self.seed = seed
        self._epoch = epoch
        self.clock: Union[VirtualClock, RealClock] = (
            VirtualClock(world=self) if time == "virtual" else RealClock(self)
        )
        """The clock of calls to this fake: a `VirtualClock` unless `time` is `"real"`."""
        self._strict = strict
        self._poll_loops = PollLoopDetector()
        self.api_key: str = self.add_key()
        """An API key with all scopes."""
        add_documented_resources(self._service, self._keys)

    def __repr__(self) -> str:
        return f"<FakeFlowMaestro {type(self._dialect).__name__.lower()}>"

    def handle(self, request: Request, now: float) -> FakeReply:
        """Carry out one request at `now`, in seconds of the driver's clock.

        Return the response, which may become ready later (`FakeReply`). Raises `AssertionError` if
        the client polls without end in virtual time, beyond the limits of the class.
        """
        with self.lock:
            if not isinstance(self.clock, RealClock):
                self._poll_loops.note(request, now)
            return super().handle(request, now)

    def wall_clock(self) -> float:
        """Return the time of `clock` in Unix seconds, as in `Date` and in timestamps of events.

        A server of this fake (`running_server`) has a clock of its own, so its times may differ.
        """
        return self._epoch + self.clock.now

    def add_key(
        self,
        key: Optional[str] = None,
        *,
        scopes: Iterable[str] = ALL_SCOPES,
        state: KeyState = "active",
    ) -> str:
        """Add an API key, by default a new `fm_live_` one, and return it.

        `scopes` are the scopes of the key, by default all. Requests with a key whose `state` is not
        `"active"` are refused. An equal key is replaced. Raises `ValueError` for an unknown scope
        or state.
        """
        given = several("scopes", scopes, "scopes")
        for scope in given:
            one_of("a scope", scope, sorted(ALL_SCOPES))
        optional_text("key", key)
        one_of("state", state, get_args(KeyState))
        with self.lock:
            key = key or self._service.new_secret("fm_live_")
            self._keys.add(key, given, state)
            return key

    def revoke_keys(self) -> None:
        """Revoke every API key that the fake knows, also `api_key` and those of the documentation.

        A key that is added afterwards is valid. So is a key that the fake sees for the first time
        afterwards, if it accepts unknown keys (`installed`).
        """
        with self.lock:
            self._keys.revoke_all()

    @contextmanager
    def installed(self: F, *, allow_network: bool = False) -> Generator[F, None, None]:
        """Have clients made without `transport=` use this fake in a `with` block. Yield the fake.

        They need no key: from then on, the fake accepts unknown keys, with every scope. The block
        affects the whole process with all its threads. Of several fakes, the one installed last is
        used. A client made in the block keeps using this fake afterwards.

        Any other client, one made before or with a `transport=` of its own, might send to the real
        server. Its calls raise `RuntimeError`, unless `allow_network` is true, or it calls a
        loopback address. Raises `RuntimeError` if another thread has installed another fake.
        """
        with self.lock:
            self._keys.accept_unknown_keys()
        with override_transport(self, allow_network=allow_network):
            yield self

    def transport(self) -> Transport:
        """Return a new transport to this fake, for a sync client."""
        return MemoryTransport(self)

    def async_transport(self) -> AsyncTransport:
        """Return a new transport to this fake, for an async client."""
        return AsyncMemoryTransport(self)

    def close(self) -> None:
        """End the test: warn of scripts that were never used, with `UnusedScriptWarning`.

        A scripted workflow, agent, knowledge base or trigger is unused if no request read it. An
        answer of an agent is unused if an earlier one was sent, but not this one. A fault is unused
        if fewer than `times` requests met it and it was not disarmed, or if a stream that it should
        break has not lost its connection. With `strict`, raises `AssertionError` instead. Closing
        twice is harmless.
        """
        with self.lock:
            unused = self._forget_scripts()
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

    def _catch_up(self) -> None:
        if isinstance(self.clock, RealClock):
            self.clock.catch_up()


class PollLoopDetector:
    """Fails a test that polls in a loop while virtual time stands still: it would never end."""

    def __init__(self) -> None:
        self._time = -math.inf
        self._counts = Counter[Tuple[object, ...]]()

    def note(self, request: Request, now: float) -> None:
        """Count a request. Raise `AssertionError` if it seems part of a loop that never ends.

        The limits are for equal GETs while virtual time stands still. If the response depends on
        the time, one task may make `MAX_POLLS` of them, and all tasks of one thread together
        `MAX_REPEATED`. If it does not, one task may make `MAX_REPEATED`.
        """
        if now != self._time:
            self._time = now
            self._counts.clear()
        if request.method != "GET":
            return
        path, thread = path_below_root(request.url), threading.current_thread()
        changes = _CHANGES.match(path)
        asked = self._count(thread, current_task(), request.url)
        by_all = self._count(thread, self, request.url) if changes else 0
        if asked > (MAX_POLLS if changes else MAX_REPEATED) or by_all > MAX_REPEATED:
            raise AssertionError(
                f"GET {path} was requested {max(asked, by_all)} times while virtual time stood "
                f"still at {now:g} s: a loop that polls and sleeps by itself never ends. Wait "
                "with client.executions.wait_for_completion(...), let time pass with "
                'fake.clock.advance(seconds), or test it with FakeFlowMaestro(time="real")'
            )

    def _count(self, *caller: object) -> int:
        self._counts[caller] += 1
        return self._counts[caller]

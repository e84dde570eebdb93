"""What holds for a machine whatever happens, in whatever order: a stateful property test.

Hypothesis picks which of the events that the present action allows happens next, with arbitrary
arguments, and tries events that do not belong. `Stepper` checks each step; subclasses add what is
theirs.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, ClassVar, FrozenSet, Optional, Tuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flowmaestro_core.actions import EVENTS, Action
from flowmaestro_core.http.messages import Headers, Phase, Response, ResponseHead
from tests.harness.core.stepping import Report, Stepper, a_failure

moments = st.one_of(
    st.none(), st.sampled_from([0.0, 1e-6, 0.2]), st.floats(0, 400, allow_nan=False)
)
"""Seconds until the next event; `None` for just what the action asks for."""

rng = st.floats(0, 1, exclude_max=True)
failures = st.builds(a_failure, st.sampled_from(Phase), timed_out=st.booleans())

durations = st.one_of(
    st.sampled_from(["0", "1", "0.5", "59", "61", "86400", "-1", "nan", "inf", "1e400", "soon"]),
    st.sampled_from(["Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 09:49:37 GMT", "", "²"]),
    st.floats(0, 100).map(str),
)
header_fields = st.one_of(
    st.tuples(st.just("Retry-After"), durations),
    st.tuples(st.just("retry-after-ms"), durations),
    st.tuples(
        st.just("Location"),
        st.sampled_from(
            ["/elsewhere", "", "https://api.test/x", "https://evil.test/x", "http://[", "//a:b/"]
        ),
    ),
    st.sampled_from(
        [
            ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("X-RateLimit-Limit", "60"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "784111790"),
            ("X-RateLimit-Reset", "999999999999999999"),
            ("X-Request-ID", "req_2"),
        ]
    ),
)
headers = st.lists(header_fields, max_size=4).map(Headers)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
statuses = st.one_of(
    st.sampled_from([200, 200, 201, 202, 204]),
    st.sampled_from([408, 429, 429, 500, 501, 502, 503, 503, 504]),
    st.sampled_from([301, 304, 307, 400, 401, 403, 404, 409, 422, 100, 700]),
)


def responses(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[Response]:
    """Replies of every kind, with one of `bodies` or anything."""
    return st.builds(Response, statuses, headers, st.one_of(bodies, bodies, st.binary(max_size=9)))


def heads() -> st.SearchStrategy[ResponseHead]:
    """Heads of replies to a request for events; every other opens a stream."""
    kinds = st.sampled_from(["text/event-stream", "Text/Event-Stream; charset=x", "text/html", ""])
    opened = st.builds(
        ResponseHead, st.just(200), st.just(Headers({"content-type": "text/event-stream"}))
    )
    other = st.builds(
        lambda status, fields, kind: ResponseHead(
            status, Headers((*fields.pairs, ("Content-Type", kind)))
        ),
        statuses,
        headers,
        kinds,
    )
    return st.one_of(opened, other)


class MachineProperties(RuleBasedStateMachine):
    """Subclasses say how to `make` a stepper, and of what the world is made."""

    responses: ClassVar[st.SearchStrategy[Response]] = responses(st.just(b"{}"))
    heads: ClassVar[st.SearchStrategy[ResponseHead]] = heads()
    chunks: ClassVar[st.SearchStrategy[bytes]] = st.binary(min_size=1, max_size=30)

    def __init__(self) -> None:
        super().__init__()
        self.stepper = self.make()

    def make(self) -> Stepper:
        raise NotImplementedError

    def check(self) -> None:
        """What this machine promises besides."""

    @invariant()
    def keeps_its_promises(self) -> None:
        self.check()

    def happens(self, event: str, *args: Any, after: Optional[float], jitter: float) -> None:
        self.stepper.jitter = jitter
        self.stepper.report(Report(event, args, after))

    @property
    def expected(self) -> Tuple[str, ...]:
        """The events that the present action allows."""
        action: Optional[Action] = self.stepper.action
        return ("start",) if action is None else EVENTS[type(action)]

    @initialize(avoided=st.frozensets(st.sampled_from(sorted({*chain(*EVENTS.values())}))))
    def some_events_are_avoided(self, avoided: FrozenSet[str]) -> None:
        """Without the events that end a stream, for example, streams are long."""
        self.avoided = avoided

    @rule(data=st.data(), after=moments, jitter=rng)
    def something_happens(self, data: st.DataObject, after: Optional[float], jitter: float) -> None:
        self.stepper.refuses_all_but_expected()
        if not self.expected:
            return
        wanted = [it for it in self.expected if it not in self.avoided]
        event = data.draw(st.sampled_from(wanted or self.expected))
        arguments = {
            "response_received": self.responses,
            "transport_failed": failures,
            "stream_opened": self.heads,
            "bytes_received": self.chunks,
        }
        args = (data.draw(arguments[event]),) if event in arguments else ()
        self.happens(event, *args, after=0.0 if event == "start" else after, jitter=jitter)


def collected(machine: type) -> Any:
    """The class for pytest to collect, with a number of examples that a test run can bear."""
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(max_examples=15, stateful_step_count=40, deadline=None, database=None)
    return case

"""Injected faults: error responses, lost connections, latency."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Callable, Dict, List, Optional, Tuple

from flowmaestro.testing.fake.model.refusals import Refusal, lacking_scopes, not_found
from flowmaestro.testing.fake.model.replies import EventStream
from flowmaestro.testing.fake.model.requests import Pattern
from flowmaestro.testing.fake.model.routing import EndpointRoute

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_CODES = {
    400: "validation_error",
    401: "invalid_api_key",
    402: "insufficient_credits",
    403: "insufficient_scope",
    404: "resource_not_found",
    408: "timeout",
    422: "validation_error",
    429: "rate_limit_exceeded",
    500: "internal_error",
    502: "service_unavailable",
    504: "service_unavailable",
}
"""Error codes that differ from the reason phrase of their status (`docs/api-facts.md`).

As on the deployed server, the body of a 402 has another JSON form than the other errors.
"""


@dataclass
class Fault:
    """A fault for the next `times` requests that fit `pattern`. Each lowers `times` by 1.

    With a `status`, these requests are answered with that error and not carried out. With only a
    `delay`, they are answered as usual, `delay` seconds later. Otherwise they are carried out and
    the connection is lost: before the response, or with `after_events`, after that many events of
    a stream. A fault with `after_events` is only for requests that are answered with a stream.
    """

    pattern: Pattern
    times: int
    status: Optional[int] = None
    retry_after: Optional[float] = None
    after_events: Optional[int] = None
    delay: float = 0.0
    """Seconds by which the response is delayed."""

    @property
    def drops(self) -> bool:
        """Whether the connection is lost before the response."""
        return self.status is None and self.after_events is None and not self.delay

    @property
    def effect(self) -> str:
        """The effect on one request, in words."""
        if self.status is not None:
            return f"status {self.status}"
        if self.after_events is not None:
            events = "event" if self.after_events == 1 else "events"
            return f"a stream dropped after {self.after_events} {events}"
        return f"a response {self.delay:g} s late" if self.delay else "a dropped connection"

    def __str__(self) -> str:
        times = "once" if self.times == 1 else f"{self.times} times"
        return f"{self.effect} for {self.pattern}, {times}"

    def refusal(
        self, status: int, asked: Optional[Tuple[EndpointRoute, Dict[str, str]]]
    ) -> Refusal:
        """Return the error response of this fault, with `status`.

        `asked` is the endpoint with the ids in its path; `None` if no endpoint fits. A 403 for an
        endpoint, a 404 for a path with an id, and a 429 with `retry_after` have details like those
        of a real one. Other responses have none.
        """
        route, ids = asked or (None, {})
        if status == 403 and route is not None:
            refusal = lacking_scopes(route.scopes, ())
        elif status == 404 and route is not None and ids:
            kind = route.template.split("/")[1].removesuffix("s").replace("-", " ")
            refusal = not_found(kind, next(iter(ids.values())))
        else:
            phrase = _PHRASES.get(status, f"Status {status}")
            code = _CODES.get(status, phrase.lower().replace(" ", "_"))
            refusal = Refusal(status, code, phrase, layer="outer" if status == 402 else "api")
        if self.retry_after is not None:
            refusal.headers = (("Retry-After", _decimal(self.retry_after)),)
            if status == 429:
                refusal.details = {
                    "limit": 60,
                    "window": "minute",
                    "retry_after": self.retry_after,
                }
        return refusal


def _decimal(seconds: float) -> str:
    """Return a number of seconds with at most six decimals.

    It has no exponent, because RFC 9110, 10.2.3, allows none.
    """
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


class Faults:
    """The faults to inject, and the latency of every response."""

    STATE = ("latency", "_pending")

    def __init__(self) -> None:
        self.latency: float = 0.0
        self.listener: Callable[[Fault], None] = lambda _fault: None
        """Called with the fault for each request that a fault affects, before the response."""
        self._pending: List[Fault] = []
        self._breaking: List[Tuple[int, EventStream]] = []

    def add(self, fault: Fault) -> None:
        """Add a fault at the end of the queue."""
        self._pending.append(fault)

    def next_fault(self, method: str, path: str) -> Optional[Fault]:
        """Return the first fault of the queue that fits a request; `None` if there is none.

        Its `times` are lowered by 1; at 0, the fault leaves the queue. Faults with `after_events`
        are skipped, because they are for `break_stream`.
        """
        return self._next(method, path, of_streams=False)

    def break_stream(self, method: str, path: str, stream: EventStream) -> None:
        """Let `stream` lose its connection after some events, if there is a fault for that.

        This is the first fault with `after_events` that fits `method` and `path`, those of the
        request for the stream. Does nothing if there is no such fault.
        """
        fault = self._next(method, path, of_streams=True)
        if fault is not None and fault.after_events is not None:
            stream.break_after(fault.after_events)
            self._breaking.append((fault.after_events, stream))

    @property
    def pending(self) -> List[Fault]:
        """The faults that wait for at least one more request."""
        return list(self._pending)

    def disarm(self, fault: Fault) -> None:
        """Remove `fault`, so that it affects no further request."""
        self._pending = [each for each in self._pending if each is not fault]

    def drain_unused(self) -> List[str]:
        """Describe and forget the faults that have not happened.

        These are the pending faults, and streams that a fault was to break and that are not broken
        so far. Such a stream will still break if it gets as far.
        """
        missed = [str(fault) for fault in self._pending]
        missed += [
            f"a stream dropped after {events} events, before which it ended or was left"
            for events, stream in self._breaking
            if not stream.broken
        ]
        self._pending, self._breaking = [], []
        return missed

    def _next(self, method: str, path: str, *, of_streams: bool) -> Optional[Fault]:
        for fault in self._pending:
            its_kind = (fault.after_events is not None) is of_streams
            if its_kind and fault.pattern.fits(method, path):
                fault.times -= 1
                if not fault.times:
                    self._pending.remove(fault)
                self.listener(fault)
                return fault
        return None

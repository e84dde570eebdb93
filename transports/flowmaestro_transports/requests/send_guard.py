"""A guard that sends no request after its deadline, and none on a closed transport.

It acts where urllib3 reads the header fields: right before the request is written. Reads the clock.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Dict

from requests.structures import CaseInsensitiveDict

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.failures import closed, too_slow


class TooLate(Exception):
    """The deadline of a request had passed, or `close` was called, before it would be sent.

    Not an `OSError`, which urllib3 would take for an error of the connection.
    """


class SendGuard:
    """Refuses to send a request after its deadline or after `close`.

    Inactive once `over` is True.
    """

    def __init__(self, deadline: float, closing: threading.Event) -> None:
        self.over: bool = False
        self._deadline = deadline
        self._closing = closing
        self._reads = 0  # how often values of the header fields were read
        self._timed_out = False  # whether the deadline was the reason

    def check(self) -> None:
        """Check that the request may still be sent, and count the check.

        Called whenever values of the header fields are read, which also happens right before the
        request is written. Raises `TooLate` if the deadline has passed or the transport was closed.
        Does not raise once `over` is True: after a refusal, and once the head of the response has
        come or the sending has failed.
        """
        self._reads += 1
        if self.over:
            return
        self._timed_out = time.monotonic() >= self._deadline
        if self._timed_out or self._closing.is_set():
            self.over = True
            raise TooLate

    def failure(self) -> TransportFailure:
        """Return the failure for a request that `check` has refused, with its phase.

        `check` runs at each read of the header fields, and the request cannot be written before the
        first of them. So if `check` refused the first read, the request was not sent. If it refused
        a later one, the request may have been sent: an adapter of the session may log the fields of
        a request that it has sent. It may also log them before; then *maybe processed* is cautious.
        """
        phase = Phase.NOT_SENT if self._reads == 1 else Phase.MAYBE_PROCESSED
        return too_slow(phase) if self._timed_out else closed(phase)


class CheckedHeaders(CaseInsensitiveDict[Any]):
    """Header fields that refuse to be sent after the deadline or after `close`.

    Reading a value calls `check` of the request's `SendGuard`, which may raise `TooLate`. urllib3
    reads the items right before it writes the request. A new connection is made before that with
    TLS, and after that without TLS. Until then, requests and urllib3 read names only.
    """

    def __init__(self, data: Any, guard: SendGuard) -> None:
        super().__init__(data)
        self._guard = guard

    def __getitem__(self, name: str) -> Any:
        self._guard.check()
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in map(str.lower, self)

    def items(self) -> Any:
        self._guard.check()
        return self._fields().items()

    def lower_items(self) -> Any:
        return ((name.lower(), value) for name, value in self.items())

    def copy(self) -> CheckedHeaders:
        """Return a copy that checks the deadline, too: urllib3 sends a copy of the fields."""
        return CheckedHeaders(self._fields(), self._guard)

    def _fields(self) -> Dict[str, Any]:
        """Return the fields. Do not check the deadline."""
        value_of = super().__getitem__
        return {name: value_of(name) for name in self}

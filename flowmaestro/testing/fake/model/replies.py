"""The responses of the model: whole, at once or later, or a stream of events.

The model never makes a driver (see `EventStream`) wait. A driver reads the data that there are so
far (`FakeReply.ready`, `EventStream.poll`), and reads again when the model calls `wake`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Protocol, Union

from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.refusals import Refusal
from flowmaestro_core.http.messages import Headers, Phase, TransportFailure

JsonObject = Dict[str, Any]

KEEPALIVE_SECONDS = 30.0
"""Seconds between two comments of the server on a stream (`docs/api-facts.md`)."""
LINGER_SECONDS = 0.5
"""Seconds that a stream stays open after its last event."""


@dataclass(frozen=True)
class Answer:
    """A response that is not a stream. It has no body if `body` is `None`."""

    status: int
    body: Optional[JsonObject] = None


Respond = Callable[[Union[Answer, Refusal]], None]
Later = Callable[[Respond], None]
"""An answer that comes later: a function that is called with a `Respond`, the function to call with
the answer. Only the first call of a `Respond` has an effect."""


class EventStream:
    """An open event stream, with methods for the modelled service and for its driver.

    The driver is what serves the model: the server on a port or the memory transport. The service
    calls `publish` and `finish`. The driver calls `poll`, and `close` when it has read everything
    or has lost the connection. The driver may set `wake` to a function, which is called when there
    is new data, or the end. A keepalive comment is sent every 30 seconds until `finish` or `close`.
    """

    def __init__(self, model_time: ModelTime) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.closed: bool = False
        self.broken: bool = False
        """Whether the reader has reached the event after which a fault loses the connection."""
        self._model_time = model_time
        self._outbox: List[bytes] = []
        self._finishing = False
        self._ended = False
        self._events_left = math.inf
        model_time.schedule(KEEPALIVE_SECONDS, self._keep_alive)

    def publish(self, name: str, data: JsonObject) -> None:
        """Send one event, with `name` in its `event:` field.

        Does nothing after `finish` or `close`, or if a fault lets no more events pass.
        """
        if not self._finishing and self._events_left > 0:
            self._events_left -= 1
            self._write(b"event: %s\ndata: %s\n\n" % (name.encode(), encode(data)))

    def finish(self) -> None:
        """Schedule the end of the body for half a second after the first call of this method."""
        if not self._finishing:
            self._finishing = True
            self._model_time.schedule(LINGER_SECONDS, self._end)

    def break_after(self, events: int) -> None:
        """Lose the connection after this many events, counted from the last `poll`.

        Events that were published since that `poll` count. Events beyond them are never sent.
        """
        self._events_left = max(0, events - len(self._outbox))
        del self._outbox[events:]

    def poll(self, now: float) -> Optional[bytes]:
        """Advance time to `now`. Return the new bytes, `None` if there are none, `b""` at the end.

        Raises `TransportFailure` when the connection is lost.
        """
        with self._model_time.lock:
            self._model_time.advance(now)
            data = b"".join(self._outbox)
            self._outbox.clear()
            self.broken = not self._events_left
            self.closed = self.closed or self._ended or self.broken
            if self.broken and not data:
                raise TransportFailure(Phase.REPLY_BROKEN, "the connection was lost")
            return data if data or self._ended else None

    def close(self) -> None:
        """Close the stream: no further data is sent."""
        with self._model_time.lock:
            self.closed = True
            self._outbox.clear()

    def _write(self, data: bytes) -> None:
        if not self.closed:
            self._outbox.append(data)
            self.wake()

    def _keep_alive(self) -> None:
        if not (self.closed or self._finishing or not self._events_left):
            self._write(b": keepalive\n\n")
            self._model_time.schedule(KEEPALIVE_SECONDS, self._keep_alive)

    def _end(self) -> None:
        self._ended = True
        self.wake()


class Source(Protocol):
    """An object whose data a driver (see `EventStream`) waits for.

    The driver sets `wake`. The object calls it when it has data or has ended.
    """

    wake: Callable[[], None]


class PolledBody(Source, Protocol):
    """A body that is sent piece by piece, such as `EventStream`."""

    closed: bool

    def poll(self, now: float) -> Optional[bytes]:
        """Return the next bytes; `None` if none have come yet, `b""` at the end of the body.

        Further bytes may be there already, for the next call. Raises `TransportFailure` if a fault
        has ended the connection.
        """
        ...

    def close(self) -> None:
        """Close the body: no further data is sent."""
        ...


class FakeReply:
    """The fake's response to one request.

    While `ready` is false, the driver (see `EventStream`) must advance time or carry out the
    webhook deliveries that are due. `wake` is called when the response becomes ready. Then `status`
    and `headers` are final, and the body is either `body` or `stream`. If there is a `failure`, the
    driver must close the connection without a response.
    """

    def __init__(self) -> None:
        self.ready: bool = False
        self.status: int = 0
        self.headers: Headers = Headers()
        self.body: bytes = b""
        self.stream: Optional[PolledBody] = None
        self.failure: Optional[TransportFailure] = None
        self.lost: bytes = b""
        """The body of a response that a fault has lost. The inspector reads it; no client gets it.
        """
        self.wake: Callable[[], None] = lambda: None
        self._abandoned = False

    def complete(
        self,
        status: int,
        headers: Headers,
        *,
        body: bytes = b"",
        stream: Optional[PolledBody] = None,
    ) -> None:
        """Set the response, whole or as a stream, and wake the driver."""
        self.status, self.headers, self.body, self.stream = status, headers, body, stream
        self.ready = True
        if self._abandoned:
            self.abandon()
        self.wake()

    def fail(self, failure: TransportFailure) -> None:
        """Set a failure instead of a response, and wake the driver."""
        self.failure = failure
        self.complete(0, Headers())

    def abandon(self) -> None:
        """Close the body, now or as soon as there is one, because the client has left."""
        self._abandoned = True
        if self.stream is not None:
            self.stream.close()


_ASCII = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def encode(value: JsonObject) -> bytes:
    """Return JSON as the service writes it: compact, with non-ASCII characters as they are.

    If `value` has a lone surrogate, every non-ASCII character is escaped.
    """
    try:
        return _JSON.encode(value).encode()
    except UnicodeEncodeError:  # UTF-8 has no lone surrogates; JSON can escape them.
        return _ASCII.encode(value).encode()

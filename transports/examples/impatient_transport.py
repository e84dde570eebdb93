"""What a sync transport is made of besides its HTTP stack, where that is not patient."""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from impatient_body import ImpatientBody

from flowmaestro_transports import Request, Response, TransportClosedError

P = TypeVar("P")


class ImpatientTransport(ABC, Generic[P]):
    """Two pools of the caller's: for calls, and for open bodies, which take no place of calls."""

    patient = False

    def __init__(self, calls: P, streams: P) -> None:
        self._calls, self._streams, self._closed = calls, streams, False
        self._bodies: weakref.WeakSet[ImpatientBody] = weakref.WeakSet()

    def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        body = self._begin(self._calls, request, timeout)
        return Response(body.status, body.headers, body.read_whole(end))

    def open(self, request: Request, timeout: float) -> ImpatientBody:
        return self._begin(self._streams, request, timeout)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._closed = True
        for body in list(self._bodies):
            body.close()
        self.close_pool(self._calls)
        self.close_pool(self._streams)

    def _begin(self, pool: P, request: Request, timeout: float) -> ImpatientBody:
        if self._closed:
            raise TransportClosedError
        body = self.begin(pool, request, timeout)
        self._bodies.add(body)
        if self._closed:  # meanwhile
            body.close()
        return body

    @abstractmethod
    def begin(self, pool: P, request: Request, timeout: float) -> ImpatientBody: ...
    @abstractmethod
    def close_pool(self, pool: P) -> None: ...

"""The dispatcher: it injects faults, checks key, scopes and body, and calls the endpoint."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from decimal import Decimal
from functools import partial
from typing import Any, Deque, List, Optional, Tuple, Union, cast
from urllib.parse import urlsplit

from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.faults import Faults
from flowmaestro.testing.fake.model.keys import KeyRing
from flowmaestro.testing.fake.model.refusals import Refusal, invalid, no_route, unreadable
from flowmaestro.testing.fake.model.replies import (
    Answer,
    EventStream,
    FakeReply,
    JsonObject,
    encode,
)
from flowmaestro.testing.fake.model.requests import LoggedRequest, limited_size, path_below_root
from flowmaestro.testing.fake.model.routing import Outcome, find_route, query_of
from flowmaestro.testing.fake.model.service import Service
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure

MAX_BODY_BYTES = 1024 * 1024
"""The most bytes of the body of a request, as on the deployed server (`docs/api-facts.md`)."""
MAX_LOGGED_BYTES = 64 * 1024 * 1024
"""Bytes of the bodies, long URLs and long header fields of all requests that are stored after
`keep_last`."""

HeaderPairs = List[Tuple[str, str]]

_LONG_NUMBER = re.compile(rb"\d{16}")
"""What each integer has that is not the same in JavaScript: 2 ** 53 has 16 digits."""

_STREAM_HEADERS = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("Connection", "keep-alive"),
    ("X-Accel-Buffering", "no"),
)
"""The deployed server sends no rate limits and no request id with the head of a stream."""


class Dispatcher:
    """Answers requests, one at a time: with a fault, a refusal, or what the endpoint returns.

    The caller must hold the lock of the model.
    """

    def __init__(self, service: Service, keys: KeyRing, faults: Faults) -> None:
        self._service = service
        self._model_time = service.model_time
        self._dialect = service.dialect
        self._keys = keys
        self._faults = faults
        self.requests: Deque[LoggedRequest] = deque()
        """The requests, in the order in which they arrived; after `keep_last`, only the latest."""
        self._most = math.inf
        self._logged_bytes = 0

    def keep_last(self, most: int) -> None:
        """Store only the last `most` requests from now on.

        Store fewer if their bodies, long URLs and long header fields have more than
        `MAX_LOGGED_BYTES`.
        """
        self._most = most
        self._logged_bytes = sum(limited_size(logged.request) for logged in self.requests)
        self._trim()

    def take(self, request: Request) -> FakeReply:
        """Handle one request. Return its response, which may become ready later."""
        request_id = self._dialect.request_ids + self._service.new_id()
        gateway_id = request.headers.get("x-request-id") or self._service.new_id()
        trace = ("X-Trace-ID", self._service.new_id())
        headers: HeaderPairs = [("X-Request-ID", gateway_id), trace]
        logged = LoggedRequest(request, self._model_time.now)
        self.requests.append(logged)
        if self._most < math.inf:
            self._logged_bytes += limited_size(request)
            self._trim()
        path = path_below_root(request.url)
        fault = self._faults.next_fault(request.method, path)
        reply = FakeReply()

        def arrive(outcome: Union[Answer, Refusal, EventStream]) -> None:
            if reply.ready:
                return
            if fault is not None and fault.drops:
                if isinstance(outcome, EventStream):
                    outcome.close()
                elif isinstance(outcome, Answer) and outcome.body is not None:
                    reply.lost = encode(outcome.body)
                message = "the connection was closed unanswered"
                reply.fail(TransportFailure(Phase.MAYBE_PROCESSED, message))
            elif isinstance(outcome, EventStream):
                date = ("Date", self._model_time.http_date())
                reply.complete(200, Headers([*_STREAM_HEADERS, date, trace]), stream=outcome)
            else:
                head_only = request.method == "HEAD"
                self._complete(reply, outcome, headers, request_id, head_only=head_only)
            logged.status = reply.status or None

        def respond(outcome: Union[Answer, Refusal, EventStream]) -> None:
            late = self._faults.latency + (0.0 if fault is None else fault.delay)
            if late:
                self._model_time.schedule(late, partial(arrive, outcome))
            else:
                arrive(outcome)

        try:
            if fault is not None and fault.status is not None:
                asked = find_route(ROUTES, request.method, request.url)
                raise fault.refusal(fault.status, asked)
            outcome = self._answer(request, headers)
        except Refusal as refusal:
            respond(refusal)
            return reply
        if callable(outcome):
            outcome(respond)
        else:
            if isinstance(outcome, EventStream):
                self._faults.break_stream(request.method, path, outcome)
            respond(outcome)
        return reply

    def _trim(self) -> None:
        while len(self.requests) > self._most or self._logged_bytes > MAX_LOGGED_BYTES:
            self._logged_bytes -= limited_size(self.requests.popleft().request)

    def _answer(self, request: Request, headers: HeaderPairs) -> Outcome:
        found = find_route(ROUTES, request.method, request.url)
        if found is None:
            raise no_route(request.method, urlsplit(request.url).path)
        route, ids = found
        key = self._keys.identify(request.headers)
        try:
            key.admit(self._model_time.now, self._keys.limits)
        finally:
            resets_at = self._model_time.wall(key.minute.ends)
            headers += key.limit_headers(resets_at, self._keys.limits)
        body = self._json(request)
        key.require(route.scopes)
        try:
            return route.handler(self._service, EndpointRequest(ids, query_of(request.url), body))
        except Refusal as refusal:
            if refusal.is_no_route:  # The server has no rate limits outside of its routes.
                headers[:] = [it for it in headers if not it[0].startswith("X-RateLimit-")]
            raise

    def _json(self, request: Request) -> JsonObject:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if len(request.body) > MAX_BODY_BYTES:
            message, code = "Request body is too large", "FST_ERR_CTP_BODY_TOO_LARGE"
            raise unreadable(413, message, code)
        if not request.body:
            if media_type == "application/json" and not self._dialect.accepts_any_json:
                raise invalid("Request body must be an object")
            return {}
        if media_type == "text/plain" and self._dialect.accepts_text:
            return {}
        if media_type != "application/json":
            message, code = (
                f"Unsupported Media Type: {media_type}",
                "FST_ERR_CTP_INVALID_MEDIA_TYPE",
            )
            raise unreadable(415, message, code)
        try:
            value: object = json.loads(
                request.body,
                parse_constant=_refuse_constant,
                # A function is called for each number. 1 MiB may have 500,000.
                parse_int=_as_in_javascript if _LONG_NUMBER.search(request.body) else None,
                parse_float=_as_in_javascript,
            )
        except (ValueError, RecursionError) as error:
            raise unreadable(500, str(error)) from None
        if isinstance(value, dict):
            return cast("JsonObject", value)
        if not self._dialect.accepts_any_json:
            raise invalid("Request body must be an object")
        return {}

    def _complete(
        self,
        reply: FakeReply,
        answer: Union[Answer, Refusal],
        headers: HeaderPairs,
        request_id: str,
        *,
        head_only: bool,
    ) -> None:
        pairs = [("Date", self._model_time.http_date()), *headers]
        if isinstance(answer, Refusal):
            body: Optional[JsonObject] = self._dialect.refusal(answer, request_id)
            pairs += answer.headers
        elif answer.body is None:
            body = None
        else:
            body = {**answer.body, "meta": self._dialect.meta(request_id)}
        if body is None:
            reply.complete(answer.status, Headers(pairs))
            return
        data = encode(body)
        pairs.insert(0, ("Content-Type", "application/json; charset=utf-8"))
        if head_only:
            pairs.append(("Content-Length", str(len(data))))
        reply.complete(answer.status, Headers(pairs), body=b"" if head_only else data)


def _as_in_javascript(digits: str) -> Union[int, float, None]:
    """Return the number that JavaScript, which has only doubles, reads from `digits` in JSON.

    Return `None`, for null, if the number is too large for a double.
    """
    if len(digits) < 16 and digits.lstrip("-").isdigit():
        return int(digits)
    value = float(digits)
    if math.isinf(value):
        return None
    if not value.is_integer() or abs(value) >= 1e21:
        return value
    # `Decimal` is slow: 1 MiB of short numbers took 0.38 s with it, and takes 0.07 s without.
    return int(value) if abs(value) < 2**53 else int(Decimal(repr(value)))


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"Unexpected token {constant} in JSON")

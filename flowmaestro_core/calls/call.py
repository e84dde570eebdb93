"""One API call: its request, its reply, and the machine that sends it with retries."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import (
    Any,
    Callable,
    ClassVar,
    Coroutine,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
)

from flowmaestro_core.actions import Action, Done, Fail, Open, Read, Send
from flowmaestro_core.arguments import check_token
from flowmaestro_core.calls.what_to_check import what_to_check
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    ConnectionError,
    FlowMaestroError,
    NotFoundError,
    ServerError,
    TimeoutError,
)
from flowmaestro_core.http.messages import (
    Fields,
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import host_of, origin, resolve
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.payloads.json_values import JsonObject, list_or_empty
from flowmaestro_core.payloads.reply import (
    NonJsonBody,
    Reply,
    Shape,
    decode_json,
    error_from_response,
    is_daily_quota_error,
    request_id_of,
)
from flowmaestro_core.policy.retry import (
    RETRYABLE_STATUSES,
    GiveUp,
    Retries,
    is_rejected_unprocessed,
    maybe_processed,
)
from flowmaestro_core.timeouts import at_most

R = TypeVar("R")

MAX_REDIRECTS = 5
"""A GET is redirected so often at most. A gateway may redirect to https, to another path and to one
with a slash at its end; a longer chain is a loop."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Confirmation(NamedTuple):
    """The proof that a call took effect, if the server refuses a retry with `refusal`.

    An earlier attempt may have taken effect, and may be the reason for the refusal. `refusal` is an
    HTTP status. `ask` is another call, whose reply shows whether the first call took effect: if
    `confirms(reply)` is true, that reply becomes the result of the first call. Without `ask`, the
    refusal itself is taken as the proof, and `confirms` is not called.
    """

    refusal: int
    ask: Optional[Call[Any]] = None
    confirms: Callable[[Any], bool] = bool

    def is_refusal(self, error: FlowMaestroError) -> bool:
        """Return whether `error` has the status `refusal`, and no body or one that is JSON.

        Any other body may be an error page of a proxy.
        """
        return error.status_code == self.refusal and not isinstance(error.details, NonJsonBody)


@dataclass
class Call(Operation[R, Coroutine[Any, Any, R]]):
    """One request and its reply. Not frozen, for the reason that `actions.py` gives.

    Attributes:
        method, path, body: of the request; `path` is below the API root, encoded, with its query.
        repeatable: whether the request may be sent twice without harm. The HTTP method does not say
            so: a search is a POST without effect, but each POST that starts an execution starts
            another one.
        shape: adds to the decoded reply the keys that its type declares and the server did not
            send (`payloads/shapes.py`).
        keep: for a filter that the server ignores: returns whether an item fits it. Items that do
            not fit are left out of the reply. `None` for all other calls.
        minimum_timeout: seconds that one attempt gets at least, unless the caller set a timeout
            for the call, or its deadline comes sooner.
        idempotency_key: sent as `Idempotency-Key`. If `None`, a POST sends a random text, the same
            on each attempt.
        confirmation: how to find out whether the call took effect, if a retry is refused after an
            attempt that may have taken effect. If `None`, the refusal is raised.
        enveloped: whether the reply must have a `data` of the type `data_type`. Any other reply is
            then an error. JSON that is not an object counts as `data`.
        data_type: the type of that `data`, `dict` or `list`.
        secrets: pairs of name and value within the body, such as header fields. Errors redact the
            values whose names may be those of credentials, as `SecretScrubber` does.

    """

    method: str
    path: str
    body: bytes = b""
    repeatable: bool = True
    shape: Optional[Shape] = None
    keep: Optional[Callable[[Any], bool]] = None
    minimum_timeout: float = 0.0
    idempotency_key: Optional[str] = None
    confirmation: Optional[Confirmation] = None
    enveloped: bool = True
    data_type: Type[Any] = dict
    secrets: Fields = ()

    def __post_init__(self) -> None:
        if self.idempotency_key is not None:
            check_token("idempotency_key", self.idempotency_key)

    def __repr__(self) -> str:
        """Return a repr that redacts the query's values, except a few such as that of `page`."""
        return f"<Call {self.method} {showable_url(self.path)}>"

    def request(
        self,
        options: ClientOptions,
        token: str,
        *own: Tuple[str, str],
        stream: bool = False,
        max_reply_size: Optional[int] = None,
    ) -> Request:
        """Return the request of this call.

        `token`, a random text, is the `Idempotency-Key` of a POST without an `idempotency_key`.
        `own` are further header fields. With `stream`, the request asks for an event stream.
        `max_reply_size` is that of the `Request`.

        Header fields of the client's options replace those that the SDK sends with every call.
        `own` and `idempotency_key` replace those of the options.
        """
        fields: Fields = _ACCEPT_EVENTS if stream else _ACCEPT_JSON
        if self.body:
            fields += (("Content-Type", "application/json"),)
        if self.idempotency_key is not None:
            own = (("Idempotency-Key", self.idempotency_key), *own)
        elif self.method == "POST":
            fields += (("Idempotency-Key", token),)
        if own or self.method == "POST":
            headers = options.request_headers(*fields, call=own)
        else:
            headers = options.standing_headers(fields)
        url = options.api_root + self.path
        return Request(self.method, url, headers, self.body, max_reply_size)

    def reply(self, response: Response, attempts: int = 1) -> R:
        """Return the reply in a successful response, in the form that callers get.

        `attempts` is the number of attempts that the call took. Raises `ServerError` (code
        `invalid_response`) if the body is not JSON, or if `data` is not as `enveloped` demands.
        """
        try:
            decoded = decode_json(response.body) if response.body else {"data": None}
        except ValueError as error:
            raise _invalid_response("is not JSON", response) from error.with_traceback(None)
        body = cast("JsonObject", decoded if isinstance(decoded, dict) else {"data": decoded})
        if self.shape is not None:
            self.shape(body)
        if self.enveloped and not isinstance(body.get("data"), self.data_type):
            raise _invalid_response(f'has no {self.data_type.__name__} as its "data"', response)
        if self.keep is not None:
            body["data"] = list(filter(self.keep, list_or_empty(body.get("data"))))
        reply: Reply[Any] = Reply(body)
        reply.status_code = response.status
        reply.headers = response.headers
        reply.attempts = attempts
        return cast("R", reply)


_NOT_RETRIED = "not retried: the server may have processed this non-idempotent request"
_ACCEPT_JSON = (("Accept", "application/json"), ("Accept-Encoding", "gzip, deflate"))
_ACCEPT_EVENTS = (
    ("Accept", "text/event-stream"),
    ("Accept-Encoding", "identity"),
    ("Cache-Control", "no-store"),
)


def _invalid_response(problem: str, response: Response) -> ServerError:
    return ServerError(
        f"The server's response {problem}; this API does not send such responses",
        "invalid_response",
        response.status,
        request_id_of(None, response.headers),
    )


def _too_large(response: Response, limit: int) -> ServerError:
    return ServerError(
        f"The server's response has more bytes than max_reply_size={limit}; "
        "create the client with a larger max_reply_size",
        "reply_too_large",
        response.status,
        request_id_of(None, response.headers),
    )


class _PartialResponse:
    """A response to `Open` that is not an event stream: its head, and the body read so far."""

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        self.body = bytearray()

    def response(self) -> Response:
        """Return a `Response` made of the head and of the body that was read."""
        return Response(self.head.status, self.head.headers, bytes(self.body))


class CallState(State):
    """The states of `CallMachine`."""

    READY = "ready"
    SENDING = "sending"
    """The request is sent, and its whole response received."""
    OPENING = "opening"
    """The request of an event stream is sent, and the head of its response received."""
    READING = "reading"
    """The body of a response is read that is not an event stream."""
    CLOSING = "closing"
    """Such a body is closed: it was too large, or its end did not come in time."""
    WAITING = "waiting"
    """The delay before the next attempt."""
    CONFIRMING = "confirming"
    """Another call finds out whether a refused one took effect."""
    DONE = "done"
    FAILED = "failed"


_S = CallState  # Short, for the table.


class CallMachine(Machine[Any]):
    """Makes one call: sends, follows redirects, retries, and reads the reply.

    With `stream`, it requests an event stream. If the response is one, the machine ends with its
    `ResponseHead` and leaves the body open. Any other body is read to its end, or closed if it is
    too large or the end does not come in time.

    `max_retries` replaces that of the client. A poll and a probe need no retries, because
    another poll or probe follows.

    `until_sent` is for a call that starts a run or a row of a batch. An attempt that was certainly
    not sent is then repeated until the deadline, whatever `max_retries` says, unless its failure is
    permanent, or the server has not answered this client before. In the latter case the base URL
    may be wrong, and the user must get the error within seconds.

    State that `TRANSITIONS` does not show: the attempts (`Retries`), the redirects that were
    followed, and whether an earlier attempt may have taken effect (`_maybe_done`). In the states
    `reading` and `closing` there is a partial response, in `confirming` a refusal.
    """

    # The values with which each call begins. Most calls change few of them, and each attribute that
    # `__init__` sets costs every call.
    _partial: Optional[_PartialResponse] = None
    """The response that is being read although it is not an event stream, if any."""
    _refusal: Optional[FlowMaestroError] = None
    """The refusal that is being confirmed, if any."""
    last_failure: Optional[FlowMaestroError] = None
    """The error of the last attempt, with all attempts so far, if another attempt follows. Only
    with `until_sent`."""
    send_before: float = math.inf
    """An attempt must be sent, and its response received, before this time: the timeout of each
    attempt is shortened to it."""
    _redirects: int = 0
    """How many redirects were followed, in all attempts."""
    _maybe_done: bool = False
    """Whether an earlier attempt may have taken effect."""
    _limit: float = math.inf
    """The timeout of the present attempt in seconds."""
    _until: float = math.inf
    """When the present attempt times out, redirects included."""
    _latest: float = math.inf
    """The deadline or `send_before`, whichever comes first, at the present attempt."""

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.SENDING, _S.OPENING)},
        _S.SENDING: {
            "response_received": (_S.SENDING, _S.WAITING, _S.CONFIRMING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.WAITING, _S.FAILED),
        },
        _S.OPENING: {
            "stream_opened": (_S.READING, _S.DONE),
            "transport_failed": (_S.WAITING, _S.FAILED),
        },
        _S.READING: {
            "bytes_received": (_S.READING, _S.CLOSING),
            "stream_quiet": (_S.CLOSING,),
            "stream_ended": (_S.OPENING, _S.WAITING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.OPENING, _S.WAITING, _S.FAILED),
        },
        _S.CLOSING: {"stream_closed": (_S.OPENING, _S.WAITING, _S.FAILED)},
        _S.WAITING: {"waited": (_S.SENDING, _S.OPENING)},
        _S.CONFIRMING: {
            "response_received": (_S.CONFIRMING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.CONFIRMING, _S.FAILED),
            "waited": (_S.CONFIRMING,),
        },
    }

    def __init__(
        self,
        call: Call[Any],
        context: Context,
        token: str,
        *,
        stream: bool = False,
        max_retries: Optional[int] = None,
        deadline: float = math.inf,
        until_sent: bool = False,
        headers: Fields = (),
    ) -> None:
        super().__init__(context, token)
        self._call = call
        self._stream = stream
        if max_retries is None:
            max_retries = context.options.max_retries
        self._retries = Retries(max_retries, context.budget)
        self._deadline = deadline
        self._until_sent = until_sent
        bound = None if stream else context.max_reply_size  # A stream is read in pieces.
        self._request = call.request(
            context.options, token, *headers, stream=stream, max_reply_size=bound
        )

    @event
    def start(self, now: float, jitter: float) -> Action:
        call_timeout = self._context.options.call_timeout
        if call_timeout is not None:
            self._deadline = min(self._deadline, now + call_timeout)
        return self._next(now, jitter)

    @event
    def response_received(self, response: Response, now: float, jitter: float) -> Action:
        return self._judge(response, now, jitter)

    @event
    def stream_opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self._context.server.has_answered = True
        kind = head.headers.get("content-type", "").partition(";")[0].strip()
        if head.status == 200 and kind.lower() == "text/event-stream":
            self._retries.succeeded()
            return self._done(head)
        self.state = CallState.READING
        self._partial = _PartialResponse(head)
        return Read(max(self._until - now, 0.001))

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        body = cast("_PartialResponse", self._partial).body
        body += data
        if now >= self._until or len(body) > self._context.max_reply_size:
            return self._close()
        return Read(self._until - now)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        return self._close()

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        """Return the next action, after a body that was too large or too slow was closed."""
        partial = cast("_PartialResponse", self._partial)
        if len(partial.body) > self._context.max_reply_size:
            return self._judge(partial.response(), now, jitter)
        said = "the body of the response did not end in time"
        return self._lost(TransportFailure(Phase.REPLY_BROKEN, said, timed_out=True), now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        return self._judge(cast("_PartialResponse", self._partial).response(), now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        return self._lost(failure, now, jitter)

    def _next(self, now: float, jitter: float) -> Action:
        options = self._context.options
        limit = options.timeout_for(self._call.minimum_timeout)
        self._latest = min(self._deadline, self.send_before)
        if limit > self._latest - now:
            limit = at_most(limit, self._latest - now)
        self._limit, self._until = limit, now + limit
        return self._send(limit)

    def _send(self, timeout: float) -> Action:
        action: Type[Union[Open, Send]]
        if self._stream:
            self.state, action = CallState.OPENING, Open
            self._partial = None
        else:
            self.state, action = CallState.SENDING, Send
        attempt, request = self._retries.attempt, self._request
        if attempt > 1:
            # For logs of servers and proxies: without a key, a retry looks like another call.
            fields = (*request.headers.pairs, ("X-FlowMaestro-Attempt", str(attempt)))
            request = Request(
                request.method, request.url, Headers(fields), request.body, request.max_reply_size
            )
        return action(
            request,
            timeout,
            attempt,
            self._call.path,
            self._retries,
            self._latest,
        )

    @property
    def scrubber(self) -> SecretScrubber:
        return self._context.scrubber.with_secrets_of(self._call.secrets)

    def _judge(self, response: Response, now: float, jitter: float) -> Action:
        """Decide what to do after a response. The order of the checks matters."""
        status = response.status
        # Any response, even an error, shows that the base URL leads to a server.
        self._context.server.has_answered = True
        if 200 <= status < 300:
            return self._succeed(response)
        if status in _REDIRECTS:
            return self._redirect(response, now)
        error = error_from_response(response, self.scrubber)
        confirmation = self._call.confirmation
        # A refusal of the first attempt is an ordinary error. A refusal after an attempt that may
        # have taken effect may be the consequence of that attempt.
        if self._maybe_done and confirmation is not None and confirmation.is_refusal(error):
            if confirmation.ask is None:
                return self._succeed(Response(204, response.headers))
            self.state, self._refusal = CallState.CONFIRMING, error
            ask = CallMachine(confirmation.ask, self._context, self._token, deadline=self._deadline)
            return self._delegate(ask, now, jitter)
        # A server or gateway that fails may have acted before.
        if (status >= 500 or status == 408) and not is_rejected_unprocessed(error, status):
            self._maybe_done = True
        # The deployed server reports a malformed id as a 5xx: a `NotFoundError` with this status.
        if status not in RETRYABLE_STATUSES or isinstance(error, NotFoundError):
            return self._give_up(error, status)
        if is_daily_quota_error(error):
            return self._give_up(error, status, "the daily quota is used up")
        if not self._call.repeatable and not is_rejected_unprocessed(error, status):
            return self._give_up(error, status, _NOT_RETRIED)
        return self._retry(error, status, now, jitter)

    def _succeed(self, response: Response) -> Action:
        self._retries.succeeded()
        try:
            if len(response.body) > self._context.max_reply_size:
                raise _too_large(response, self._context.max_reply_size)
            return self._done(self._call.reply(response, self._retries.attempt))
        except ServerError as error:
            # Drop the traceback: its frames hold the response, which may hold secrets.
            return self._give_up(error.with_traceback(None), response.status)

    def _redirect(self, response: Response, now: float) -> Action:
        self._redirects += 1
        target = _redirected(self._request, response)
        if target is not None and self._redirects <= MAX_REDIRECTS:
            self._request = target
            return self._send(at_most(self._limit, self._until - now))
        return self._give_up(_redirect_refused(response), response.status)

    def _lost(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        phase = failure.phase
        if self._partial is not None:
            # The status of an error is worth more than the failure to read its body.
            if self._partial.head.status >= 300:
                return self._judge(self._partial.response(), now, jitter)
            phase = Phase.REPLY_BROKEN
        kind = TimeoutError if failure.timed_out else ConnectionError
        said = f"{host_of(self._request.url)}: {self.scrubber.line(failure.message)}"
        error = kind(f"{said} ({phase.value})")
        error.__cause__ = failure
        if phase is not Phase.NOT_SENT:
            self._maybe_done = True
            if not self._call.repeatable:
                return self._give_up(error, phase, _NOT_RETRIED)
        if failure.permanent:
            return self._give_up(error, phase, "another attempt would fail in the same way")
        return self._retry(error, phase, now, jitter)

    def _retry(
        self, error: FlowMaestroError, outcome: Union[int, Phase], now: float, jitter: float
    ) -> Action:
        remaining = self._deadline - now
        # Nothing was sent, so nothing can have started: such a start may be repeated without limit.
        worth_repeating = self._until_sent and self._context.server.has_answered
        if worth_repeating and outcome is Phase.NOT_SENT:
            verdict = self._retries.unlimited_after(error, Phase.NOT_SENT, remaining, jitter)
        else:
            verdict = self._retries.after(error, outcome, remaining, jitter)
        if isinstance(verdict, GiveUp):
            return self._give_up(error, outcome, verdict.reason)
        if self._until_sent:
            error.attempts = self._retries.failures
            self.last_failure = self.scrubber.clean(error)
        self.state = CallState.WAITING
        return verdict

    def _give_up(
        self, error: FlowMaestroError, outcome: Union[int, Phase], reason: Optional[str] = None
    ) -> Action:
        """Fail with `error`, the last of all attempts.

        `outcome` is the HTTP status of the last attempt, or the phase in which the network failed.
        `reason` says why the attempt is not retried. It is `None` if the error never leads to a
        retry.
        """
        error.attempts = self._retries.attempts_with(error, outcome)
        error.gave_up = reason
        error.maybe_processed = maybe_processed(error)
        hint = what_to_check(error, self._call.path, self._context.options)
        error.hint = hint and self.scrubber.line(hint)
        return self._fail(error)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        confirmation = cast("Confirmation", self._call.confirmation)
        if isinstance(outcome, Done) and confirmation.confirms(outcome.value):
            outcome.value.attempts += self._retries.attempt
            return self._done(outcome.value)
        # The call did not take effect, or that could not be found out. The refusal says more to the
        # caller than an error of the confirmation.
        refusal = cast("FlowMaestroError", self._refusal)
        return self._give_up(refusal, confirmation.refusal)


def _redirected(request: Request, response: Response) -> Optional[Request]:
    """Return the GET request that the redirect `response` leads to.

    Return `None` if `request` is not a GET, if the response has no usable `Location`, or if that is
    of another origin, to which the key must not be sent.
    """
    location = response.headers.get("location")
    target = resolve(request.url, location) if location else ""
    if request.method == "GET" and target and origin(target) == origin(request.url):
        return replace(request, url=target)
    return None


def _redirect_refused(response: Response) -> FlowMaestroError:
    return FlowMaestroError(
        f"The server redirects with status {response.status}; only a GET is redirected, "
        f"within its origin, at most {MAX_REDIRECTS} times",
        "redirect_refused",
        response.status,
        request_id_of(None, response.headers),
    )

"""Hooks: functions that a client calls before and after requests, and their arguments."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Union

from flowmaestro_core.arguments import check_callback, flag
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead
from flowmaestro_core.payloads.reply import RateLimit

_counting = threading.Lock()


@dataclass(frozen=True)
class RequestInfo:
    """The argument of a request hook: the request that is about to be sent.

    Attributes:
        method: the HTTP method.
        url: the URL, redacted: in its query, most values are replaced by `***`.
        attempt: 1 for the first attempt of a call, 2 for its first retry, and so on.
        operation: the method of the client that was called: `workflows.run` for all requests of a
            run, `request` for `client.request`.
        route: the path below the API root with names for ids: `/workflows/{workflow_id}`. `None`
            for `client.request`, whose paths the SDK does not know.
        call_id: a random text that all attempts of one call share. Each poll of a wait is a call of
            its own.
        execution_id: the execution that the request is about, if that is known.
        workflow_id: the workflow in the request's path, if there is one.
        ids: the ids in the request's path, by the names that `route` has for them.
        row: in a batch, the index of the row that the request starts; `None` for all other
            requests.

    Two `RequestInfo` are equal if their `method`, `url` and `attempt` are.

    """

    method: str
    url: str
    attempt: int
    operation: str = field(default="request", compare=False)
    route: Optional[str] = field(default=None, compare=False)
    call_id: str = field(default="", compare=False)
    execution_id: Optional[str] = field(default=None, compare=False)
    workflow_id: Optional[str] = field(default=None, compare=False)
    ids: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    row: Optional[int] = field(default=None, compare=False)


@dataclass(frozen=True)
class ResponseInfo:
    """The outcome of a request: a response, the head of an event stream, or a failure.

    Attributes:
        request: the same `RequestInfo` object that the request hook got.
        status: the HTTP status; `None` if the network failed.
        failure: how far the attempt had come when the network failed; `None` if it did not fail.
        seconds: from sending until the end of the response, the head of an event stream, or the
            failure.
        request_id: the id to quote to support; `None` if there is no response, or none in it.
        rate_limit: the key's rate limits, as the response reports them. Ignored when two
            `ResponseInfo` objects are compared.

    """

    request: RequestInfo
    status: Optional[int]
    failure: Optional[Phase]
    seconds: float
    request_id: Optional[str]
    rate_limit: RateLimit = field(default=RateLimit(), compare=False)


@dataclass(frozen=True)
class RetryInfo:
    """A retry of a request, the poll after a failed one, or the reconnection of a stream.

    Attributes:
        request: the request that failed, or the one that opened the event stream that was lost.
        outcome: the HTTP status, or the phase in which the network failed.
        code: the API's error code, or one of ours (`timeout`, ...); `None` if a stream was lost
            after its opening.
        delay: seconds until the retry, the poll or the reconnection.
        request_id: the id to quote to support; `None` if there was no response, or none in it.
        reconnects: whether the SDK reconnects a lost event stream.

    """

    request: RequestInfo
    outcome: Union[int, Phase]
    code: Optional[str]
    delay: float
    request_id: Optional[str]
    reconnects: bool


class Trace(Protocol):
    """Follows one operation from its first request to its end. `Hooks.trace` returns it.

    A hook gets each request and its response. A trace also gets cancelled attempts, can set context
    variables while a request is in flight, and gets the items that the operation yields. An
    exception of one of its methods is logged and counted like that of a hook, and changes nothing
    else, even if the hooks are `strict`.
    """

    def attempting(self, info: RequestInfo, request: Request, resent: int) -> Mapping[str, str]:
        """Record that a request is sent now. Return header fields to add to this request.

        `request` holds secrets, `info` does not. `resent` is how often the call was sent before,
        redirects included. Invalid header fields count as an exception of a hook.
        """
        ...

    def attempted(self, outcome: Union[Response, ResponseHead, BaseException]) -> None:
        """Record how an attempt ended. Called in the same thread or task as `attempting`.

        `outcome` is a response, the head of a response whose body stays open, or an exception, such
        as a failure of the network or a cancellation.
        """
        ...

    def retrying(self, info: RetryInfo) -> None:
        """Record the delay before a retry, a poll after a failed one, or a reconnection."""
        ...

    def emitted(self, item: Any) -> None:
        """Record that the operation yields an item to its caller or listener."""
        ...

    def ended(self, value: Any, error: Optional[BaseException]) -> None:
        """Record that the operation returned `value`, failed with `error`, or was closed.

        For a stream, `value` is the execution, if it was polled. The SDK may call this more than
        once, in any thread: every call after the first must have no effect.
        """
        ...


class _Failures:
    """Counts the exceptions of hooks and traces; `Hooks` itself is frozen."""

    count = 0


@dataclass(frozen=True)
class Hooks:
    """Functions to call as a client works, for metrics and traces: `hooks=` of both clients.

    They are called in the thread or task that makes the call, which waits for them. On an async
    client they may be coroutine functions. An exception of a hook is logged as an ERROR of the
    logger `flowmaestro`, and counted in `failures`. Unless `strict`, it does not change the call.
    The arguments of hooks hold no secrets. Raises `TypeError`, naming the argument, for a hook that
    cannot be called, or a `strict` that is not a bool.

    If a signal handler raises an `Exception` while a hook or a trace runs, such as a time limit,
    this counts as an exception of the hook, so the call goes on. Let the handler raise a
    `BaseException` that is not an `Exception`, or, if there is no trace, set `strict`.

    Attributes:
        request: called with a `RequestInfo` before each request, retries and polls included. It
            may return a mapping of header fields to add to that request, such as `traceparent`.
            Fields that the request has already stay as they are. The values must not be secret,
            because the SDK does not redact them in errors. A mapping with an invalid header field,
            or another value but `None`, counts as an exception of the hook, and adds nothing.
        response: called with a `ResponseInfo` after each request that got a response or failed in
            the network.
        retry: called with a `RetryInfo` before the pause that precedes a retry, the next poll after
            one that failed, or the reconnection of an event stream.
        strict: whether an exception of a hook ends the call and reaches the caller, for tests.

    """

    request: Optional[Callable[[RequestInfo], Any]] = None
    response: Optional[Callable[[ResponseInfo], Any]] = None
    retry: Optional[Callable[[RetryInfo], Any]] = None
    strict: bool = False
    _failures: _Failures = field(init=False, repr=False, compare=False, default_factory=_Failures)

    def __post_init__(self) -> None:
        for name, hook in self.functions().items():
            check_callback(f"hooks.{name}", hook)
        flag("hooks.strict", self.strict)

    @property
    def failures(self) -> int:
        """The number of failures of hooks and traces, on all clients that have these hooks."""
        return self._failures.count

    def functions(self) -> Dict[str, Optional[Callable[[Any], Any]]]:
        """Return the hooks by name; `None` for a hook that is not set."""
        return {"request": self.request, "response": self.response, "retry": self.retry}

    def trace(self, operation: str, transport: Any) -> Optional[Trace]:
        """Return `None`: the operation has no trace.

        A subclass may return a `Trace` of the operation, which is then called beside the hooks. An
        exception of this method is logged and counted, even if the hooks are `strict`; the
        operation then has no trace.
        """
        return None

    def count_failure(self) -> None:
        """Count an exception of a hook or a trace. Any thread may call it."""
        with _counting:
            self._failures.count += 1

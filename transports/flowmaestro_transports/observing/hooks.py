"""Hooks: functions of the user's that are told what a client does, and the values they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from flowmaestro_core.arguments import check_callback
from flowmaestro_core.http.messages import Phase


@dataclass(frozen=True)
class RequestInfo:
    """A request that is about to be sent.

    Attributes:
        method: the HTTP method.
        url: the URL; in its query, values are replaced by `***`.
        attempt: 1 for the first attempt of a call, 2 for its first retry, and so on.

    """

    method: str
    url: str
    attempt: int


@dataclass(frozen=True)
class ResponseInfo:
    """What came of a request: a reply, of an event stream its head, or a failure.

    Attributes:
        request: the very `RequestInfo` that the request hook was given.
        status: the HTTP status, `None` when no reply came.
        failure: how far the attempt had come when the network failed, `None` when a reply came.
        seconds: from sending to the end of the reply, of an event stream to its head.
        request_id: the id to quote to support, `None` when the reply has none.

    """

    request: RequestInfo
    status: Optional[int]
    failure: Optional[Phase]
    seconds: float
    request_id: Optional[str]


@dataclass(frozen=True)
class RetryInfo:
    """A request that is made again, once `delay` seconds have passed.

    Attributes:
        request: the request that failed, or the one that opened the event stream that was lost.
        outcome: the HTTP status, or the phase in which the network failed.
        code: the API's error code, or one of ours (`timeout`, ...); `None` for a lost stream.
        delay: seconds until then.
        request_id: the id to quote to support, `None` when the reply had none.
        reconnects: whether the SDK reconnects a lost event stream.

    """

    request: RequestInfo
    outcome: Union[int, Phase]
    code: Optional[str]
    delay: float
    request_id: Optional[str]
    reconnects: bool


@dataclass(frozen=True)
class Hooks:
    """Functions to call as a client works, for metrics and traces: `hooks=` of both clients.

    They are called in the thread or task that makes the call, which waits for them. On an
    async client they may be coroutine functions. What one raises ends the call and reaches
    the caller. Nothing that they are given is secret. Raises `TypeError`, naming the hook, for
    what cannot be called.

    Attributes:
        request: called with a `RequestInfo` before each request, retries and polls included.
        response: called with a `ResponseInfo` after each of them, unless it was cancelled.
        retry: called with a `RetryInfo` before the pause that precedes a retry, the next try of
            a poll that failed, or the reconnection of an event stream.

    """

    request: Optional[Callable[[RequestInfo], Any]] = None
    response: Optional[Callable[[ResponseInfo], Any]] = None
    retry: Optional[Callable[[RetryInfo], Any]] = None

    def __post_init__(self) -> None:
        for name, hook in vars(self).items():
            check_callback(f"hooks.{name}", hook)

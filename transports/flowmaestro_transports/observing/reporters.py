"""Reporters: what one operation does, told to the user's hooks and to the log.

A driver notes each action before carrying it out, and each reply and failure that comes of it.
The log has nothing about a request but the values that hooks get, so no secret.
"""

from __future__ import annotations

import inspect
import traceback
import uuid
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple, Union
from weakref import WeakKeyDictionary

from flowmaestro_core.actions import Action, Done, Emit, Open, Send, Wait
from flowmaestro_core.arguments import header_fields
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import Path
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.reply import RateLimit, decode_json, shown_request_id
from flowmaestro_transports.driving.callbacks import refuse_awaitable
from flowmaestro_transports.observing.hooks import Hooks, RequestInfo, ResponseInfo, RetryInfo
from flowmaestro_transports.observing.observers import sdk_logger
from flowmaestro_transports.observing.tracing import AttemptInfo, Trace, with_added_fields

if TYPE_CHECKING:
    from logging import Logger

_DEBUG = 10
Outcome = Union[Response, ResponseHead, TransportFailure]
Info = Union[RequestInfo, ResponseInfo, RetryInfo]

_NO_REQUEST = RequestInfo("", "", 0)
_NO_FIELDS = Headers()


class _Follower:
    """Has a trace follow one operation, if the hooks have one."""

    def __init__(self, hooks: Hooks, machine: Machine[Any], transport: Any) -> None:
        self._hooks = hooks
        self._machine = machine
        self._scrubber = machine.scrubber
        self._resent = 0
        self._in_attempt = False
        self._trace: Optional[Trace] = None
        try:
            self._trace = hooks.trace(machine.operation, transport)
        except Exception as error:
            self._note_failure(error)

    def ended(self, error: Optional[BaseException] = None) -> None:
        """The operation has ended, with an `error` of its driver's; only the first time counts."""
        if error is not None:
            self._end_attempt(error)
        self._tell_trace("ended", getattr(self._machine, "last_seen", None), error)

    def _begin_attempt(self, action: Action) -> Action:
        """What is carried out now: a request gets the header fields that its trace adds."""
        if self._trace is None or not isinstance(action, (Send, Open)):
            return action
        request, ids = action.request, getattr(action.path, "ids", {})
        info = AttemptInfo(
            request,
            _route(action.path),
            ids,
            ids.get("execution_id") or self._machine.execution_id,
            self._resent,
            partial(self._shown, request.url),
        )
        self._in_attempt = True
        fields: Optional[Mapping[str, str]] = self._tell_trace("attempting", info)
        if not fields:
            return action
        return replace(action, request=with_added_fields(request, fields.items()))

    def _end_attempt(self, outcome: Union[Outcome, BaseException]) -> None:
        if self._in_attempt:
            self._in_attempt = False
            self._tell_trace("attempted", outcome)

    def _tell_trace(self, method: str, *args: Any) -> Any:
        try:
            return None if self._trace is None else getattr(self._trace, method)(*args)
        except Exception as error:
            self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        """Count what a hook has raised, and log it, without what it was raised beside."""
        self._hooks.count_failure()
        lines = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        sdk_logger().error("a hook raised\n%s", "".join(lines).rstrip())

    def _shown(self, url: str) -> str:
        """A URL as it may be shown; that of a redirect may be an echo."""
        return self._scrubber.line(showable_url(url))


class _Notes(_Follower):
    """What is known of the requests of one operation, and the words for it."""

    def __init__(
        self, hooks: Optional[Hooks], log: Optional[Logger], machine: Machine[Any], transport: Any
    ) -> None:
        super().__init__(hooks or Hooks(), machine, transport)
        self._log = log
        self._in_detail = log is not None and log.isEnabledFor(_DEBUG)
        self._informs = log is not None or any(self._hooks.functions().values())
        self.is_heard = self._informs or self._trace is not None
        """Whether anybody is told."""
        self._request = self._opened = _NO_REQUEST
        self._last_call: object = self
        self._sent_at: Optional[float] = None
        self._reply: Tuple[Headers, bytes] = _NO_FIELDS, b""

    def _upcoming(self, action: Action, now: float) -> Optional[Info]:
        """Log the action; what its hook is to be told, if anything."""
        if isinstance(action, (Send, Open)):
            again = action.call is self._last_call
            self._resent = self._resent + 1 if again else action.attempt - 1
            self._last_call = action.call
            return self._asks(action, now) if self._informs else None
        if isinstance(action, Wait) and action.because is not None:
            failed = action.because
            delay = action.seconds if failed.delay is None else failed.delay
            self._tell_trace("retrying", failed, delay, action.reconnects)
            return self._tries_again(failed, delay, action.reconnects) if self._informs else None
        if self._trace is not None and isinstance(action, Emit):
            self._tell_trace("emitted", action.item)
            if self._machine.finished:
                self.ended()
        elif self._trace is not None and isinstance(action, Done):
            self._tell_trace("ended", action.value, None)
        return None

    def _over(self, outcome: Outcome, now: float) -> Optional[Info]:
        """Log the outcome; what its hook is to be told, if anything."""
        sent_at, self._sent_at = self._sent_at, None
        if sent_at is None:  # nobody is told, or an open body broke off
            return None
        return self._came(outcome, now - sent_at)

    def _hook(self, info: Info) -> Any:
        """Which hook gets it, if any."""
        if isinstance(info, RequestInfo):
            return self._hooks.request
        return self._hooks.retry if isinstance(info, RetryInfo) else self._hooks.response

    def _with_fields(self, action: Action, fields: Any) -> Action:
        """The request with what its hook has added."""
        if fields is None or not isinstance(action, (Send, Open)):
            return action
        try:
            added = header_fields(fields).pairs
            if any(name.lower() == "host" for name, _ in added):
                raise ValueError("headers: leave out 'Host'; a hook replaces none of ours")
            return replace(action, request=with_added_fields(action.request, added))
        except Exception as error:
            self._raised(error)
            return action

    def _raised(self, error: Exception) -> None:
        """A hook has raised."""
        self._note_failure(error)
        if self._hooks.strict:
            raise error

    def _asks(self, action: Union[Send, Open], now: float) -> RequestInfo:
        ids = getattr(action.path, "ids", {})
        call_id = self._call_ids.get(action.call or self)
        if call_id is None:
            call_id = self._call_ids[action.call or self] = uuid.uuid4().hex
        self._request = RequestInfo(
            action.request.method,
            self._shown(action.request.url),
            action.attempt,
            self._machine.operation,
            _route(action.path),
            call_id,
            ids.get("execution_id") or self._machine.execution_id,
            ids.get("workflow_id"),
        )
        if isinstance(action, Open):
            self._opened = self._request
        self._sent_at = now
        return self._request

    @cached_property
    def _call_ids(self) -> WeakKeyDictionary[object, str]:
        """The ids of calls under way."""
        return WeakKeyDictionary()

    def _came(self, outcome: Outcome, seconds: float) -> Optional[ResponseInfo]:
        status, failure = None, None
        if isinstance(outcome, TransportFailure):
            failure = outcome.phase
            self._reply = _NO_FIELDS, b""
        else:
            status = outcome.status
            self._reply = outcome.headers, getattr(outcome, "body", b"")
        if self._hooks.response is None and not self._in_detail:
            return None
        limits = RateLimit.from_headers(self._reply[0])
        info = ResponseInfo(self._request, status, failure, seconds, self._request_id(), limits)
        if self._log is not None:
            self._log.debug(
                "%s %s, attempt %d: %s in %.0f ms%s",
                info.request.method,
                info.request.url,
                info.request.attempt,
                _said(failure or status),
                seconds * 1000,
                _quoted(info.request_id),
            )
        return info

    def _tries_again(self, failed: Attempt, delay: float, reconnects: bool) -> RetryInfo:
        info = RetryInfo(
            self._opened if reconnects else self._request,
            failed.outcome,
            failed.code,
            delay,
            self._request_id(),
            reconnects,
        )
        if self._log is not None:
            self._log.info(
                "%s in %.3g s: %s %s, attempt %d ended with %s%s%s",
                "reconnecting" if reconnects else "retrying",
                info.delay,
                info.request.method,
                info.request.url,
                failed.number,
                _said(failed.outcome),
                f", {failed.code!r}" if failed.code else "",
                _quoted(info.request_id),
            )
        return info

    def _request_id(self) -> Optional[str]:
        headers, body = self._reply
        try:
            return shown_request_id(decode_json(body), headers, self._scrubber)
        except ValueError:
            return shown_request_id(None, headers, self._scrubber)


def _route(path: str) -> Optional[str]:
    """The path with names for ids, `None` where that is not known."""
    return path.route or None if isinstance(path, Path) else path.partition("?")[0]


def _said(outcome: Any) -> str:
    return outcome.value if isinstance(outcome, Phase) else f"status {outcome}"


def _quoted(request_id: Optional[str]) -> str:
    return f" (request_id: '{request_id}')" if request_id else ""


class SyncReporter(_Notes):
    """Watches one operation of a sync client."""

    def before(self, action: Action, now: float) -> Action:
        """Report an action; what to carry out: the same, with header fields that a hook adds."""
        action = self._with_fields(action, self._tell(self._upcoming(action, now)))
        return self._begin_attempt(action)

    def note(self, outcome: Outcome, now: float) -> None:
        """Report the outcome of a request."""
        self._end_attempt(outcome)
        self._tell(self._over(outcome, now))

    def _tell(self, info: Optional[Info]) -> Any:
        hook = None if info is None else self._hook(info)
        if hook is None:
            return None
        try:
            heard = hook(info)
            refuse_awaitable("a hook", heard)
        except Exception as error:
            self._raised(error)
        else:
            return heard


class AsyncReporter(_Notes):
    """Watches one operation of an async client."""

    async def before(self, action: Action, now: float) -> Action:
        """As `SyncReporter.before`."""
        action = self._with_fields(action, await self._tell(self._upcoming(action, now)))
        return self._begin_attempt(action)

    async def note(self, outcome: Outcome, now: float) -> None:
        """As `SyncReporter.note`."""
        self._end_attempt(outcome)
        await self._tell(self._over(outcome, now))

    async def _tell(self, info: Optional[Info]) -> Any:
        hook = None if info is None else self._hook(info)
        if hook is None:
            return None
        try:
            heard = hook(info)
            return await heard if inspect.isawaitable(heard) else heard
        except Exception as error:
            self._raised(error)

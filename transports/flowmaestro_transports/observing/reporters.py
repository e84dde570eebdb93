"""Reporters: what one operation does, told to the user's hooks and to the log.

A driver notes each action before carrying it out, and each reply and failure that comes of it.
The log has nothing about a request but the values that hooks get, so no secret.
"""

from __future__ import annotations

import inspect
import traceback
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union
from weakref import WeakKeyDictionary

from flowmaestro_core.actions import Action, Open, Send, Wait
from flowmaestro_core.arguments import header_fields
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import Headers, Phase, Response, ResponseHead, TransportFailure
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import Path
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.reply import decode_json, shown_request_id
from flowmaestro_transports.driving.callbacks import refuse_awaitable
from flowmaestro_transports.observing.hooks import Hooks, RequestInfo, ResponseInfo, RetryInfo
from flowmaestro_transports.observing.observers import sdk_logger

if TYPE_CHECKING:
    from logging import Logger

_DEBUG = 10
Outcome = Union[Response, ResponseHead, TransportFailure]
Info = Union[RequestInfo, ResponseInfo, RetryInfo]


class _Notes:
    """What is known of the requests of one operation, and the words for it."""

    def __init__(
        self, hooks: Optional[Hooks], log: Optional[Logger], machine: Machine[Any]
    ) -> None:
        self._hooks = hooks or Hooks()
        self._log = log
        self._in_detail = log is not None and log.isEnabledFor(_DEBUG)
        self._request = self._opened = RequestInfo("", "", 0)
        self._machine = machine
        self._scrubber = machine.scrubber
        self._call_ids: WeakKeyDictionary[object, str] = WeakKeyDictionary()
        self._sent_at: Optional[float] = None
        self._reply: Tuple[Headers, bytes] = Headers(), b""

    def _upcoming(self, action: Action, now: float) -> Optional[Info]:
        """Log the action; what its hook is to be told, if anything."""
        if isinstance(action, (Send, Open)):
            return self._asks(action, now)
        if isinstance(action, Wait) and action.because is not None:
            return self._tries_again(action, action.because)
        return None

    def _over(self, outcome: Outcome, now: float) -> Optional[Info]:
        """Log the outcome; what its hook is to be told, if anything."""
        sent_at, self._sent_at = self._sent_at, None
        if sent_at is None:  # an open body broke off
            return None
        return self._came(outcome, now - sent_at)

    def _hook(self, info: Optional[Info]) -> Any:
        """Which hook gets it, if any."""
        if isinstance(info, RequestInfo):
            return self._hooks.request
        return self._hooks.retry if isinstance(info, RetryInfo) else self._hooks.response

    def _with_fields(self, action: Action, fields: Any) -> Action:
        """The request with what its hook has added."""
        if fields is None or not isinstance(action, (Send, Open)):
            return action
        try:
            added, request = header_fields(fields).pairs, action.request
            kept = tuple(pair for pair in added if pair[0] not in request.headers)
            headers = Headers(request.headers.pairs + kept)
            return replace(action, request=replace(request, headers=headers))
        except Exception as error:
            self._raised(error)
            return action

    def _raised(self, error: Exception) -> None:
        """A hook has raised: log it, without what it was raised beside, and count it."""
        self._hooks.count_failure()
        if self._hooks.strict:
            raise error
        lines = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        sdk_logger().error("a hook raised\n%s", "".join(lines).rstrip())

    def _asks(self, action: Union[Send, Open], now: float) -> RequestInfo:
        request = action.request
        shown = self._scrubber.line(showable_url(request.url))  # a redirect's may be an echo
        path, ids = action.path, getattr(action.path, "ids", {})
        self._request = RequestInfo(
            request.method,
            shown,
            action.attempt,
            self._machine.operation,
            path.route or None if isinstance(path, Path) else path.partition("?")[0],
            self._call_ids.setdefault(action.call or self, uuid.uuid4().hex),
            ids.get("execution_id") or self._machine.execution_id,
        )
        if isinstance(action, Open):
            self._opened = self._request
        self._sent_at = now
        return self._request

    def _came(self, outcome: Outcome, seconds: float) -> Optional[ResponseInfo]:
        status, failure = None, None
        if isinstance(outcome, TransportFailure):
            failure = outcome.phase
            self._reply = Headers(), b""
        else:
            status = outcome.status
            self._reply = outcome.headers, getattr(outcome, "body", b"")
        if self._hooks.response is None and not self._in_detail:
            return None
        info = ResponseInfo(self._request, status, failure, seconds, self._request_id())
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

    def _tries_again(self, wait: Wait, failed: Attempt) -> RetryInfo:
        info = RetryInfo(
            self._opened if wait.reconnects else self._request,
            failed.outcome,
            failed.code,
            wait.seconds if failed.delay is None else failed.delay,
            self._request_id(),
            wait.reconnects,
        )
        if self._log is not None:
            self._log.info(
                "%s in %.3g s: %s %s, attempt %d ended with %s%s%s",
                "reconnecting" if wait.reconnects else "retrying",
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


def _said(outcome: Any) -> str:
    return outcome.value if isinstance(outcome, Phase) else f"status {outcome}"


def _quoted(request_id: Optional[str]) -> str:
    return f" (request_id: '{request_id}')" if request_id else ""


class SyncReporter(_Notes):
    """Watches one operation of a sync client."""

    def before(self, action: Action, now: float) -> Action:
        """Report an action; what to carry out: the same, with header fields that a hook adds."""
        return self._with_fields(action, self._tell(self._upcoming(action, now)))

    def note(self, outcome: Outcome, now: float) -> None:
        """Report the outcome of a request."""
        self._tell(self._over(outcome, now))

    def _tell(self, info: Optional[Info]) -> Any:
        hook = self._hook(info)
        if hook is None or info is None:
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
        return self._with_fields(action, await self._tell(self._upcoming(action, now)))

    async def note(self, outcome: Outcome, now: float) -> None:
        """As `SyncReporter.note`."""
        await self._tell(self._over(outcome, now))

    async def _tell(self, info: Optional[Info]) -> Any:
        hook = self._hook(info)
        if hook is None or info is None:
            return None
        try:
            heard = hook(info)
            return await heard if inspect.isawaitable(heard) else heard
        except Exception as error:
            self._raised(error)

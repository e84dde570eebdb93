"""Reporters: what one operation does, reported to the user's hooks and to the log.

A driver notes each action before carrying it out, and each reply and failure that comes of it.
The log has nothing about a request but the values that hooks get, so no secret.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union

from flowmaestro_core.actions import Action, Open, Send, Wait
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import Headers, Phase, Response, ResponseHead, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.payloads.reply import decode_json, shown_request_id
from flowmaestro_transports.driving.callbacks import refuse_awaitable
from flowmaestro_transports.observing.hooks import Hooks, RequestInfo, ResponseInfo, RetryInfo

if TYPE_CHECKING:
    from logging import Logger

_DEBUG = 10
Noted = Union[Action, Response, ResponseHead, TransportFailure]
Telling = Tuple[Optional[Callable[[Any], Any]], Any]


class _Notes:
    """What is known of the requests of one operation, and the words for it."""

    def __init__(
        self, hooks: Optional[Hooks], log: Optional[Logger], scrubber: SecretScrubber
    ) -> None:
        self._hooks = hooks or Hooks()
        self._log = log
        self._in_detail = log is not None and log.isEnabledFor(_DEBUG)
        self._request = self._opened = RequestInfo("", "", 0)
        self._scrubber = scrubber
        self._sent_at: Optional[float] = None
        self._reply: Tuple[Headers, bytes] = Headers(), b""

    def _telling(self, noted: Noted, now: float) -> Telling:
        """Log what was noted, and return the hook to call, if any, with its argument."""
        if isinstance(noted, (Send, Open)):
            return self._hooks.request, self._asks(noted, now)
        if isinstance(noted, Wait):
            failed = noted.because
            return self._hooks.retry, None if failed is None else self._tries_again(noted, failed)
        if not isinstance(noted, (Response, ResponseHead, TransportFailure)):
            return None, None
        sent_at, self._sent_at = self._sent_at, None
        if sent_at is None:  # an open body broke off
            return None, None
        return self._hooks.response, self._came(noted, now - sent_at)

    def _asks(self, action: Union[Send, Open], now: float) -> RequestInfo:
        request = action.request
        shown = self._scrubber.line(showable_url(request.url))  # a redirect's may be an echo
        self._request = RequestInfo(request.method, shown, action.attempt)
        if isinstance(action, Open):
            self._opened = self._request
        self._sent_at = now
        return self._request

    def _came(
        self, outcome: Union[Response, ResponseHead, TransportFailure], seconds: float
    ) -> Optional[ResponseInfo]:
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

    def note(self, noted: Noted, now: float) -> None:
        """Report an action before it is carried out, or its outcome."""
        hook, info = self._telling(noted, now)
        if hook is not None and info is not None:
            refuse_awaitable("a hook", hook(info))


class AsyncReporter(_Notes):
    """Watches one operation of an async client."""

    async def note(self, noted: Noted, now: float) -> None:
        """As `SyncReporter.note`."""
        hook, info = self._telling(noted, now)
        if hook is not None and info is not None:
            heard = hook(info)
            if inspect.isawaitable(heard):
                await heard

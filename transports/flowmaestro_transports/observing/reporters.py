"""Reports the requests of one operation to the user's hooks, to their trace and to the log.

A driver reports each action before carrying it out, and its response or failure afterwards. About a
request, the log has only the values that hooks get, so it has no secrets.
"""

from __future__ import annotations

import inspect
import math
import traceback
import uuid
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union, cast
from weakref import WeakKeyDictionary

from flowmaestro_core.actions import Action, Done, Fail, Open, Send, Wait
from flowmaestro_core.arguments import header_fields
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import Path
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.reply import RateLimit, decode_json, shown_request_id
from flowmaestro_core.timeouts import at_most
from flowmaestro_transports.observing.hooks import (
    Hooks,
    RequestInfo,
    ResponseInfo,
    RetryInfo,
    Trace,
)
from flowmaestro_transports.observing.sdk_log import sdk_logger
from flowmaestro_transports.primitives.checks import refuse_awaitable

if TYPE_CHECKING:
    from logging import Logger

_DEBUG = 10
"""`logging.DEBUG`: the module is imported only if a program uses it."""
Outcome = Union[Response, ResponseHead, TransportFailure]
HookCall = Tuple[Optional[Callable[[Any], Any]], Any]
"""A hook, if there is one, and its argument."""

_NO_HOOK: HookCall = None, None
_NO_REQUEST = RequestInfo("", "", 0)
_NO_REPLY = Headers(), b""


class _Reporter:
    """Describes the requests of one operation for hooks, trace and log."""

    def __init__(
        self, hooks: Optional[Hooks], log: Optional[Logger], machine: Machine[Any], transport: Any
    ) -> None:
        self._hooks = hooks or Hooks()
        self._log = log
        self._machine = machine
        self._now: Callable[[], float] = transport.now
        self._request = self._opened = _NO_REQUEST
        self._last_call: object = self
        self._resent = 0
        self._sent_at: Optional[float] = None
        """When the request in flight was sent; `None` if there is none."""
        self._reply: Tuple[Headers, bytes] = _NO_REPLY
        self._opening_reply = _NO_REPLY
        """As `_reply`, of the response to `_opened`: polls may be answered before a loss."""
        self._trace: Optional[Trace] = None
        self._strict_failure: Optional[Fail] = None
        """Ends the operation, because a strict hook raised: replaces the next action. The exception
        is not raised here, because the driver could take it for a failure of the action: a hook may
        raise a `TransportFailure`."""
        try:
            self._trace = self._hooks.trace(machine.operation, transport)
        except Exception as error:
            self._note_failure(error)

    @property
    def is_active(self) -> bool:
        """Whether a hook, a trace or the log listens."""
        told = self._log is not None or self._trace is not None
        return told or any(self._hooks.functions().values())

    def delivers(self, item: Any) -> None:
        """Report to the trace that the caller gets `item`, an item of `Emit`."""
        self._tell_trace("emitted", item)
        if self._machine.finished:
            self.ended()

    def ended(self, error: Optional[BaseException] = None) -> None:
        """Report the end of the operation to its trace, and the `error` that ended it, if any.

        An `error` while a request is in flight is first reported as the outcome of the attempt.
        """
        if error is not None and self._sent_at is not None:
            self._sent_at = None
            self._tell_trace("attempted", error)
        self._tell_trace("ended", getattr(self._machine, "last_seen", None), error)

    def _before_action(self, action: Action) -> HookCall:
        """Report an action, unless it is a request. Return the hook to call and its argument.

        The hook is `None` if the user set none, if no hook is about such an action, or if a strict
        hook has raised.
        """
        if self._strict_failure is not None:
            return _NO_HOOK  # The action will not be carried out.
        if isinstance(action, (Send, Open)):
            return self._hooks.request, self._request_info(action)
        if isinstance(action, Wait) and action.because is not None:
            return self._hooks.retry, self._retry_info(action, action.because)
        if isinstance(action, Done):
            self._tell_trace("ended", action.value, None)
        return _NO_HOOK

    def _with_hook_fields(self, action: Action, fields: Any) -> Action:
        """Report a request to the trace. Return the action, with the fields of its hook and trace.

        `fields` is what the hook returned; `None` if it added nothing. An action that is not a
        request is returned unchanged. If a strict hook raised, return the action that ends the
        operation instead.

        A hook may wait, for a rate limit for example. This does not count for the timeout of the
        attempt, but for `latest`: raise a `TransportFailure` if it has passed.
        """
        if self._strict_failure is not None or not isinstance(action, (Send, Open)):
            return self._strict_failure or action
        now = self._now()
        if action.latest < math.inf:
            left = action.latest - now
            if left <= 0:
                said = "the request hook waited until the time for this request was over"
                raise TransportFailure(Phase.NOT_SENT, said, timed_out=True)
            if action.timeout > left:
                action = replace(action, timeout=at_most(action.timeout, left))
        request = action.request if fields is None else self._with_added(action.request, fields)
        if self._strict_failure is None:
            self._sent_at = now
            fields = self._tell_trace("attempting", self._request, request, self._resent)
            if fields:
                request = self._with_added(request, fields)
        if self._strict_failure is not None:
            return self._strict_failure
        return action if request is action.request else replace(action, request=request)

    def _with_added(self, request: Request, fields: Any) -> Request:
        """Return the request with those `fields` of a hook or a trace that it does not have yet.

        If one of them is invalid, or is `Host`, none is added: the hook counts as having failed.
        """
        try:
            given = header_fields(fields)
            if "host" in given:
                raise ValueError("a hook must not return the header 'Host': the transport sets it")
        except Exception as error:
            self._on_hook_error(error)
            return request
        added = tuple(pair for pair in given.pairs if pair[0] not in request.headers)
        headers = Headers(request.headers.pairs + added)
        return replace(request, headers=headers) if added else request

    def _after_outcome(self, outcome: Outcome, now: float) -> HookCall:
        """Report a request's outcome to the trace and the log.

        Return the hook to call, `None` if there is none, and its argument.
        """
        sent_at, self._sent_at = self._sent_at, None
        if sent_at is None:  # The connection of an open body was lost.
            return _NO_HOOK
        self._tell_trace("attempted", outcome)
        status, failure = None, None
        if isinstance(outcome, TransportFailure):
            failure, self._reply = outcome.phase, _NO_REPLY
        else:
            status, self._reply = outcome.status, (outcome.headers, getattr(outcome, "body", b""))
        if self._request is self._opened:
            self._opening_reply = self._reply
        is_detailed = self._log is not None and self._log.isEnabledFor(_DEBUG)
        if self._hooks.response is None and not is_detailed:
            return _NO_HOOK
        limits = RateLimit.from_headers(self._reply[0])
        info = ResponseInfo(
            self._request, status, failure, now - sent_at, self._request_id(self._reply), limits
        )
        if self._log is not None:
            self._log.debug(
                "%s %s, attempt %d: %s in %.0f ms%s",
                info.request.method,
                info.request.url,
                info.request.attempt,
                _describe(failure or status),
                info.seconds * 1000,
                _quoted(info.request_id),
            )
        return self._hooks.response, info

    def _tell_trace(self, method: str, *args: Any) -> Any:
        try:
            return None if self._trace is None else getattr(self._trace, method)(*args)
        except Exception as error:
            self._note_failure(error)

    def _on_hook_error(self, error: Exception) -> None:
        """Count and log an exception of a hook. End the operation with it if hooks are strict."""
        self._note_failure(error)
        if self._hooks.strict:
            self._strict_failure = Fail(cast("Any", error))

    def _note_failure(self, error: Exception) -> None:
        """Count and log an exception of a hook or a trace, without those chained to it."""
        self._hooks.count_failure()
        lines = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        sdk_logger().error("a hook raised\n%s", "".join(lines).rstrip())

    def _request_info(self, action: Union[Send, Open]) -> RequestInfo:
        call = action.call or self
        self._resent = self._resent + 1 if call is self._last_call else action.attempt - 1
        self._last_call = call
        ids = getattr(action.path, "ids", {})
        self._request = RequestInfo(
            action.request.method,
            # The URL of a redirect may repeat a secret.
            self._machine.scrubber.line(showable_url(action.request.url)),
            action.attempt,
            self._machine.operation,
            _route(action.path),
            self._call_ids.setdefault(call, uuid.uuid4().hex),
            ids.get("execution_id") or self._machine.execution_id,
            ids.get("workflow_id"),
            ids,
            getattr(self._machine, "starting_row", None),
        )
        if isinstance(action, Open):
            self._opened = self._request
        return self._request

    @cached_property
    def _call_ids(self) -> WeakKeyDictionary[object, str]:
        """The random id of each call in flight (`RequestInfo.call_id`), by `call` of its action."""
        return WeakKeyDictionary()

    def _retry_info(self, wait: Wait, failed: Attempt) -> RetryInfo:
        info = RetryInfo(
            self._opened if wait.reconnects else self._request,
            failed.outcome,
            failed.code,
            wait.seconds if failed.delay is None else failed.delay,
            self._request_id(self._opening_reply if wait.reconnects else self._reply),
            wait.reconnects,
        )
        self._tell_trace("retrying", info)
        if self._log is not None:
            self._log.info(
                "%s in %.3g s: %s %s, attempt %d ended with %s%s%s",
                "reconnecting" if info.reconnects else "retrying",
                info.delay,
                info.request.method,
                info.request.url,
                failed.number,
                _describe(info.outcome),
                f", {info.code!r}" if info.code else "",
                _quoted(info.request_id),
            )
        return info

    def _request_id(self, reply: Tuple[Headers, bytes]) -> Optional[str]:
        headers, body = reply
        try:
            return shown_request_id(decode_json(body), headers, self._machine.scrubber)
        except ValueError:
            return shown_request_id(None, headers, self._machine.scrubber)


def _route(path: str) -> Optional[str]:
    """Return the template of a path, such as `/workflows/{workflow_id}`.

    Return `None` for a `Path` whose template is unknown. A plain `str` has no ids, so it is its own
    template: return it without its query.
    """
    return path.route or None if isinstance(path, Path) else path.partition("?")[0]


def _describe(outcome: Any) -> str:
    return outcome.value if isinstance(outcome, Phase) else f"status {outcome}"


def _quoted(request_id: Optional[str]) -> str:
    return f" (request_id: '{request_id}')" if request_id else ""


class SyncReporter(_Reporter):
    """Reports the requests of one operation of a sync client to its hooks, trace and log."""

    def before(self, action: Action) -> Action:
        """Report an action before it is carried out. Return the action.

        Its request, if it has one, gets the header fields that a hook or the trace adds. If a
        strict hook raised, now or in `note`, return a `Fail` with its exception instead. Raise a
        `TransportFailure` if the hook held up a request for too long.
        """
        return self._with_hook_fields(action, self._tell(*self._before_action(action)))

    def note(self, outcome: Outcome, now: float) -> None:
        """Report the response, its head or the failure of one attempt to the observers."""
        self._tell(*self._after_outcome(outcome, now))

    def _tell(self, hook: Optional[Callable[[Any], Any]], info: Any) -> Any:
        if hook is None:
            return None
        try:
            result = hook(info)
            refuse_awaitable("a hook", result)
        except Exception as error:
            self._on_hook_error(error)
        else:
            return result


class AsyncReporter(_Reporter):
    """Reports the requests of one operation of an async client to its hooks, trace and log."""

    async def before(self, action: Action) -> Action:
        """Report an action before it is carried out. Return the action.

        Its request, if it has one, gets the header fields that a hook or the trace adds. If a
        strict hook raised, now or in `note`, return a `Fail` with its exception instead. Raise a
        `TransportFailure` if the hook held up a request for too long.
        """
        return self._with_hook_fields(action, await self._tell(*self._before_action(action)))

    async def note(self, outcome: Outcome, now: float) -> None:
        """Report the response, its head or the failure of one attempt to the observers."""
        await self._tell(*self._after_outcome(outcome, now))

    async def _tell(self, hook: Optional[Callable[[Any], Any]], info: Any) -> Any:
        # Unlike the sync form: it awaits a coroutine of the hook.
        if hook is None:
            return None
        try:
            result = hook(info)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            self._on_hook_error(error)

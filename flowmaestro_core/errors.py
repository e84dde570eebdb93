# pyright: reportPrivateUsage=false
# `set_args` belongs to the class whose constructor it serves.
"""The errors of the SDK, and their attributes.

Pure. `ConnectionError` and `TimeoutError` derive from the builtins of the same name as well, so
`except` catches them under either name.
"""

from __future__ import annotations

import builtins
from typing import Any, Mapping, NamedTuple, Optional, Tuple, Union

from flowmaestro_core.http.messages import Headers, Phase


class Attempt(NamedTuple):
    """One failed attempt of a call, or one lost connection of an event stream.

    `outcome` is the HTTP status or the phase in which the network failed. `code` is the `code` of
    the attempt's error; `None` for a lost connection of a stream. `delay` is the number of seconds
    waited before the next attempt, `None` if no attempt followed.
    """

    number: int
    outcome: Union[int, Phase]
    code: Optional[str] = None
    delay: Optional[float] = None


class FlowMaestroError(Exception):
    """Base of the errors of this SDK. A wrong argument raises `TypeError` or `ValueError` instead.

    Attributes:
        message: what went wrong, in words.
        code: the API's error code, or one of ours (`timeout`, `connection_error`, ...).
        status_code: the HTTP status, `None` if the error is not about one response.
        request_id: the id to quote to support, from the response body or its `X-Request-ID` header;
            `None` if it is not known.
        details: further details from the API, as decoded JSON; of a body that is not JSON, the
            beginning, as a `str`; `None` if there are none.
        attempts: every failed `Attempt` of the call, in order; `()` if the error is not of a call.
        gave_up: why the call was not retried, in words; `None` if a retry was not considered.
        maybe_processed: whether the server may have processed the last attempt all the same. If it
            is True for a start, an execution may run.
        execution_id: the execution that this error is about, if one had been started.
        retry_after: seconds that the server asked to wait, `None` if it did not ask.
        hint: what to check, in words: after a 401 the server and where the key came from, after a
            404 the ids of the request; `None` if there is nothing to add.
        headers: the header fields of an error response, redacted and without `Set-Cookie`; empty if
            the error was not made from one. If the server sent no readable `Date`, the headers have
            one with the time at which the response was received.
        body: the body of an error response as text, redacted, its first 4,000 characters at most;
            `None` if the error was not made from one.

    """

    _MESSAGE = "Unknown error"
    _CODE = "unknown_error"
    _STATUS: Optional[int] = None
    _ARGS: Tuple[str, ...] = ("message", "code", "status_code", "request_id", "details")
    """The arguments of the constructor, in their order."""

    attempts: Tuple[Attempt, ...] = ()
    gave_up: Optional[str] = None
    maybe_processed: bool = False
    hint: Optional[str] = None
    execution_id: Optional[str] = None
    retry_after: Optional[float] = None
    headers: Headers = Headers()
    body: Optional[str] = None

    def __init__(
        self,
        message: str = "",
        code: str = "",
        status_code: Optional[int] = None,
        request_id: Optional[str] = None,
        details: Any = None,
    ) -> None:
        self.message: str = message or self._MESSAGE
        self.code: str = code or self._CODE
        self.status_code: Optional[int] = self._STATUS if status_code is None else status_code
        self.request_id = request_id
        self.details = details
        super().__init__()
        set_args(self)

    def __str__(self) -> str:
        text = f"[{self.code}] {self.message}"
        status = str(self.status_code or "")
        if self.attempts and status.startswith("5") and status not in self.message:
            # Show the status: without it, a server's message could pass for a local failure.
            text += f" (HTTP status {status})"
        if self.gave_up:
            text += f" (gave up after attempt {len(self.attempts)}: {self.gave_up})"
        if self.hint:
            text += f" ({self.hint})"
        if self.request_id:
            text += f" (request_id: {self.request_id})"
        return text

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import error_html

        facts = [
            ("code", self.code),
            ("status", self.status_code),
            ("request", self.request_id),
            ("execution", self.execution_id),
            ("retry after", self.retry_after),
        ]
        return error_html(self, facts)

    def __reduce__(self) -> Tuple[object, ...]:
        """Let pickle and copy keep every attribute, and the cause, which Python would leave out."""
        cause = {} if self.__cause__ is None else {"__cause__": self.__cause__}
        return type(self), self.args, {**self.__dict__, **cause}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(message={self.message!r}, code={self.code!r}, "
            f"status_code={self.status_code!r})"
        )


def set_args(error: FlowMaestroError) -> None:
    """Set `error.args` to the arguments with which its class makes an equal error.

    Task queues that store results as JSON, such as Celery, keep nothing but the class and `args`.
    """
    error.args = tuple(getattr(error, name) for name in error._ARGS)


class _StatusError(FlowMaestroError):
    """Base class of the errors that stand for an HTTP status, such as `NotFoundError` for 404.

    The status need not be passed: it is the last argument, not the third one as in the base class.
    `RateLimitError` has `retry_after` in its place.
    """

    _ARGS = ("message", "code", "request_id", "details", "status_code")

    def __init__(
        self,
        message: str = "",
        code: str = "",
        request_id: Optional[str] = None,
        details: Any = None,
        status_code: Optional[int] = None,
    ) -> None:
        super().__init__(message, code, status_code, request_id, details)


class AuthenticationError(_StatusError):
    """401: the API key is unknown, expired or revoked."""

    _MESSAGE, _CODE, _STATUS = "Authentication failed", "authentication_error", 401


class InsufficientCreditsError(_StatusError):
    """402: the account does not have enough credits for this call.

    Also the error of a batch's row whose execution failed for this reason.
    """

    _MESSAGE, _CODE, _STATUS = "Insufficient credits", "insufficient_credits", 402


class AuthorizationError(_StatusError):
    """403: the API key lacks a scope.

    The API sends `details` with `required_scopes` and `missing_scopes`.
    """

    _MESSAGE, _CODE, _STATUS = "Authorization failed", "authorization_error", 403


class NotFoundError(_StatusError):
    """404: there is no such resource. Also raised for an id that the server cannot parse."""

    _MESSAGE, _CODE, _STATUS = "Resource not found", "not_found", 404


class ConflictError(_StatusError):
    """409: the present state of the resource does not allow this request."""

    _MESSAGE, _CODE, _STATUS = "Conflict", "conflict", 409


class ValidationError(_StatusError):
    """400 or 422: the server refused the request's content; `details` may say why.

    Also the error of a batch's row that JSON cannot express, or that has changed since it was read
    (code `invalid_input`). Such a row was not sent.
    """

    _MESSAGE, _CODE, _STATUS = "Validation failed", "validation_error", 400


class RateLimitError(_StatusError):
    """429: the key's rate limit is used up. `retry_after` is in seconds, `None` if not sent."""

    _MESSAGE, _CODE, _STATUS = "Rate limit exceeded", "rate_limit_exceeded", 429
    _ARGS = ("message", "code", "request_id", "details", "retry_after")

    def __init__(
        self,
        message: str = "",
        code: str = "",
        request_id: Optional[str] = None,
        details: Any = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message, code, request_id, details)
        self.retry_after = retry_after
        set_args(self)


class ServerError(FlowMaestroError):
    """5xx, or a successful response that the SDK cannot use.

    Such a response is not of this API, for example HTML (code `invalid_response`), or is too large
    (`reply_too_large`).
    """

    _MESSAGE, _CODE, _STATUS = "Server error", "server_error", 500


class TimeoutError(FlowMaestroError, builtins.TimeoutError):
    """An attempt, a start, a stream or a whole wait timed out, or the server answered with 408.

    `last_execution` is the execution as a wait or a stream has last polled it; `None` if it has not
    polled it, or follows no execution. `seen_events` are the events that `workflows.run` had kept
    for the timeline when it timed out; `None` if it followed no stream.
    """

    _MESSAGE, _CODE = "Request timed out", "timeout"

    last_execution: Any = None
    seen_events: Optional[Tuple[Mapping[str, Any], ...]] = None


class ConnectionError(FlowMaestroError, builtins.ConnectionError):
    """No connection could be made, or no complete, well-formed response was received."""

    _MESSAGE, _CODE = "Unable to connect to FlowMaestro API", "connection_error"


class StreamError(FlowMaestroError):
    """An event stream failed, or an iteration cannot give its next item.

    `code` is `stream_error` (a stream was lost and could not be resumed, or the server sent none),
    `stream_lost` (the server will answer a message later, and sent no id to find the answer by),
    `event_too_large`, `message_failed` (only from `text()`: the agent could not answer),
    `stream_closed` (the stream, batch or other iteration was closed or has failed before, an event
    stream has ended before, or the batch is one of the parent process), or `stream_busy` (the next
    item is awaited already, by another thread or task, or by the code that called the callback).
    """

    _MESSAGE, _CODE = "Stream error", "stream_error"
    _ARGS = ("message", "details", "code", "status_code", "request_id")

    def __init__(
        self,
        message: str = "",
        details: Any = None,
        code: str = "",
        status_code: Optional[int] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message, code, status_code, request_id, details)


class ExecutionError(FlowMaestroError):
    """An execution ended without completing: `raise_for_status` or `outputs_as` was called on it.

    The message has the id, the status and the server's reason, never inputs or outputs. Possible
    credentials in the reason are redacted.

    Attributes:
        execution: the ended execution, an `EndedExecution`.
        status: its status, `failed` or `cancelled`.

    """

    _MESSAGE, _CODE = "The execution did not complete", "not_completed"

    execution: Any = None
    status: Optional[str] = None


class ClientClosedError(FlowMaestroError, RuntimeError):
    """The client, or the transport that it shares, was closed, before the call or during it."""

    _MESSAGE, _CODE = "This client is closed; make a new one", "client_closed"


class StartUnknownError(FlowMaestroError):
    """It is not known whether a start has started an execution.

    It is the error of a row of a batch with a journal, or raised for a start with a checkpoint.
    `candidates` are the executions found that this start may have started: they have equal inputs,
    are unknown to the journal, and do not seem older than the batch or the start. `__cause__` is
    the error of the start, of the lookup or of the checkpoint that led to this, if there was one.
    """

    _MESSAGE, _CODE = "It is not known whether the execution was started", "start_unknown"

    maybe_processed: bool = True
    candidates: Tuple[Any, ...] = ()


class JournalError(FlowMaestroError):
    """A batch's journal cannot be used. The SDK deletes none of its records.

    `code` is `journal_busy` (another batch may use the journal), `journal_mismatch` (the journal
    belongs to another workflow, API root or other rows), `duplicate_key` (two rows have the same
    key), or `journal_unusable` (any other reason).
    """

    _MESSAGE, _CODE = "The journal cannot be used", "journal_unusable"


class CheckpointError(FlowMaestroError):
    """The checkpoint of a run cannot be used.

    `execution_id` is the execution that this call, or an earlier one with this checkpoint, has
    started. If it is `None`, this call started nothing.

    `code` is `checkpoint_mismatch` (the checkpoint has other inputs, another workflow or API root),
    `checkpoint_conflict` (other processes saved first too often; or another process has started a
    second execution and saved its id), `checkpoint_busy` (the lock of the file was not free), or
    `checkpoint_unusable` (any other reason, such as an exception of `load` or `save`, or a
    malformed state).
    """

    _MESSAGE, _CODE = "The checkpoint cannot be used", "checkpoint_unusable"


class CheckpointConflict(FlowMaestroError):
    """Raised by the `save` of a `Checkpoint` if another process has saved a state since the load.

    A store with compare-and-set raises it unless the `serial` of the state that it holds is one
    less than the `serial` of the state to save. The SDK then loads again. If this call has
    started no execution, it continues from the loaded state. Otherwise it saves the id of its
    execution; if the loaded state has the id of another one, it raises `CheckpointError`. After too
    many conflicts, it raises `CheckpointError`, or `StartUnknownError` if it is not known whether
    this call has started an execution.
    """

    _MESSAGE, _CODE = "Another process saved a state before", "checkpoint_conflict"


class WebhookVerificationError(FlowMaestroError):
    """A webhook delivery is not authentic, too old, from the future, or not an event.

    `message` says which.
    """

    _MESSAGE, _CODE = "Webhook verification failed", "webhook_verification_failed"

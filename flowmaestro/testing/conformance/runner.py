"""The surroundings of a check: servers, transports, and concurrent jobs.

A check always sees an async transport. A sync one is wrapped in coroutines that never wait for an
event loop, so the first step of each runs it to its end. A concurrent job is a thread for a sync
transport, and a task for an async one.
"""

from __future__ import annotations

import contextlib
import inspect
import ssl
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import (
    Any,
    Awaitable,
    Callable,
    ContextManager,
    Coroutine,
    FrozenSet,
    List,
    Optional,
    Tuple,
    Union,
)

import anyio

from flowmaestro.testing.conformance.expectations import (
    IMMEDIATE,
    STREAMS,
    TIME_LIMITS,
    CheckFailed,
    FactoryError,
    NotOffered,
    expect,
)
from flowmaestro.testing.conformance.scripted_server import Authority, Handler, ScriptedServer
from flowmaestro.testing.conformance.site import LiveReply, Respond
from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    AsyncTransport,
    OpenResponse,
    Transport,
)
from flowmaestro_transports.functions import (
    AsyncFunctionTransport,
    FunctionTransport,
    as_async_transport,
    as_transport,
)

TOO_LONG = 120.0
"""Seconds after which a check fails because it hangs."""

_POLL_SECONDS = 0.005
"""Seconds between two looks at a condition: short beside the time limits of the checks."""
_CONSEQUENCES = {
    "verify": "users cannot choose the trusted authorities, such as a private one",
    "client_cert": "servers that require a client certificate cannot be reached",
    "max_connections": "users cannot limit the number of its connections",
}

_NOT_OF_FUNCTIONS = {
    STREAMS: "events arrive all at once when their stream has ended, or not at all",
    TIME_LIMITS: "a call lasts as long as the function runs; `timeout` has no effect",
}

JobFunction = Callable[..., Coroutine[Any, Any, Any]]
CheckFunction = Callable[["Runner"], Awaitable[None]]
ServeSite = Callable[[Respond], ContextManager[str]]


class Job:
    """A thread or task that runs beside the check, or that runs the check itself."""

    def __init__(self, runner: Runner) -> None:
        self.done = False
        self.cancelled = False
        self.value: Any = None
        self.error: Optional[BaseException] = None
        self.cancel: Callable[[], None]
        """Cancels the job. Only a task has this attribute; a thread cannot be cancelled."""
        self._runner = runner

    async def outcome(self, within: Optional[float] = None) -> Any:
        """Wait for the job. Return its result or raise its error.

        A cancelled job returns `None`. A job that has not ended after `within` seconds (by default
        `immediate` of the runner) fails the check.
        """
        seconds = self._runner.immediate if within is None else within
        ended = await self._runner.until(lambda: self.done, seconds)
        expect(ended, f"a job had not ended after {seconds:g} s")
        if self.error is not None:
            raise self.error
        return self.value


class Runner(ABC):
    """The surroundings of one check on one kind of transport.

    A `site` answers requests; a `server` sends bytes. Make them before the transport that uses
    them.
    """

    immediate = IMMEDIATE
    """Seconds that the runner waits for steps which should happen at once."""
    crowd = 1
    """The number of concurrent calls that this kind of transport must handle."""
    pace: float = 1
    """The factor by which a timed check waits longer than in its first attempt."""
    wire = True
    """Whether the transport sends bytes over sockets."""
    exhaustive = False
    """Whether a check tries all cases rather than a sample, which may find less."""
    timed: bool = False
    """Whether the check has read `limit`. Such a check may fail on a busy machine."""

    def __init__(self, make_transport: Callable[..., Any], serve_site: ServeSite) -> None:
        self.patient: bool = True
        """Whether reading can continue after a quiet read. True unless the transport denies it."""
        self.too_long: float = TOO_LONG
        """Seconds after which the check fails because it hangs."""
        self.bounds_replies: bool = False
        """Whether the transport observes `Request.max_reply_size`. False unless it says so."""
        self.asked: List[Request] = []
        """Every request that came to a site."""
        self._make_transport = make_transport
        self._serve_site = serve_site
        self._servers = contextlib.ExitStack()
        self._transports: List[AsyncTransport] = []
        self._needs: FrozenSet[str] = frozenset()

    @property
    def limit(self) -> float:
        """The timeout or patience, in seconds, of checks of timing. Reading it sets `timed`."""
        self.timed = True
        return 0.2 * self.pace

    @property
    def margin(self) -> float:
        """Seconds beyond `limit` that a check allows, because the computer may be busy."""
        return 0.6 * self.pace

    def site(self, respond: Respond) -> str:
        """Return the URL of a site that answers with `respond`, until the check ends."""

        def noted(request: Request) -> Union[Response, LiveReply]:
            self.asked.append(request)
            reply = respond(request)
            if isinstance(reply, LiveReply):
                reply.asked.set()
            return reply

        return self._servers.enter_context(self._serve_site(noted))

    def server(self, handler: Handler, *, tls: Optional[ssl.SSLContext] = None) -> ScriptedServer:
        """Return a loopback server of scripted bytes, which runs until the check ends.

        `handler` serves each connection. With `tls`, a server-side context, it speaks TLS.
        """
        return self._servers.enter_context(ScriptedServer(handler, tls=tls))

    @cached_property
    def authority(self) -> Authority:
        """The certificate authority of this check."""
        return Authority(Path(self._servers.enter_context(tempfile.TemporaryDirectory())))

    def transport(self, **options: Any) -> AsyncTransport:
        """Return a new transport with these options, closed when the check ends.

        Raises `NotOffered` if the factory does not take one of the options, or raises `NotOffered`
        itself, or returns a function although the check needs `STREAMS` or `TIME_LIMITS`.

        The factory must return a transport, or a function from request to response. On a sync
        runner, that must be a sync transport or a plain function; on an async one, an async
        transport, or a plain or coroutine function. Raises `FactoryError` for anything else.
        """
        for name in options:
            if not _takes(self._make_transport, name):
                raise NotOffered(f"{name}=", _CONSEQUENCES[name])
        try:
            made = self._make_transport(**options)
        except NotOffered as error:
            consequence = error.consequence or "; ".join(_CONSEQUENCES[name] for name in options)
            raise NotOffered(error.what, consequence) from error
        try:
            transport, whole_only = self._adapted(made)
        except TypeError as error:
            raise FactoryError(f"make_transport(): {error}") from None
        self._transports.append(transport)
        self.patient = getattr(made, "patient", True)
        self.bounds_replies = getattr(made, "bounds_replies", False)
        for need, consequence in _NOT_OF_FUNCTIONS.items():
            if whole_only and need in self._needs:
                raise NotOffered(need, consequence)
        return transport

    def narrow_transport(self) -> AsyncTransport:
        """Return a transport with only one connection, so that a leaked connection is noticed.

        If `max_connections` is not offered, the transport has its default number.
        """
        try:
            return self.transport(max_connections=1)
        except NotOffered:
            return self.transport()

    async def until(self, condition: Callable[[], bool], within: Optional[float] = None) -> bool:
        """Wait until `condition()` is true, and return True.

        Return False if it is still false after `within` seconds, by default `immediate`.
        """
        deadline = time.monotonic() + (self.immediate if within is None else within)
        while not condition():
            if time.monotonic() > deadline:
                return False
            await self.pause(_POLL_SECONDS)
        return True

    async def expect_left(self, left: Callable[[], bool]) -> None:
        """Check that the client closes its connection within `immediate` seconds.

        `left()` returns True once the client has closed it.
        """
        expect(await self.until(left), "the client had not closed its connection")

    async def _carry_out(self, check: CheckFunction) -> bool:
        """Run the check, and close its transports. Return True if the check passed.

        Raises what the check raises or, after a check that passed, what closing a transport raises.
        If the check was cancelled, nothing is returned, so the value of its `Job` stays `None`.
        """
        try:
            await check(self)
        except BaseException:
            with contextlib.suppress(Exception):  # The finding of the check matters more.
                await self._close_all(self.margin)
            raise
        await self._close_all(5 * IMMEDIATE)
        return True

    async def _close_all(self, within: float) -> None:
        while self._transports:
            await self.start(self._transports.pop().close).outcome(within)

    def run(self, check: CheckFunction, needs: FrozenSet[str] = frozenset()) -> None:
        """Run the function of a check, and raise what it raises.

        Also raises an error of closing a transport, or of a handler of a server, and `CheckFailed`
        if the check does not end in time. `needs` names what the check needs of a transport, such
        as `WIRE`.
        """
        self._needs = needs
        with self._servers:
            self._run(check)

    @abstractmethod
    def _run(self, check: CheckFunction) -> None: ...

    @abstractmethod
    def start(self, step: JobFunction, *args: Any) -> Job:
        """Start `step(*args)`, a coroutine function, beside the check. Return the job at once."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait for `seconds` of real time."""

    @abstractmethod
    def _adapted(self, made: Any) -> Tuple[AsyncTransport, bool]:
        """Return `made` as an async transport, and whether `made` is a function.

        `made` is a transport, or a function from request to response. A function returns whole
        responses, so it cannot offer every feature. Raises `TypeError` for any other `made`.
        """


class SyncRunner(Runner):
    """Runs a check on a `Transport`, or on a function from request to response."""

    crowd = 50

    def _run(self, check: CheckFunction) -> None:
        # A thread runs it, because a check that hangs must not hold up the others.
        run_to_its_end(self.start(self._carry_out, check).outcome(self.too_long))

    def start(self, step: JobFunction, *args: Any) -> Job:
        job = Job(self)

        def run() -> None:
            try:
                job.value = run_to_its_end(step(*args))
            except BaseException as error:
                job.error = error
            finally:
                job.done = True

        threading.Thread(target=run, daemon=True).start()
        return job

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop

    def _adapted(self, made: Any) -> Tuple[AsyncTransport, bool]:
        transport = as_transport(made)
        return _SyncAsAsync(transport), isinstance(transport, FunctionTransport)


class _SyncAsAsync:
    """A sync transport as an `AsyncTransport` whose coroutines wait for no event loop."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, request: Request, timeout: float) -> Response:
        return self._transport.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        return _SyncAsAsyncBody(self._transport.open(request, timeout))

    async def sleep(self, seconds: float) -> None:
        self._transport.sleep(seconds)

    def now(self) -> float:
        return self._transport.now()

    async def close(self) -> None:
        self._transport.close()


class _SyncAsAsyncBody:
    def __init__(self, body: OpenResponse) -> None:
        self.status, self.headers = body.status, body.headers
        self._body = body

    async def read(self, patience: float) -> Optional[bytes]:
        return self._body.read(patience)

    async def close(self) -> None:
        self._body.close()


def run_to_its_end(steps: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that makes only sync calls, or raise what it raises.

    Raises `CheckFailed` if it waits for an event loop.
    """
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    raise CheckFailed("a sync transport must not await")


class AsyncRunner(Runner):
    """Runs a check on an `AsyncTransport`, or on a function, on the event loop `backend`."""

    # Not a twin: it has a task group where the other has threads.
    crowd = 200

    def __init__(
        self, make_transport: Callable[..., Any], serve_site: ServeSite, backend: str
    ) -> None:
        super().__init__(make_transport, serve_site)
        self._backend = backend
        self._tasks: Any = None

    def _run(self, check: CheckFunction) -> None:
        failure = anyio.run(self._with_tasks, check, backend=self._backend)
        if failure is not None:
            raise failure

    async def _with_tasks(self, check: CheckFunction) -> Optional[BaseException]:
        """Run the check. Return its error, or `None` if it passed.

        The task group would wrap an error that is raised.
        """
        # A step that is cancelled from outside cancels this block, too.
        error: Optional[BaseException] = CheckFailed(
            "the transport raised a cancellation that nobody had requested"
        )
        async with anyio.create_task_group() as self._tasks:
            job = self.start(self._carry_out, check)
            if not await self.until(lambda: job.done, self.too_long):
                error = CheckFailed(f"the check had not ended after {self.too_long:.0f} s")
            elif job.error is not None or job.value:
                error = job.error
            self._tasks.cancel_scope.cancel()
        return error

    def start(self, step: JobFunction, *args: Any) -> Job:
        job = Job(self)
        scope = anyio.CancelScope()
        job.cancel = scope.cancel

        async def run() -> None:
            try:
                with scope:
                    job.value = await step(*args)
            except Exception as error:
                job.error = error
            finally:
                job.cancelled = scope.cancelled_caught
                job.done = True

        self._tasks.start_soon(run)
        return job

    async def pause(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def _adapted(self, made: Any) -> Tuple[AsyncTransport, bool]:
        transport = as_async_transport(made)
        return transport, isinstance(transport, AsyncFunctionTransport)


def _takes(factory: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return name in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )

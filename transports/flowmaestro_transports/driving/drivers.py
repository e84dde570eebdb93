"""The two drivers: one loop, written twice.

A driver carries out the actions of one machine over one transport, and reports what happened.
Drivers are the only place where the core meets I/O. The two loops differ only in `await`.
"""

from __future__ import annotations

import inspect
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Optional,
    TypeVar,
    Union,
    cast,
)

from flowmaestro_core.actions import (
    Close,
    Done,
    Emit,
    Fail,
    Load,
    Open,
    Read,
    Save,
    Send,
)
from flowmaestro_core.errors import ClientClosedError, StreamError
from flowmaestro_core.http.dates import http_date, parse_http_date
from flowmaestro_core.http.messages import (
    Headers,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.machine import Machine
from flowmaestro_core.store import Loaded
from flowmaestro_transports.contract import (
    AsyncTransport,
    DuringBlock,
    InFlightBlock,
    Transport,
    random_source_of,
    wall_clock_of,
)
from flowmaestro_transports.driving.event_loops import (
    EventLoop,
    current_task,
    release_without_loop,
    running_loop,
)
from flowmaestro_transports.observing.observers import Observers
from flowmaestro_transports.primitives.checks import refuse_awaitable

if TYPE_CHECKING:
    from flowmaestro_transports.driving.stores import AsyncKeeper, SyncKeeper
    from flowmaestro_transports.observing.reporters import AsyncReporter, SyncReporter

__tracebackhide__ = True  # pytest shows the lines of the test instead.

R = TypeVar("R", bound=Union[Response, ResponseHead])
Listener = Callable[[Any], Any]


def dated(reply: R, transport: object) -> R:
    """Return an error response with a readable `Date`: its own, or else the current time.

    RFC 9110, section 6.6.1, asks this of a recipient that caches or forwards a response. Here it is
    done because a `Retry-After` that is a date is measured from the `Date`. The added field is in
    the headers of the error that the call raises, too.
    """
    given = reply.headers
    if parse_http_date(given.get("date", "")) is not None:
        return reply
    now = http_date(wall_clock_of(transport)())
    kept = [pair for pair in given.pairs if pair[0].lower() != "date"]
    headers = Headers([*kept, ("Date", now)])
    # Make it from the values, because the response may be of a subclass with another constructor.
    if isinstance(reply, ResponseHead):
        return cast("R", ResponseHead(reply.status, headers))
    return cast("R", Response(reply.status, headers, reply.body))


def handle_closed(noun: str) -> StreamError:
    """Return the error for a read from a closed handle, which the message calls `noun`."""
    return StreamError(f"This {noun} is closed; ask for a new one", code="stream_closed")


_TRANSPORT_CLOSED = (
    "The transport of this client was closed by another client or by its owner; "
    "make a new one, and pass owns_transport=False to clients that share it"
)


def client_closed(machine: Machine[Any]) -> ClientClosedError:
    """Return the error for a call whose client, or its transport, was closed before its end."""
    error = ClientClosedError("" if machine.client_is_closed else _TRANSPORT_CLOSED)
    error.execution_id = machine.execution_id
    return error


class _Driver:
    """The common part of both drivers."""

    _transport: Any
    """Carries out the actions: the transport, or the view of it for this stream."""
    # Most calls need none of these, and each attribute that `__init__` sets costs every call.
    _body: Any = None
    """The open body, if any."""
    _reporter: Any = None
    """Tells hooks, trace and log what happens; `None` if there are none."""
    _keeper: Any = None
    """Carries out `Load` and `Save`; `None` if there is no store."""
    _during: Optional[DuringBlock] = None
    """Makes a block for each `Emit`, on a transport that simulates the death of its process."""
    _interrupt: Optional[Callable[[], None]] = None
    """Interrupts the operation in flight, if the view of the transport can."""
    _started: bool = False
    """Whether the machine has been started."""
    closed: bool = False
    """Whether it has stopped: it was closed, has failed, or has ended."""

    def __init__(
        self,
        machine: Machine[Any],
        transport: object,
        listener: Optional[Listener] = None,
        observers: Optional[Observers] = None,
        noun: str = "stream",
        view: Optional[object] = None,
        keeper: Union[SyncKeeper, AsyncKeeper, None] = None,
    ) -> None:
        """Drive `machine` over `transport`.

        Args:
            machine: not started yet.
            transport: carries out the actions.
            listener: called with each item that the machine emits, when the caller gets it.
            observers: get each request and its response.
            noun: what the caller iterates over, for error messages.
            view: a transport for this driver alone, which carries out the actions in place of
                `transport`.
            keeper: carries out `Load` and `Save`, for a batch with a journal and a start with a
                checkpoint. Its owner closes it.

        """
        self.machine = machine
        self._noun = noun
        # Optional attributes are read from the transport, because a view need not have them.
        self._given = transport
        self._transport = transport if view is None else view
        self._listener = listener
        if keeper is not None:
            self._keeper = keeper
        if observers is not None:
            awaits = isinstance(self, AsyncDriver)
            self._reporter = observers.reporter(machine, transport, awaits=awaits)
        self._jitter = random_source_of(transport).random
        self._is_patient = getattr(transport, "patient", True)
        during: Optional[DuringBlock] = getattr(transport, "during", None)
        if during is not None:
            self._during = during
        if view is not None:
            self._interrupt = getattr(view, "interrupt", None)
        # Code of the caller's may wait for another call.
        alone = self._reporter is not None or machine.runs_callers_code
        self.in_flight: Optional[InFlightBlock] = (
            None if alone else getattr(transport, "in_flight", None)
        )
        """Returns a context manager for all that one call does, or `None`.

        In its block, a virtual clock advances only while the call waits for a response or pauses,
        not while the program computes. It is `None` on a transport in real time, with a reporter,
        and if the machine runs the caller's code.
        """
        self.is_heard: bool = self._reporter is not None or listener is not None
        """Whether a reporter or a listener gets each item: then call `deliver`."""

    def _opened(self) -> None:
        """Note the event loop that opened `_body`. A sync driver has none, so this does nothing.

        It is called when `_body` is set already, so that an interrupt can close the body.
        """

    def _stop(self, error: Optional[BaseException] = None) -> None:
        if not self.closed:
            self.closed = True
            self.machine.abandon()
        if self._reporter is not None:
            self._reporter.ended(error)


class SyncDriver(_Driver):
    """Drives one machine over a sync transport."""

    _transport: Transport
    _reporter: Optional[SyncReporter]

    def advance(self) -> Union[Emit, Done]:
        """Carry out actions until the machine emits items or ends. Return that `Emit` or `Done`.

        Raises the error of a machine that fails, `StreamError` if the driver is closed, and
        `ClientClosedError` if the transport is. After an exception, no body is open.
        """
        try:
            # A stream comes here for each of its reads, so no empty block is entered.
            if self.in_flight is None:
                return self._advance()
            with self.in_flight():
                return self._advance()
        except BaseException as error:
            self._stop(error)
            self.close()
            raise

    def deliver(self, item: Any) -> None:
        """Report one item of an `Emit` to the reporter and the listener, before the caller gets it.

        Raises what the listener raises, and closes the driver then.
        """
        try:
            if self._reporter is not None:
                self._reporter.delivers(item)
            if self._listener is not None:
                refuse_awaitable("the callback", self._listener(item))
        except BaseException as error:
            self._stop(error)
            self.close()
            raise

    def _advance(self) -> Union[Emit, Done]:
        if self.closed:
            raise handle_closed(self._noun)
        machine, transport, reporter = self.machine, self._transport, self._reporter
        now, jitter = transport.now, self._jitter
        if self._started:
            action = machine.emitted(now(), jitter())
        else:
            self._started = True
            action = machine.start(now(), jitter())
        while not self.closed:
            try:
                if reporter is not None:
                    action = reporter.before(action)
                    if self.closed:  # A hook has closed it, or ran while it was closed.
                        continue
                if isinstance(action, Read):
                    patience = action.patience
                    if not self._is_patient and action.impatient:
                        patience = action.impatient
                    data = self._body.read(patience)
                    if data is None:
                        action = machine.stream_quiet(now(), jitter())
                    elif data:
                        action = machine.bytes_received(data, now(), jitter())
                        data = b""  # A traceback must not lead to it: it may repeat a secret.
                    else:
                        self._release()
                        action = machine.stream_ended(now(), jitter())
                elif isinstance(action, Emit):
                    if self._during is not None:
                        with self._during(action, ""):
                            pass
                    return action
                elif isinstance(action, Send):
                    response = transport.send(action.request, action.timeout)
                    if reporter is not None:
                        reporter.note(response, now())
                    if response.status >= 400:
                        response = dated(response, self._given)
                    action = machine.response_received(response, now(), jitter())
                elif isinstance(action, Done):
                    self.closed = True  # An ended machine has no turn to give back.
                    self.close()
                    return action
                elif isinstance(action, Fail):
                    break
                elif isinstance(action, Open):
                    self._release()
                    self._body = transport.open(action.request, action.timeout)
                    self._opened()
                    head = ResponseHead(self._body.status, self._body.headers)
                    if reporter is not None:
                        reporter.note(head, now())
                    if head.status >= 400:
                        head = dated(head, self._given)
                    action = machine.stream_opened(head, now(), jitter())
                elif isinstance(action, Close):
                    self._release()
                    action = machine.stream_closed(now(), jitter())
                elif isinstance(action, Load):
                    loaded = self._keeper.load(action)
                    if isinstance(loaded, Loaded):
                        action = machine.loaded(loaded, now(), jitter())
                    else:
                        action = machine.store_failed(loaded, now(), jitter())
                elif isinstance(action, Save):
                    error = self._keeper.save(action)
                    if error is None:
                        action = machine.saved(now(), jitter())
                    else:
                        action = machine.store_failed(error, now(), jitter())
                else:
                    transport.sleep(action.seconds)
                    action = machine.waited(now(), jitter())
            except TransportFailure as failure:
                if not isinstance(action, Send):
                    self._release()
                if reporter is not None:
                    reporter.note(failure, now())
                action = machine.transport_failed(failure, now(), jitter())
            except TransportClosedError as error:
                raise client_closed(machine) from error
            except Exception:
                if not self.closed:
                    raise
        else:
            raise handle_closed(self._noun)
        # Raised outside of `try`: it may be a `TransportFailure` that the caller's iterator of rows
        # has raised.
        raise action.error

    def close(self) -> None:
        """Stop, and release the open body. Closing twice is harmless.

        An `advance` in another thread then raises `StreamError` (code `stream_closed`): at once if
        it is reading, or if an `InterruptibleTransport` can interrupt its operation; otherwise
        after that operation. One that is in the listener returns its item instead.
        """
        self._stop()
        if self._interrupt is not None:
            self._interrupt()
        if self._body is not None:
            self._release()

    def _release(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


class AsyncDriver(_Driver):
    """Drives one machine over an async transport."""

    _transport: AsyncTransport
    _reporter: Optional[AsyncReporter]
    _home: Optional[EventLoop] = None  # Unlike the sync form: a body belongs to its loop.

    async def advance(self) -> Union[Emit, Done]:
        """Carry out actions until the machine emits items or ends. Return that `Emit` or `Done`.

        Raises the error of a machine that fails, `StreamError` if the driver is closed, and
        `ClientClosedError` if the transport is. After an exception or a cancellation, no body is
        open.

        One case differs: if this coroutine is collected before it has ended, its body stays
        open until `drop` or `close` releases it.
        """
        # Unlike the sync form: only a coroutine can be dropped while it waits.
        try:
            # A stream comes here for each of its reads, so no empty block is entered.
            if self.in_flight is None:
                return await self._advance()
            with self.in_flight():
                return await self._advance()
        except BaseException as error:
            self._stop(error)
            if not isinstance(error, GeneratorExit):
                # The coroutine is collected and cannot await. `drop` releases the body.
                await self.close()
            raise

    async def deliver(self, item: Any) -> None:
        """Report one item of an `Emit` to the reporter and the listener, before the caller gets it.

        Raises what the listener raises, and closes the driver then.
        """
        # Unlike the sync form: it awaits a coroutine of the listener.
        try:
            if self._reporter is not None:
                self._reporter.delivers(item)
            if self._listener is not None:
                heard = self._listener(item)
                if inspect.isawaitable(heard):
                    await heard
        except BaseException as error:
            self._stop(error)
            if not isinstance(error, GeneratorExit):
                # The coroutine is collected and cannot await. `drop` releases the body.
                await self.close()
            raise

    async def _advance(self) -> Union[Emit, Done]:
        if self.closed:
            raise handle_closed(self._noun)
        machine, transport, reporter = self.machine, self._transport, self._reporter
        now, jitter = transport.now, self._jitter
        if self._started:
            action = machine.emitted(now(), jitter())
        else:
            self._started = True
            action = machine.start(now(), jitter())
        while not self.closed:
            try:
                if reporter is not None:
                    action = await reporter.before(action)
                    if self.closed:  # A hook has closed it, or ran while it was closed.
                        continue
                if isinstance(action, Read):
                    patience = action.patience
                    if not self._is_patient and action.impatient:
                        patience = action.impatient
                    data = await self._body.read(patience)
                    if data is None:
                        action = machine.stream_quiet(now(), jitter())
                    elif data:
                        action = machine.bytes_received(data, now(), jitter())
                        data = b""  # A traceback must not lead to it: it may repeat a secret.
                    else:
                        await self._release()
                        action = machine.stream_ended(now(), jitter())
                elif isinstance(action, Emit):
                    if self._during is not None:
                        with self._during(action, ""):
                            pass
                    return action
                elif isinstance(action, Send):
                    response = await transport.send(action.request, action.timeout)
                    if reporter is not None:
                        await reporter.note(response, now())
                    if response.status >= 400:
                        response = dated(response, self._given)
                    action = machine.response_received(response, now(), jitter())
                elif isinstance(action, Done):
                    self.closed = True  # An ended machine has no turn to give back.
                    await self.close()
                    return action
                elif isinstance(action, Fail):
                    break
                elif isinstance(action, Open):
                    await self._release()
                    self._body = await transport.open(action.request, action.timeout)
                    self._opened()
                    head = ResponseHead(self._body.status, self._body.headers)
                    if reporter is not None:
                        await reporter.note(head, now())
                    if head.status >= 400:
                        head = dated(head, self._given)
                    action = machine.stream_opened(head, now(), jitter())
                elif isinstance(action, Close):
                    await self._release()
                    action = machine.stream_closed(now(), jitter())
                elif isinstance(action, Load):
                    loaded = await self._keeper.load(action)
                    if isinstance(loaded, Loaded):
                        action = machine.loaded(loaded, now(), jitter())
                    else:
                        action = machine.store_failed(loaded, now(), jitter())
                elif isinstance(action, Save):
                    error = await self._keeper.save(action)
                    if error is None:
                        action = machine.saved(now(), jitter())
                    else:
                        action = machine.store_failed(error, now(), jitter())
                else:
                    await transport.sleep(action.seconds)
                    action = machine.waited(now(), jitter())
            except TransportFailure as failure:
                if not isinstance(action, Send):
                    await self._release()
                if reporter is not None:
                    await reporter.note(failure, now())
                action = machine.transport_failed(failure, now(), jitter())
            except TransportClosedError as error:
                raise client_closed(machine) from error
            except Exception:
                if not self.closed:
                    raise
        else:
            raise handle_closed(self._noun)
        # Raised outside of `try`: it may be a `TransportFailure` that the caller's iterator of rows
        # has raised.
        raise action.error

    async def close(self) -> None:
        """Stop, and release the open body. Closing twice is harmless.

        An `advance` in another task then raises `StreamError` (code `stream_closed`): at once if it
        is reading, or if the `view` can interrupt its operation; otherwise after that operation, or
        after the function of the user that it awaits. One that awaits the listener returns its item
        instead.
        """
        self._stop()
        if self._interrupt is not None:
            self._interrupt()
        if self._body is not None:
            await self._release()

    def drop(self) -> bool:
        """Stop without waiting. The event loop that opened the body releases the body.

        Return True, also if no body is open. But if that loop has ended, or was neither of asyncio
        nor of trio, release the body as far as that is possible without a loop, and return False.
        """
        # Unlike the sync form: an async body must be released on its own event loop.
        self._stop()
        body, self._body = self._body, None
        if body is None:
            return True
        if self._home is None:
            release_without_loop(body)
            return False
        return self._home.release(body)

    def _opened(self) -> None:
        # Unlike the sync form: an async body must be released on its own event loop.
        self._home = running_loop()

    async def _release(self) -> None:
        """Close the body, also in a cancelled task. It is forgotten once that has succeeded."""
        # Unlike the sync form: only a task can be cancelled while its body closes.
        body = self._body
        if body is None:
            return
        if current_task() is None:  # Neither asyncio nor trio: anyio has no cancel scope here.
            await body.close()
        else:
            from anyio import CancelScope

            with CancelScope(shield=True):
                await body.close()
        if self._body is body:
            self._body = None

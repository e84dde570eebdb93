"""The handles that callers iterate over: shells around a driver, one sync, one async.

A handle holds at most one open body, and releases it

* before it returns a terminal event, and when the iteration ends or fails;
* when it is closed, or its `with` block is left, or the iterating task is cancelled;
* when it is collected. An async handle then releases it on its own event loop, whichever thread
  collects it; if that loop has ended, as far as that is possible without it.

So a `for` loop that runs to the terminal event needs no `close`. Nor does one that is left with
`break`, if nothing else refers to the handle.
"""

from __future__ import annotations

import warnings
from collections import deque
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Deque,
    Generic,
    Iterator,
    Mapping,
    Optional,
    Tuple,
    Type,
    TypeVar,
    cast,
)

from flowmaestro_core.actions import Done
from flowmaestro_core.errors import StreamError
from flowmaestro_core.machine import Machine
from flowmaestro_core.operation import HandleKind
from flowmaestro_core.types import MessageCompleted
from flowmaestro_transports.contract import AsyncTransport, Interruptible, Transport
from flowmaestro_transports.driving.drivers import (
    AsyncDriver,
    Listener,
    SyncDriver,
    handle_closed,
)
from flowmaestro_transports.driving.interrupt import AsyncInterruptibleTransport
from flowmaestro_transports.observing.observers import Observers
from flowmaestro_transports.primitives.claims import Claimant, Claims
from flowmaestro_transports.primitives.fork_guard import NotPicklable, quiet_at_exit

if TYPE_CHECKING:
    from flowmaestro_transports.driving.stores import AsyncKeeper, SyncKeeper

__tracebackhide__ = True  # pytest shows the lines of the test instead.

E = TypeVar("E")
_NOTHING: Any = object()


_NO_ITEMS: Deque[Any] = deque(maxlen=0)
"""The queue of a handle before it has one of its own: even an empty one takes 600 bytes, and there
may be thousands of quiet streams. It never holds an item."""

_NONE_UNHEARD: Iterator[Any] = iter(())
"""The same for items that nobody has heard: a spent iterator, which any number of handles share."""


class BaseHandle(NotPicklable):
    """Base class of all handles, sync and async."""

    _noun: ClassVar[str]
    """The name of such a handle in error messages."""

    _yields_events: ClassVar[bool] = False
    _driver: Any = None

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._items: Deque[Any] = _NO_ITEMS
        """The items of the last `Emit` that the caller has not taken. Any thread may take the
        first: `popleft` is one call of C."""
        self._unheard = _NONE_UNHEARD
        """The same if a listener or an observer gets each item before the caller does. Then
        `_items` is empty, and only the one reader takes items."""
        self._ended = False
        self._last_type = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._describe()}>"

    def _drop_items(self) -> None:
        """Drop what the caller has not taken: the handle was closed, or has failed."""
        self._items.clear()
        self._unheard = _NONE_UNHEARD

    def _describe(self) -> str:
        """Return the state of the handle, for its repr."""
        if self._ended:
            return "ended"
        state: str = "closed" if self._driver.closed else self._machine.state
        return state

    def _check_open(self) -> None:
        """Raise `StreamError` if the handle was closed early or has failed.

        A list or batch that was read to its end may be iterated over again, and yields nothing. For
        a stream of events, raise after its end, too, because reading it again is an error of the
        caller.
        """
        is_over = self._driver.closed or self._machine.finished
        if is_over and (self._yields_events or not self._ended):
            raise handle_closed(self._noun)


class _Events(BaseHandle):
    """The attributes that only streams of events have."""

    _noun = "stream"
    _yields_events = True

    def _describe(self) -> str:
        """Return the state, the last event and the reconnections, for the repr."""
        said = [super()._describe()]
        if self._last_type:
            said.append(f"last event {self._last_type}")
        if self._machine.reconnects:
            said.append(f"{self._machine.reconnects} reconnects")
        return ", ".join(said)

    def _repr_html_(self) -> Optional[str]:
        if self._machine.seen_events is None:
            return None
        from flowmaestro_core.showing.html import stream_html

        return stream_html(self._describe(), self.last_seen, self._machine.seen_events)

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """The last events that a timeline needs; `None` for streams without a timeline.

        See `EventStream.seen_events` of `flowmaestro.types`.
        """
        return cast("Optional[Tuple[Mapping[str, Any], ...]]", self._machine.seen_events)

    @property
    def last_event_id(self) -> str:
        """The last event id that the server sent, for a reconnection; `""` if it sent none."""
        return cast("str", self._machine.last_event_id)

    @property
    def reconnects(self) -> int:
        """The number of times that the stream yielded `stream:reconnected`."""
        return cast("int", self._machine.reconnects)

    @property
    def request_id(self) -> Optional[str]:
        """`X-Request-ID` of the response that opened the stream last; `None` if there is none.

        Only a gateway in front of the server adds one. If the answer to a message was not streamed,
        this is the request id of the reply.
        """
        return cast("Optional[str]", self._machine.request_id)

    @property
    def last_seen(self) -> Mapping[str, Any]:
        """The execution as last polled; empty if it was not polled. See `EventStream.last_seen`."""
        return self._machine.last_seen or {}


class SyncHandle(BaseHandle, Generic[E]):
    """Iterates over items as they are received. Close it, or use `with`, to leave early.

    `listener` is called with each item before the caller gets it. An exception of `listener` ends
    the iteration.

    One thread iterates at a time. If a second thread calls `next` meanwhile, it gets a
    `StreamError` (code `stream_busy`). Any thread may close the handle.
    """

    def __init__(
        self,
        machine: Machine[Any],
        transport: Transport,
        listener: Optional[Listener] = None,
        observers: Optional[Observers] = None,
        keeper: Optional[SyncKeeper] = None,
    ) -> None:
        super().__init__(machine)
        self._readers: Claims[Claimant] = Claims(1)
        """The call of `next` that advances the machine or waits for the listener."""
        view = transport.interruptible() if isinstance(transport, Interruptible) else None
        self._driver = SyncDriver(machine, transport, listener, observers, self._noun, view, keeper)

    def __iter__(self) -> SyncHandle[E]:
        """Return the handle itself.

        Raises `StreamError` (code `stream_closed`) if the handle was closed early or has failed. A
        stream of events also raises it after its end; a list or a batch yields nothing then.
        """
        self._check_open()
        return self

    def __next__(self) -> E:
        """Return the next item.

        Raises `StopIteration` after the last one, the error that ends the iteration, and
        `StreamError` (code `stream_closed`) if the handle has failed before, was closed, or is
        closed meanwhile.
        """
        try:
            item = self._items.popleft() if self._items else _NOTHING
        except IndexError:  # Another thread has emptied it just now.
            item = _NOTHING
        if item is _NOTHING:  # Outside the handler: no error has an IndexError as context.
            item = self._next_item()
        if self._yields_events:
            self._last_type = item["type"]
        taken: E = item  # `cast` would be a call for each event.
        return taken

    def _next_item(self) -> Any:
        """Return the next item, of the queue `_unheard` or of the machine. Deliver it first.

        Raises what `__next__` raises.
        """
        if self._ended:
            raise StopIteration
        driver, me = self._driver, Claimant()
        try:
            if not self._readers.enter(me):
                raise _busy("thread", self._noun)
            try:
                item = next(self._unheard, _NOTHING)
                if item is _NOTHING:
                    action = driver.advance()
                    if isinstance(action, Done):
                        self._ended = True
                        raise StopIteration
                    item, *others = action.items
                    if others and driver.is_heard:
                        self._unheard = iter(others)
                    elif others:
                        self._items = deque(others)
                if driver.is_heard:
                    driver.deliver(item)
                return item
            except BaseException:
                # An interrupt may have lost what the machine has just emitted, and the iteration
                # must not go on after a gap.
                driver.close()
                raise
        except StopIteration as stray:
            if self._ended:
                raise
            # A transport or a listener has raised it; it is not the end of the iteration.
            raise RuntimeError("the transport or a callback raised StopIteration") from stray
        finally:
            if driver.closed:
                self._drop_items()
            self._readers.leave(me)

    def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        A `next` in another thread then wakes and raises `StreamError` (code `stream_closed`). If it
        waits for events, it wakes at once. If it connects, polls the execution or pauses before it
        reconnects, it wakes at once on a transport that is `Interruptible`, such as the default
        one, except from a name resolution. On other transports it finishes that operation first.
        A `next` that is in the `listener` is not woken, and returns its item.
        """
        self._driver.closed = True  # Before the queue is dropped, or `next` could fill it again.
        self._drop_items()
        self._driver.close()

    def __enter__(self) -> SyncHandle[E]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @quiet_at_exit
    def __del__(self) -> None:
        if self._driver is not None:
            # It is None if the transport failed to return an interruptible view.
            self.close()


class AsyncHandle(BaseHandle, Generic[E]):
    """Iterates over items with `async for`. Close it, or use `async with`, to leave early.

    `listener`, a function or coroutine function, is called with each item before the caller gets
    it. An exception of `listener` ends the iteration.

    One task iterates at a time. If a second task calls `anext` meanwhile, it gets a `StreamError`
    (code `stream_busy`). Any task of the same event loop may close the handle.
    """

    def __init__(
        self,
        machine: Machine[Any],
        transport: AsyncTransport,
        listener: Optional[Listener] = None,
        observers: Optional[Observers] = None,
        keeper: Optional[AsyncKeeper] = None,
    ) -> None:
        # Unlike the sync form: a flag is enough for tasks, and every transport can be interrupted.
        super().__init__(machine)
        view = AsyncInterruptibleTransport(transport)
        self._driver = AsyncDriver(
            machine, transport, listener, observers, self._noun, view, keeper
        )
        self._busy = False

    def __aiter__(self) -> AsyncHandle[E]:
        """Return the handle itself.

        Raises `StreamError` (code `stream_closed`) if the handle was closed early or has failed. A
        stream of events also raises it after its end; a list or a batch yields nothing then.
        """
        self._check_open()
        return self

    async def __anext__(self) -> E:
        """Return the next item.

        Raises `StopAsyncIteration` after the last one, the error that ends the iteration, and
        `StreamError` (code `stream_closed`) if the handle has failed before, was closed, or is
        closed meanwhile.
        """
        # Unlike the sync form: no other thread empties the queue between its check and the pop.
        item = self._items.popleft() if self._items else await self._next_item()
        if self._yields_events:
            self._last_type = item["type"]
        taken: E = item  # `cast` would be a call for each event.
        return taken

    async def _next_item(self) -> Any:
        """Return the next item, of the queue `_unheard` or of the machine. Deliver it first.

        Raises what `__anext__` raises.
        """
        # Unlike the sync form: threads need a lock where a flag is enough for tasks.
        if self._ended:
            raise StopAsyncIteration
        if self._busy:
            raise _busy("task", self._noun)
        driver = self._driver
        self._busy = True
        try:
            item = next(self._unheard, _NOTHING)
            if item is _NOTHING:
                action = await driver.advance()
                if isinstance(action, Done):
                    self._ended = True
                    raise StopAsyncIteration
                item, *others = action.items
                if others and driver.is_heard:
                    self._unheard = iter(others)
                elif others:
                    self._items = deque(others)
            if driver.is_heard:
                await driver.deliver(item)
            return item
        except StopAsyncIteration as stray:
            if self._ended:
                raise
            # A transport or a listener has raised it; it is not the end of the iteration.
            raise RuntimeError("the transport or a callback raised StopAsyncIteration") from stray
        finally:
            if driver.closed:
                self._drop_items()
            self._busy = False

    async def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        An `anext` in another task then wakes and raises `StreamError` (code `stream_closed`). One
        that awaits a callback of yours does not wake, but sends nothing afterwards; after the
        `listener`, it returns its item.
        """
        self._driver.closed = True  # Before the queue is dropped, or `next` could fill it again.
        self._drop_items()
        await self._driver.close()

    aclose = close  # Unlike the sync form: contextlib.aclosing calls this name.
    """The same as `close`, under the name that asynchronous generators and `contextlib.aclosing`
    use."""

    async def __aenter__(self) -> AsyncHandle[E]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @quiet_at_exit
    def __del__(self) -> None:
        # Unlike the sync form: an async body must be released on its own event loop.
        if self._driver is not None and not self._driver.drop():
            warnings.warn(
                f"a {self._noun} was dropped, neither read to its end nor closed, after its event "
                "loop had gone",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class SyncItems(SyncHandle[E]):
    """The items of a list, page after page."""

    _noun = "list"


class AsyncItems(AsyncHandle[E]):
    """The items of a list, page after page."""

    _noun = "list"


class EventStream(_Events, SyncHandle[E]):
    """The events of an execution or a thread."""


class AsyncEventStream(_Events, AsyncHandle[E]):
    """The events of an execution or a thread."""


class MessageEventStream(EventStream[Any]):
    """The events of an agent's answer."""

    @property
    def message(self) -> Optional[MessageCompleted]:
        """The `message:completed` event; `None` before it is yielded, and if the answer failed."""
        return cast("Optional[MessageCompleted]", self._machine.message)

    def text(self) -> _Text:
        """Iterate over the text of the answer, piece by piece as received.

        The iteration raises `StreamError` (code `message_failed`) if the agent could not answer.
        """
        return _Text(self.__iter__())


class AsyncMessageEventStream(AsyncEventStream[Any]):
    """The events of an agent's answer."""

    @property
    def message(self) -> Optional[MessageCompleted]:
        """The `message:completed` event; `None` before it is yielded, and if the answer failed."""
        return cast("Optional[MessageCompleted]", self._machine.message)

    def text(self) -> _AsyncText:
        """Iterate over the text of the answer with `async for`, piece by piece as received.

        The iteration raises `StreamError` (code `message_failed`) if the agent could not answer.
        """
        return _AsyncText(self.__aiter__())


SYNC_HANDLES: Mapping[HandleKind, Type[SyncHandle[Any]]] = {
    HandleKind.ITEMS: SyncItems,
    HandleKind.EVENTS: EventStream,
    HandleKind.MESSAGE_EVENTS: MessageEventStream,
}
"""The handles of all operations except a batch: its handle also needs the journal."""

ASYNC_HANDLES: Mapping[HandleKind, Type[AsyncHandle[Any]]] = {
    HandleKind.ITEMS: AsyncItems,
    HandleKind.EVENTS: AsyncEventStream,
    HandleKind.MESSAGE_EVENTS: AsyncMessageEventStream,
}
"""The same for an async client."""


def _busy(reader: str, noun: str) -> StreamError:
    return StreamError(
        f"The next item is awaited already, by another {reader} or by the code that called this "
        f"callback; a {noun} has one reader at a time",
        code="stream_busy",
    )


class _Text:
    """Iterates over the text of an answer, piece by piece.

    Closing it closes the stream of events.
    """

    def __init__(self, events: SyncHandle[Any]) -> None:
        self._events = events

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        while True:
            text = _text_of(next(self._events))
            if text:
                return text

    def close(self) -> None:
        """Close the event stream that the text comes from."""
        # Unlike the async form: contextlib.aclosing calls this name.
        self._events.close()


class _AsyncText:
    """Iterates over the text of an answer, piece by piece, with `async for`."""

    def __init__(self, events: AsyncHandle[Any]) -> None:
        self._events = events

    def __aiter__(self) -> _AsyncText:
        return self

    async def __anext__(self) -> str:
        # Unlike the sync form: Python 3.9 has no `anext`.
        while True:
            text = _text_of(await self._events.__anext__())
            if text:
                return text

    async def aclose(self) -> None:
        """Close the event stream that the text comes from."""
        # Unlike the sync form: contextlib.aclosing calls this name.
        await self._events.aclose()


def _text_of(event: Any) -> str:
    """Return the text of a `message:token` event; `""` for any other event.

    Raises `StreamError` (code `message_failed`) for a `message:failed` event.
    """
    if event["type"] == "message:failed":
        why = event.get("error") or "the server does not say why"
        raise StreamError(f"The agent could not answer: {why}", event, code="message_failed")
    text = event.get("token") if event["type"] == "message:token" else None
    return text if isinstance(text, str) else ""

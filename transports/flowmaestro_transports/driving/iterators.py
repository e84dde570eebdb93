"""The handles that callers iterate over: shells around a driver, one sync, one async.

A handle holds at most one connection, and releases it

* before it hands over a terminal event, and when the iteration ends or fails;
* when it is closed, or its `with` block is left, or the iterating task is cancelled;
* when it is collected: an async one on the event loop that it belongs to, whichever thread
  the collection happens in.

So a loop that runs to the terminal event, or leaves with `break`, needs no `close`.
"""

from __future__ import annotations

import warnings
from typing import Any, Generic, Mapping, Optional, TypeVar

from flowmaestro_core.actions import Done
from flowmaestro_core.errors import StreamError
from flowmaestro_core.handles import AsyncItems, SyncItems
from flowmaestro_core.machine import Machine
from flowmaestro_transports.contract import AsyncTransport, Interruptible, Transport
from flowmaestro_transports.driving.drivers import AsyncDriver, Listener, SyncDriver, stream_closed
from flowmaestro_transports.driving.fork_guard import NotPicklable, quiet_at_exit
from flowmaestro_transports.driving.interrupt import AsyncInterruptibleTransport
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.observing.observers import Observers

E = TypeVar("E")


def _of_machine(name: str, default: Any) -> Any:
    """A property of a handle that its machine knows, else `default`."""

    def known(handle: Any) -> Any:
        return getattr(handle._machine, name, default)

    return property(known, doc=f"As `EventStream.{name}`.")


class _Progress(NotPicklable):
    """What a handle reports about its machine."""

    _driver: Any = None

    def __init__(self, machine: Machine[Any]) -> None:
        self._machine = machine
        self._ended = False
        self._of_events = hasattr(machine, "last_event_id")
        self._last_type = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._said()}>"

    def _said(self) -> str:
        """Its state, its last event, its reconnections."""
        state = "ended" if self._ended else "closed" if self._driver.closed else self._machine.state
        said = [state]
        if self._last_type:
            said.append(f"last event {self._last_type}")
        if self.reconnects:
            said.append(f"{self.reconnects} reconnects")
        return ", ".join(said)

    def _repr_html_(self) -> Optional[str]:
        if self.seen_events is None:
            return None
        from flowmaestro_core.showing.html import stream_html

        return stream_html(self._said(), self.last_seen, self.seen_events)

    seen_events = _of_machine("seen_events", None)
    last_event_id = _of_machine("last_event_id", "")
    reconnects = _of_machine("reconnects", 0)
    request_id = _of_machine("request_id", None)

    @property
    def last_seen(self) -> Mapping[str, Any]:
        """As `EventStream.last_seen`."""
        return getattr(self._machine, "last_seen", None) or {}

    @property
    def message(self) -> Any:
        """The `message:completed` event once it has come; `None` before.

        Only of the answer to a message; other handles have no such attribute.
        """
        machine: Any = self._machine
        return machine.message

    @property
    def _is_empty(self) -> bool:
        """Whether iterating again yields nothing, as for a list that was read to its end.

        Iterating again over a finished stream of events is an error of the caller.
        """
        return self._ended and not self._of_events


class SyncStream(_Progress, Generic[E]):
    """Items as they come, for `for`. Close it, or use `with`, to leave early.

    `listener` is called with each item before it is handed over. What it raises ends the
    iteration.

    One thread iterates at a time: `next` beside another one raises `StreamError` (code
    `stream_busy`). Any thread may close it.
    """

    def __init__(
        self,
        machine: Machine[Any],
        transport: Transport,
        listener: Optional[Listener] = None,
        observers: Optional[Observers] = None,
    ) -> None:
        super().__init__(machine)
        self._turn: Owned[None] = Owned([None])  # empty while a thread iterates
        if isinstance(transport, Interruptible):
            transport = transport.interruptible()
        self._driver = SyncDriver(machine, transport, listener, observers)

    def __iter__(self) -> SyncStream[E]:
        """Itself.

        Raises `StreamError` (code `stream_closed`) when it was closed early or has failed, and
        for a stream of events also when it has ended; a list at its end is empty.
        """
        if (self._driver.closed or self._machine.finished) and not self._is_empty:
            raise stream_closed()
        return self

    def __next__(self) -> E:
        """The next item.

        Raises `StopIteration` after the last one, and `StreamError` (code `stream_closed`) when
        the handle is closed, before or meanwhile, or has failed before.
        """
        if self._ended:
            raise StopIteration
        turn: Owned[None] = Owned()
        try:
            try:
                if not self._turn.move_to(turn):
                    raise _busy("thread")
                action = self._driver.advance()
            except StopIteration as stray:  # of a transport or a listener; not the end
                raise RuntimeError("the transport or a callback raised StopIteration") from stray
            finally:
                turn.move_to(self._turn)
        finally:
            turn.move_to(self._turn)  # again, as `Owned` says
        if isinstance(action, Done):
            self._ended = True
            raise StopIteration
        item: E = action.item
        if self._of_events:
            self._last_type = action.item["type"]
        return item

    def text(self) -> SyncItems[str]:
        """The answer's text alone, in the pieces in which it comes.

        Only of the answer to a message; other handles raise `AttributeError`. Raises
        `StreamError` (code `message_failed`) where the agent could not answer.
        """
        _ = self.message
        return _Text(self.__iter__())

    def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        From another thread, this wakes a `next`, and it raises `StreamError` (code
        `stream_closed`): at once if it waits for events; on a transport that is `Interruptible`,
        as the default one is, also while it connects, polls the execution or pauses before
        it reconnects; otherwise as soon as that step has ended.
        """
        self._driver.close()

    def __enter__(self) -> SyncStream[E]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @quiet_at_exit
    def __del__(self) -> None:
        if self._driver is not None:  # else the transport refused to make a view
            self.close()


class AsyncStream(_Progress, Generic[E]):
    """Items as they come, for `async for`. Close it, or use `async with`, to leave early.

    `listener` is as that of `SyncStream`, or a coroutine function.

    One task iterates at a time: a second `anext` meanwhile raises `StreamError` (code
    `stream_busy`). Any task of the same event loop may close it.
    """

    def __init__(
        self,
        machine: Machine[Any],
        transport: AsyncTransport,
        listener: Optional[Listener] = None,
        observers: Optional[Observers] = None,
    ) -> None:
        super().__init__(machine)
        view = AsyncInterruptibleTransport(transport)
        self._driver = AsyncDriver(machine, view, listener, observers)
        self._busy = False

    def __aiter__(self) -> AsyncStream[E]:
        """Itself, as `SyncStream.__iter__`."""
        if (self._driver.closed or self._machine.finished) and not self._is_empty:
            raise stream_closed()
        return self

    async def __anext__(self) -> E:
        """As `SyncStream.__next__`, with `StopAsyncIteration`."""
        if self._ended:
            raise StopAsyncIteration
        if self._busy:
            raise _busy("task")
        self._busy = True
        try:
            action = await self._driver.advance()
        except StopAsyncIteration as stray:  # of a transport or a listener; not the end
            raise RuntimeError("the transport or a callback raised StopAsyncIteration") from stray
        finally:
            self._busy = False
        if isinstance(action, Done):
            self._ended = True
            raise StopAsyncIteration
        item: E = action.item
        if self._of_events:
            self._last_type = action.item["type"]
        return item

    def text(self) -> AsyncItems[str]:
        """As `SyncStream.text`, for `async for`."""
        _ = self.message
        return _AsyncText(self.__aiter__())

    async def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        From another task, this wakes an `anext`, whatever it waits for but a callback of yours,
        and it raises `StreamError` (code `stream_closed`).
        """
        await self._driver.close()

    aclose = close
    """The name that `contextlib.aclosing` calls, and that an asynchronous generator has."""

    async def __aenter__(self) -> AsyncStream[E]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @quiet_at_exit
    def __del__(self) -> None:
        if self._driver is not None and not self._driver.drop():
            warnings.warn(
                "a stream was dropped, neither read to its end nor closed, after its event loop "
                "had gone",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


def _busy(reader: str) -> StreamError:
    return StreamError(
        f"The next item is awaited already, by another {reader} or by the code that called this "
        "callback; a stream has one reader at a time",
        code="stream_busy",
    )


class _Text:
    """The text out of the events, closed with them."""

    def __init__(self, events: SyncStream[Any]) -> None:
        self._events = events
        self.close = events.close

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        while True:
            text = _text_of(next(self._events))
            if text:
                return text


class _AsyncText:
    """As `_Text`, for `async for`."""

    def __init__(self, events: AsyncStream[Any]) -> None:
        self._events = events
        self.aclose = events.aclose

    def __aiter__(self) -> _AsyncText:
        return self

    async def __anext__(self) -> str:
        while True:
            text = _text_of(await self._events.__anext__())
            if text:
                return text


def _text_of(event: Any) -> str:
    """The piece of text that an event brings; `""` for none."""
    if event["type"] == "message:failed":
        why = event.get("error") or "the server does not say why"
        raise StreamError(f"The agent could not answer: {why}", event, code="message_failed")
    text = event.get("token") if event["type"] == "message:token" else None
    return text if isinstance(text, str) else ""

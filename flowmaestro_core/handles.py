"""The types of the handles: the objects that callers iterate over."""

from __future__ import annotations

from typing import Any, Coroutine, Iterator, Mapping, Optional, Protocol, Tuple, TypeVar

from flowmaestro_core.types import MessageCompleted, ThreadEvent

E = TypeVar("E", covariant=True)
Self = TypeVar("Self")


class SyncItems(Protocol[E]):
    """Items, yielded as they are received. To leave the iteration early, call `close`."""

    def __iter__(self) -> Iterator[E]: ...
    def __next__(self) -> E: ...
    def close(self) -> None:
        """Release the connection now. Closing twice is harmless."""
        ...


class AsyncItems(Protocol[E]):
    """Items, yielded as they are received. To leave an `async for` early, await `aclose`.

    `contextlib.aclosing` calls `aclose` at the end of a block.
    """

    def __aiter__(self: Self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, E]: ...
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Release the connection now. Closing twice is harmless."""
        ...


class _Progress(Protocol):
    @property
    def last_event_id(self) -> str:
        """The last event id that the server sent, for a reconnection; `""` if it sent none."""
        ...

    @property
    def reconnects(self) -> int:
        """The number of times that the stream yielded `stream:reconnected`."""
        ...

    @property
    def request_id(self) -> Optional[str]:
        """The `X-Request-ID` of the last response that opened the stream; `None` if there is none.

        Only a gateway before the server adds it. If the server answered a message without a stream,
        this is the `request_id` of its reply.
        """
        ...

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """The events of an execution's stream, for its timeline; `None` for other streams.

        These are at most the last 1,000 of the events that a timeline needs, with only the keys
        that the timeline needs. They may include events that were received but not yet yielded. The
        terminal event is among them once it was yielded.
        """
        ...

    @property
    def last_seen(self) -> Mapping[str, Any]:
        """The execution of the stream as last polled; empty if it was not polled."""
        ...


class EventStream(SyncItems[E], _Progress, Protocol[E]):
    """Events, yielded as they are received. To leave early, call `close` or use `with`."""

    def __enter__(self: Self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class AsyncEventStream(AsyncItems[E], _Progress, Protocol[E]):
    """Events, yielded as they are received. To leave early, await `close` or use `async with`."""

    def __aenter__(self: Self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]: ...
    def close(self) -> Coroutine[Any, Any, None]:
        """Release the connection now. `aclose` does the same. Closing twice is harmless."""
        ...


class _Answer(Protocol):
    @property
    def message(self) -> Optional[MessageCompleted]:
        """The `message:completed` event; `None` before it is yielded, and if the answer failed."""
        ...


class MessageEventStream(EventStream[ThreadEvent], _Answer, Protocol):
    """The events of an agent's answer to one message."""

    def text(self) -> SyncItems[str]:
        """Iterate over the text of the answer, piece by piece as received.

        The iteration raises `StreamError` (code `message_failed`) if the agent could not answer.
        """
        ...


class AsyncMessageEventStream(AsyncEventStream[ThreadEvent], _Answer, Protocol):
    """The events of an agent's answer to one message."""

    def text(self) -> AsyncItems[str]:
        """Iterate over the text of the answer with `async for`, piece by piece as received.

        The iteration raises `StreamError` (code `message_failed`) if the agent could not answer.
        """
        ...

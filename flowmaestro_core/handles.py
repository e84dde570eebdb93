"""The types of the handles that callers iterate over."""

from __future__ import annotations

from typing import Any, Coroutine, Iterator, Mapping, Optional, Protocol, Tuple, TypeVar

from flowmaestro_core.types import MessageCompleted, ThreadEvent

E = TypeVar("E", covariant=True)
Self = TypeVar("Self")


class SyncItems(Protocol[E]):
    """Items as they come. Iterate over it; close it to leave early."""

    def __iter__(self) -> Iterator[E]: ...
    def __next__(self) -> E: ...
    def close(self) -> None:
        """Release the connection now. Closing twice is harmless."""
        ...


class AsyncItems(Protocol[E]):
    """Items as they come. Iterate with `async for`; close it to leave early.

    `contextlib.aclosing` closes it at the end of a block.
    """

    def __aiter__(self: Self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, E]: ...
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Release the connection now. Closing twice is harmless."""
        ...


class _Progress(Protocol):
    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        ...

    @property
    def reconnects(self) -> int:
        """How often the stream was reconnected."""
        ...

    @property
    def request_id(self) -> Optional[str]:
        """`X-Request-ID` of the reply that opened the stream, where a gateway adds one."""
        ...

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """What an execution's stream remembers for its timeline; `None` of other streams.

        It keeps the last 1,000 events that a timeline needs, and of each only what that needs.
        They may include events that have come and were not handed over yet.
        """
        ...

    @property
    def last_seen(self) -> Mapping[str, Any]:
        """The execution of the stream, where it had to be polled; else empty."""
        ...


class EventStream(SyncItems[E], _Progress, Protocol[E]):
    """Events as they come. Iterate over it; close it, or use `with`, to leave early."""

    def __enter__(self: Self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class AsyncEventStream(AsyncItems[E], _Progress, Protocol[E]):
    """Events as they come. Iterate with `async for`; `async with` or `close()` to leave early."""

    def __aenter__(self: Self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]: ...
    def close(self) -> Coroutine[Any, Any, None]:
        """As `aclose`."""
        ...


class _Answer(Protocol):
    @property
    def message(self) -> Optional[MessageCompleted]:
        """The `message:completed` event once it has come; `None` before."""
        ...


class MessageEventStream(EventStream[ThreadEvent], _Answer, Protocol):
    """The events of one answer."""

    def text(self) -> SyncItems[str]:
        """The answer's text alone, in the pieces in which it comes.

        Raises `StreamError` (code `message_failed`) where the agent could not answer.
        """
        ...


class AsyncMessageEventStream(AsyncEventStream[ThreadEvent], _Answer, Protocol):
    """The events of one answer."""

    def text(self) -> AsyncItems[str]:
        """As `MessageEventStream.text`, for `async for`."""
        ...

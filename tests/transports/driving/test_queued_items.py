"""What one read brings is queued by the handle, which returns it item by item."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

import anyio
import pytest

from flowmaestro import StreamError
from flowmaestro_core.actions import Close, Done, Emit, Open, Read
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.driving.iterators import AsyncItems, SyncItems
from tests.harness.transports.scripted_machine import Scripted

REQUEST = Request("GET", "http://localhost/x", Headers())


class Body:
    status, headers = 200, Headers()

    def __init__(self) -> None:
        self.open = True

    def read(self, _patience: float) -> bytes:
        return b"bytes"

    def close(self) -> None:
        self.open = False


class Plain:
    """A sync transport with one body at a time."""

    def __init__(self) -> None:
        self.bodies: List[Body] = []

    def open(self, _request: Request, _timeout: float) -> Body:
        self.bodies.append(Body())
        return self.bodies[-1]

    def now(self) -> float:
        return 7.0


class Awaited(Body):
    async def read(self, patience: float) -> bytes:  # type: ignore[override]
        return super().read(patience)

    async def close(self) -> None:  # type: ignore[override]
        super().close()


class Awaiting(Plain):
    async def open(self, _request: Request, _timeout: float) -> Awaited:  # type: ignore[override]
        self.bodies.append(Awaited())
        return self.bodies[-1]  # type: ignore[return-value]


class AsyncInThreads:
    """An `AsyncItems` with the methods of a `SyncItems`."""

    def __init__(self, *arguments: Any) -> None:
        self.items = AsyncItems[Any](*arguments)

    def __next__(self) -> Any:
        try:
            return anyio.run(self.items.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        anyio.run(self.items.close)


Make = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Return a function that makes a handle of a machine, with a listener or without."""
    kind, transport = SyncItems[Any], Plain()
    if request.param == "async":
        kind, transport = AsyncInThreads, Awaiting()  # type: ignore[assignment]

    def made(*actions: Any, listener: Any = None, observers: Any = None) -> Any:
        handle: Any = kind(Scripted(*actions), transport, listener, observers)  # type: ignore[arg-type]
        handle.bodies = transport.bodies
        return handle

    return made


def machine_of(handle: Any) -> Any:
    return getattr(handle, "items", handle)._machine


def closed() -> Any:
    return pytest.raises(StreamError, match="stream_closed")


BOTH = pytest.mark.parametrize("listener", [None, lambda item: None], ids=["unheard", "heard"])


@BOTH
def test_the_machine_goes_on_only_after_the_last_item(make: Make, listener: Any) -> None:
    handle = make(Emit(["a", "b"]), Emit(["c"]), Done(None), listener=listener)
    assert [next(handle), next(handle)] == ["a", "b"]
    assert machine_of(handle).heard == ["start"]
    assert next(handle) == "c"
    assert machine_of(handle).heard == ["start", "emitted"]
    with pytest.raises(StopIteration):
        next(handle)


@BOTH
@pytest.mark.parametrize("taken", range(4))
def test_close_drops_what_is_queued(make: Make, listener: Any, taken: int) -> None:
    actions = Open(REQUEST, 9), Read(9), Emit(list("abc")), Emit(["d"])
    handle = make(*actions, listener=listener)
    assert [next(handle) for _ in range(taken)] == list("abc")[:taken]
    handle.close()
    for _ in range(2):
        with closed():
            next(handle)
    assert not any(body.open for body in handle.bodies)


def test_close_in_another_thread_stops_a_reader_amid_its_queue() -> None:
    """However the two interleave: what is returned has no gap, and nothing comes after the end."""
    for after in range(0, 2000, 40):
        endless = (Emit(list(range(at, at + 500))) for at in itertools.count(0, 500))
        handle = SyncItems[Any](Scripted(), Plain())  # type: ignore[arg-type]
        handle._machine.actions = endless
        got: List[int] = []

        def read(handle: Any = handle, got: List[int] = got) -> None:
            got.extend(handle)  # which appends one after another

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            while len(got) < after:
                pass
            handle.close()
            with closed():
                reading.result(60)
        assert got == list(range(len(got)))
        with closed():
            next(handle)


def test_the_listener_hears_each_item_at_its_delivery(make: Make) -> None:
    heard: List[str] = []
    handle = make(Emit(list("abc")), Done(None), listener=heard.append)
    for count in range(1, 4):
        next(handle)
        assert heard == list("abc")[:count]


def test_what_a_listener_raises_drops_the_queue(make: Make) -> None:
    def listener(item: str) -> None:
        if item == "b":
            raise KeyError(item)

    handle = make(Open(REQUEST, 9), Emit(list("abc")), Emit(["d"]), listener=listener)
    assert next(handle) == "a"
    with pytest.raises(KeyError):
        next(handle)
    assert not any(body.open for body in handle.bodies)
    with closed():
        next(handle)


def test_a_listener_that_closes_the_stream_gets_its_own_item_returned(make: Make) -> None:
    handle = make(Emit(list("abc")), Emit(["d"]), listener=lambda item: stop())

    def stop() -> Any:
        return handle.close() if isinstance(handle, SyncItems) else handle.items.close()

    assert next(handle) == "a"
    with closed():
        next(handle)


def test_a_listener_cannot_read_the_queue_that_it_hears(make: Make) -> None:
    handle = make(Emit(list("ab")), listener=lambda item: again())

    def again() -> Any:
        return next(handle) if isinstance(handle, SyncItems) else handle.items.__anext__()

    with pytest.raises(StreamError, match="stream_busy"):
        next(handle)


def test_no_body_is_open_beside_the_terminal_event(make: Make) -> None:
    handle = make(Open(REQUEST, 9), Read(9), Emit(["a"]), Close(), Emit(["end"]), Done(None))
    assert next(handle) == "a"
    assert handle.bodies[0].open
    assert next(handle) == "end"
    assert not handle.bodies[0].open

"""The check of drivers: good ones pass it, and one that makes a mistake is told the rule."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict

import pytest
from asyncio_driver import drive as drive_on_asyncio

from flowmaestro.testing import check_driver
from flowmaestro.testing.conformance.drivers import our_drive
from flowmaestro_core import Done
from flowmaestro_transports import AnyioTransport, Request, Response, SocketTransport
from flowmaestro_transports.driving.drivers import AsyncDriver
from flowmaestro_transports.driving.stores import AsyncKeeper, Kept

Emit = Callable[[Any], Any]


async def drive_async(machine: Any, emit: Emit, store: Any) -> Any:
    transport = AnyioTransport()
    driver = AsyncDriver(machine, transport, keeper=AsyncKeeper(Kept(store), transport))
    try:
        while True:
            action = await driver.advance()
            if isinstance(action, Done):
                return action.value
            for item in action.items:
                emit(item)
    finally:
        await transport.close()


@pytest.mark.parametrize("good", [our_drive, drive_async, drive_on_asyncio])
def test_a_good_driver_passes(good: Any) -> None:
    check_driver(good)


class Faulty:
    """A machine whose driver makes one mistake, as the driver would make it."""

    def __init__(self, machine: Any, **changed: Callable[..., Any]) -> None:
        self._machine, self._changed = machine, changed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._machine, name)
        change = self._changed.get(name)
        return found if change is None else lambda *args: change(found, *args)


MISTAKES: Dict[str, Dict[str, Callable[..., Any]]] = {
    "now must not run backwards": {
        "response_received": lambda report, it, now, jitter: report(it, now - 1e6, jitter)
    },
    "jitter must be at least 0 and below 1": {
        "start": lambda report, now, jitter: report(now, 1.0),
    },
    "an empty read is the end of the body": {
        "bytes_received": lambda report, it, now, jitter: report(b"", now, jitter)
    },
    "transport_failed takes a TransportFailure": {
        "transport_failed": lambda report, it, now, jitter: report(OSError(), now, jitter)
    },
}


@pytest.mark.parametrize("rule", MISTAKES)
def test_a_mistake_is_told_with_its_rule(rule: str) -> None:
    def faulty(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(Faulty(machine, **MISTAKES[rule]), emit, store)

    with pytest.raises(AssertionError, match=rule):
        check_driver(faulty)


def test_a_driver_that_does_not_wait_is_told() -> None:
    async def hasty(machine: Any, emit: Emit, store: Any) -> Any:
        sleep, asyncio.sleep = asyncio.sleep, lambda seconds: sleep(0)  # type: ignore[assignment]
        try:
            return await drive_on_asyncio(machine, emit, store)
        finally:
            asyncio.sleep = sleep  # type: ignore[assignment]

    with pytest.raises(AssertionError, match=r"wait for the whole of Wait\.seconds"):
        check_driver(hasty)


def test_a_driver_that_loses_its_stream_during_a_poll_is_told() -> None:
    class Forgetful(SocketTransport):
        opened: Any = None

        def open(self, request: Request, timeout: float) -> Any:
            self.opened = super().open(request, timeout)
            return self.opened

        def send(self, request: Request, timeout: float) -> Response:
            if self.opened is not None:
                self.opened.close()
            return super().send(request, timeout)

    def forgetful(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(machine, emit, store, Forgetful())

    with pytest.raises(AssertionError, match="must keep a stream open while it carries out a Send"):
        check_driver(forgetful)


def test_a_listener_that_misses_items_is_told() -> None:
    def deaf(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(machine, lambda item: None, store)

    with pytest.raises(AssertionError, match="its listener must get"):
        check_driver(deaf)

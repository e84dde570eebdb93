"""The check of drivers: good ones pass it, and one that makes a mistake is told the rule."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict, Tuple

import pytest
from asyncio_driver import drive as drive_on_asyncio

from flowmaestro.testing import check_driver
from flowmaestro.testing.conformance.drivers import SCENES, check_scenes, our_drive
from flowmaestro_core import Done, FlowMaestroError
from flowmaestro_transports import (
    AnyioTransport,
    Phase,
    Request,
    Response,
    SocketTransport,
    TransportFailure,
)
from flowmaestro_transports.driving.drivers import AsyncDriver
from flowmaestro_transports.driving.stores import AsyncKeeper, Kept
from tests.harness.patience import given_time
from tests.harness.testing import broken_drivers as broken

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


def drive_plainly(machine: Any, emit: Emit, store: Any) -> Any:
    return broken.PlainDriver(machine, emit, store).run()


@pytest.mark.parametrize("good", [our_drive, drive_async, drive_on_asyncio, drive_plainly])
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


def reports_as(**changed: Any) -> Callable[..., Any]:
    """Report a failure with other attributes than it has."""

    def report_it(report: Callable[..., Any], it: Any, now: float, jitter: float) -> Any:
        told = {"phase": it.phase, "timed_out": it.timed_out, **changed}
        return report(TransportFailure(told.pop("phase"), it.message, **told), now, jitter)

    return report_it


MISTAKES: Dict[str, Tuple[str, str, Callable[..., Any]]] = {
    "now must not run backwards": (
        "pages",
        "response_received",
        lambda report, it, now, jitter: report(it, now - 1e6, jitter),
    ),
    "jitter must be at least 0 and below 1": (
        "pages",
        "start",
        lambda report, now, jitter: report(now, 1.0),
    ),
    "an empty read is the end of the body": (
        "a run whose event stream is lost",
        "bytes_received",
        lambda report, it, now, jitter: report(b"", now, jitter),
    ),
    "transport_failed takes a TransportFailure": (
        "a response that breaks off",
        "transport_failed",
        lambda report, it, now, jitter: report(OSError(), now, jitter),
    ),
    "it must send each POST once": (
        "a start whose response is lost",
        "transport_failed",
        reports_as(phase=Phase.NOT_SENT),
    ),
    "'failed NOT_SENT', 'Wait'": (
        "a start whose connection is refused",
        "transport_failed",
        reports_as(phase=Phase.MAYBE_PROCESSED),
    ),
    "'failed MAYBE_PROCESSED timed_out'": (
        "a call whose first attempt times out",
        "transport_failed",
        reports_as(timed_out=False),
    ),
    "store_failed takes an error of the SDK": (
        "a batch with a store that fails",
        "store_failed",
        lambda report, it, now, jitter: report(OSError(), now, jitter),
    ),
    "wall_time is the present time": (
        "a batch with a store",
        "loaded",
        lambda report, it, now, jitter: report(it._replace(wall_time=0.0), now, jitter),
    ),
}


def check_scene(name: str, drive: Any) -> None:
    """Check what the scenes whose names begin with `name` show."""
    scenes = [scene for scene in SCENES if scene.name.startswith(name)]
    assert scenes
    check_scenes(drive, scenes)


@pytest.mark.parametrize("rule", MISTAKES)
def test_a_mistake_is_told_with_its_rule(rule: str) -> None:
    scene, event, change = MISTAKES[rule]

    def faulty(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(Faulty(machine, **{event: change}), emit, store)

    with pytest.raises(AssertionError, match=rule):
        check_scene(scene, faulty)


RETRIED = "a call that is retried"
MISTAKEN = [
    (broken.SendsTwice, "a call that fails", "the requests must be"),
    (broken.RetriesByItself, "a start whose response is lost", "it must send each POST once"),
    (broken.HandsOverAnotherReply, "pages", "its listener must get"),
    (broken.TakesAStatusForAFailure, "a call that fails", "must end with NotFoundError"),
    (broken.LosesTheHeaders, "a call that fails", "not with AuthenticationError"),
    (broken.IgnoresTheTimeout, RETRIED, "end an attempt after its timeout"),
    (broken.ReadsTwoClocks, RETRIED, "now must not run backwards"),
    (broken.ReadsTheClockOnce, RETRIED, r"wait for the whole of Wait\.seconds"),
    (broken.DrawsOneJitter, RETRIED, "jitter must be drawn for each event"),
    (broken.TakesSecondsForMilliseconds, RETRIED, r"wait for the whole of Wait\.seconds"),
    (broken.SkipsWait, RETRIED, r"wait for the whole of Wait\.seconds"),
    (broken.StartsAgainAfterAWait, RETRIED, "after Wait, report waited, not start"),
    (broken.LosesTheLastItems, "pages", "its listener must get"),
    (broken.EmitsInAnotherOrder, "pages", "its listener must get"),
    (broken.EmitsTwice, "pages", "its listener must get"),
    (broken.WrapsTheError, "a call that fails", "must end with NotFoundError"),
    (broken.ReturnsTheError, "a call that fails", "not with a returned NotFoundError"),
    (broken.TakesALossForTheEnd, "a run whose event stream is lost", "has not ended: report"),
    (broken.SkipsSave, "a batch with a store that fails", "must end with JournalError"),
]


@pytest.mark.parametrize(
    ("driver", "scene", "rule"), MISTAKEN, ids=[driver.__name__ for driver, _, _ in MISTAKEN]
)
def test_a_driver_with_a_mistake_is_told_the_rule(driver: Any, scene: str, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_scene(scene, lambda *given: driver(*given).run())


def test_a_driver_that_takes_quiet_for_the_end_is_told() -> None:
    def attempt(_: float) -> None:
        with pytest.raises(AssertionError, match="it must keep a stream open"):
            check_scene(
                "a run whose event stream is quiet",
                lambda *given: broken.TakesQuietForTheEnd(*given).run(),
            )

    given_time(attempt)  # A busy machine may look only when the run has ended.


def test_a_driver_that_does_not_wait_is_told() -> None:
    async def hasty(machine: Any, emit: Emit, store: Any) -> Any:
        sleep, asyncio.sleep = asyncio.sleep, lambda seconds: sleep(0)  # type: ignore[assignment]
        try:
            return await drive_on_asyncio(machine, emit, store)
        finally:
            asyncio.sleep = sleep  # type: ignore[assignment]

    with pytest.raises(AssertionError, match=r"wait for the whole of Wait\.seconds"):
        check_scene("a call that is retried", hasty)


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

    def attempt(_: float) -> None:
        error = None
        try:
            check_scene("a run whose event stream is quiet", forgetful)
        except AssertionError as caught:
            error = caught
        assert "must keep a stream open while it carries out a Send" in str(error)

    given_time(attempt)  # A busy machine may poll only when the run has ended.


def test_a_driver_that_could_not_open_its_stream_in_time_is_played_once_more() -> None:
    """A busy machine may need as long for it."""
    late = [1.2]

    class Late(SocketTransport):
        def open(self, request: Request, timeout: float) -> Any:
            if late:
                time.sleep(min(late.pop(), timeout))
                raise TransportFailure(Phase.NOT_SENT, "too late", timed_out=True)
            return super().open(request, timeout)

    def slow(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(machine, emit, store, Late())

    check_scene("a run whose event stream is quiet", slow)
    assert not late


def test_a_driver_that_lets_the_exception_of_a_store_escape_is_told() -> None:
    def careless(machine: Any, emit: Emit, store: Any) -> Any:
        try:
            return our_drive(machine, emit, store)
        except FlowMaestroError as error:
            raise error.__cause__ or error from None

    with pytest.raises(AssertionError, match="must end with JournalError, not with OSError"):
        check_scene("a batch with a store that fails", careless)


def test_a_listener_that_misses_items_is_told() -> None:
    def deaf(machine: Any, emit: Emit, store: Any) -> Any:
        return our_drive(machine, lambda item: None, store)

    with pytest.raises(AssertionError, match="its listener must get"):
        check_scene("pages", deaf)

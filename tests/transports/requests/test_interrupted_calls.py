"""An exception between any two lines of a call on requests loses no slot, and breaks no later call.

A signal handler raises wherever it strikes. Here a trace function raises at each call, line and
return of our code and of requests in turn.
"""

from __future__ import annotations

import itertools
import sys
import time
from types import FrameType
from typing import Any

import pytest

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports import RequestsTransport
from flowmaestro_transports.requests.slots import Slots

OURS = ("flowmaestro_transports.requests", "requests", "urllib3.connectionpool")
"""Not `queue`: one struck there may keep the lock of a pool, as `falls_short` says."""


class Struck(BaseException):
    """As `KeyboardInterrupt`."""


class StrikeAt:
    """Raises at the step with this number."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(OURS):
            return None
        if frame.f_code.co_name == "__del__":  # what is raised there goes nowhere
            return None
        self.left -= 1
        if self.left == 0:
            raise Struck
        return self

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self.before)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_call_that_is_struck_anywhere_leaves_the_next_one_whole(scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        request = Request("POST", server.url, Headers({"X-API-Key": "k"}), b"hi")
        made = RequestsTransport(max_connections=1)
        made.send(request, 5.0)
        for number in itertools.count(1, 7):
            strike = StrikeAt(number)
            try:
                with strike:
                    made.send(request, 5.0)
            except Struck:
                pass
            if strike.left > 0:
                break
            assert made.send(request, 5.0).body == b"hi", number
        made.close()
    assert number > 300


def test_slots_survive_whatever_strikes() -> None:
    slots = Slots(2)
    for number in itertools.count(1):
        strike = StrikeAt(number)
        try:
            with strike:
                slot = slots.take(time.monotonic() + 5.0)
                assert slot is not None
                slots.free(slot)
        except Struck:
            pass
        slot = None
        held = [slots.take(time.monotonic() + 5.0) for _ in range(2)]
        assert None not in held, number
        assert slots.take(time.monotonic()) is None
        for each in held:
            slots.free(each)  # type: ignore[arg-type]
        if strike.left > 0:
            break
    assert number > 10


def test_the_next_call_finds_the_slot_of_one_that_died() -> None:
    slots = Slots(1)
    assert slots.take(time.monotonic()) is not None  # and nobody holds it
    assert slots.take(time.monotonic() + 5.0) is not None

"""The two drivers, held against each other: whatever happens, they do the same."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from types import SimpleNamespace

import anyio
import pytest

from flowmaestro_core.actions import Done, Emit, Fail, Open, Read, Send
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.contract import new_token, random_source_of
from flowmaestro_transports.driving import drivers
from flowmaestro_transports.driving.drivers import AsyncDriver, SyncDriver
from flowmaestro_transports.driving.iterators import SyncHandle
from tests.harness.transports import scripted_machine

REQUEST = Request("GET", "http://localhost/x", Headers())
LOST = TransportFailure(Phase.REPLY_BROKEN, "lost")


class Scripted(scripted_machine.Scripted):
    """Notes the arguments of each event, too; all come at one time."""

    def __getattr__(self, event):
        next_action = super().__getattr__(event)

        def hear(*args):
            assert args[-2:] == (7.0, 0.25)
            self.heard[-1] = (event, *args[:-2])
            return next_action()

        return hear


class RandomSource:
    def random(self):
        return 0.25

    def getrandbits(self, k):
        return 0


class Log:
    """What both kinds of transport have in common: a log, and a script of outcomes."""

    random = RandomSource()
    head = (200, Headers())

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.log = []
        self.open_bodies = 0

    def now(self):
        return 7.0

    def outcome(self, what):
        self.log.append(what)
        result = self.outcomes.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


class Body:
    def __init__(self, transport):
        self.transport = transport
        self.status, self.headers = transport.head
        transport.open_bodies += 1

    def read(self, patience):
        return self.transport.outcome(("read", patience))

    def close(self):
        self.transport.log.append("close")
        self.transport.open_bodies -= 1


class AsyncBody(Body):
    async def read(self, patience):
        return super().read(patience)

    async def close(self):
        super().close()


class Blocking(Log):
    def send(self, request, timeout):
        return self.outcome(("send", timeout))

    def open(self, request, timeout):
        self.outcome(("open", timeout))
        return Body(self)

    def sleep(self, seconds):
        self.log.append(("sleep", seconds))


class Awaiting(Log):
    async def send(self, request, timeout):
        return self.outcome(("send", timeout))

    async def open(self, request, timeout):
        self.outcome(("open", timeout))
        return AsyncBody(self)

    async def sleep(self, seconds):
        self.log.append(("sleep", seconds))


class Sync:
    def __init__(self, machine, outcomes, listener):
        self.transport = Blocking(*outcomes)
        self.driver = SyncDriver(machine, self.transport, listener)

    def advance(self):
        return self.driver.advance()

    def deliver(self, item):
        self.driver.deliver(item)

    def close(self):
        self.driver.close()


class Async:
    def __init__(self, machine, outcomes, listener):
        self.transport = Awaiting(*outcomes)
        self.driver = AsyncDriver(machine, self.transport, listener)

    def advance(self):
        return anyio.run(self.driver.advance)

    def deliver(self, item):
        anyio.run(self.driver.deliver, item)

    def close(self):
        anyio.run(self.driver.close)


@pytest.fixture(params=[Sync, Async])
def drive(request):
    return lambda machine, *outcomes, listener=None: request.param(machine, outcomes, listener)


def test_a_body_is_read_piece_by_piece(drive):
    machine = Scripted(Open(REQUEST, 3.0), Read(1.0), Read(2.0), Read(0.5), Done(None))
    run = drive(machine, None, b"ab", None, b"")
    run.advance()
    events = [event[0] for event in machine.heard]
    assert events == ["start", "stream_opened", "bytes_received", "stream_quiet", "stream_ended"]
    assert machine.heard[2] == ("bytes_received", b"ab")
    assert run.transport.log[1:] == [("read", 1.0), ("read", 2.0), ("read", 0.5), "close"]


@pytest.mark.parametrize(
    ("said", "waits"), [({}, [5.0, 50.0, 0.02]), ({"patient": False}, [45.0, 2.0, 0.02])]
)
def test_a_transport_that_loses_a_quiet_body_is_read_as_long_as_its_machine_says(
    drive, monkeypatch, said, waits
):
    for name, value in said.items():
        monkeypatch.setattr(Log, name, value, raising=False)
    machine = Scripted(Open(REQUEST, 3.0), Read(5.0, 45.0), Read(50.0, 2.0), Read(0.02), Done(None))
    run = drive(machine, None, b"ab", b"cd", b"ef")
    run.advance()
    assert run.transport.log[1:4] == [("read", wait) for wait in waits]


@pytest.mark.parametrize("error", [LOST, TransportClosedError(), KeyError("no")])
def test_exception_of_listener_reaches_the_caller(drive, error):
    def listener(item):
        raise error

    machine = Scripted(Open(REQUEST, 3.0), Emit(["item"]))
    run = drive(machine, None, listener=listener)
    run.advance()
    with pytest.raises(type(error)) as caught:
        run.deliver("item")
    assert caught.value is error
    assert (run.driver.closed, run.transport.open_bodies) == (True, 0)
    assert [event for event, *_ in machine.heard] == ["start", "stream_opened"]


def test_an_interrupt_at_the_moment_a_body_was_opened_closes_it():
    run = Sync(Scripted(Open(REQUEST, 3.0), Emit(["item"])), [None], None)

    def interrupt(frame, _event, _arg):
        if frame.f_code.co_filename == drivers.__file__ and run.transport.open_bodies:
            raise KeyboardInterrupt
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.advance()
    finally:
        sys.settrace(before)
    assert run.transport.open_bodies == 0


def test_opening_again_releases_the_body_before(drive):
    machine = Scripted(Open(REQUEST, 3.0), Open(REQUEST, 3.0), Emit([1]))
    run = drive(machine, None, None)
    run.advance()
    assert run.transport.log == [("open", 3.0), "close", ("open", 3.0)]
    assert run.transport.open_bodies == 1
    run.close()
    run.close()
    assert run.transport.open_bodies == 0


@pytest.mark.parametrize("ending", [Done(None), Fail(ValueError("no")), Fail(LOST)])
def test_an_ending_leaves_no_body_open(drive, ending):
    """Of whatever type its error is: a caller's rows may raise a transport's."""
    run = drive(Scripted(Open(REQUEST, 3.0), ending), None)
    if isinstance(ending, Fail):
        with pytest.raises(type(ending.error)) as caught:
            run.advance()
        assert caught.value is ending.error
    else:
        run.advance()
    assert run.transport.open_bodies == 0


def test_a_failed_read_is_reported_and_the_body_is_gone(drive):
    machine = Scripted(Open(REQUEST, 3.0), Read(1.0), Emit(["after"]))
    run = drive(machine, None, LOST)
    run.advance()
    assert machine.heard[-1] == ("transport_failed", LOST)
    assert run.transport.open_bodies == 0


def test_a_failed_question_beside_an_open_body_leaves_it_open(drive):
    machine = Scripted(Open(REQUEST, 3.0), Send(REQUEST, 1.0), Emit(["after"]))
    run = drive(machine, None, LOST)
    run.advance()
    assert machine.heard[-1] == ("transport_failed", LOST)
    assert run.transport.open_bodies == 1


def test_a_bug_in_the_transport_comes_through_and_leaves_no_body_open(drive):
    run = drive(Scripted(Open(REQUEST, 3.0), Read(1.0)), None, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run.advance()
    assert run.transport.open_bodies == 0


def test_dice_are_the_transports_own_if_it_has_some():
    assert random_source_of(Log()).random() == 0.25
    assert 0 <= random_source_of(object()).random() < 1
    assert new_token(Log()) == "0" * 32
    assert len({new_token(object()) for _ in range(9)}) == 9


def test_a_process_has_dice_of_its_own(monkeypatch):
    before = random_source_of(object())
    assert random_source_of(object()) is before is not random
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert random_source_of(object()) is not before


@pytest.mark.parametrize("status", [200, 302, 400, 503])
@pytest.mark.parametrize("sent", ["Mon, 07 Nov 1994 08:49:37 GMT", "yesterday", None])
def test_a_refusal_without_a_date_is_given_the_time_of_its_arrival(drive, status, sent):
    headers = Headers({"Date": sent} if sent else {})
    expected = [sent] if sent else []
    if status >= 400 and sent in ("yesterday", None):
        expected = ["Sun, 06 Nov 1994 08:49:37 GMT"]
    machine = Scripted(Send(REQUEST, 3.0), Open(REQUEST, 3.0), Done(None))
    run = drive(machine, Response(status, headers, b"body"), None)
    run.transport.head = (status, headers)
    run.transport.wall_clock = lambda: 784111777.5
    run.advance()
    (_, response), (_, head) = machine.heard[1:]
    assert (response.status, response.body, head.status) == (status, b"body", status)
    assert response.headers.get_list("date") == head.headers.get_list("date") == expected


class View:
    """The methods of a transport without its optional attributes."""

    def __init__(self, transport):
        self.now, self.sleep = transport.now, transport.sleep
        self.send, self.open = transport.send, transport.open


def test_optional_attributes_count_although_a_view_lacks_them():
    entered = []

    class Own(Blocking):
        patient = False

        def interruptible(self):
            return View(self)

        @contextlib.contextmanager
        def in_flight(self):
            entered.append(True)
            yield

        def wall_clock(self):
            return 784111777.5

    refusal = Response(503, Headers())
    machine = Scripted(Open(REQUEST, 3.0), Read(5.0, 45.0), Send(REQUEST, 3.0), Done(None))
    transport = Own(None, b"", refusal)

    class Handle(SyncHandle):
        _noun = "list"

    assert list(Handle(machine, transport)) == []
    assert ("read", 45.0) in transport.log
    assert machine.heard[-1][1].headers["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert entered == [True]


class OwnResponse(Response):
    def __init__(self, status):
        super().__init__(status, Headers(), b"body")


@pytest.mark.parametrize(
    "reply", [OwnResponse(503), SimpleNamespace(status=503, headers=Headers(), body=b"body")]
)
def test_a_refusal_of_a_class_of_the_callers_is_given_a_date(drive, reply):
    machine = Scripted(Send(REQUEST, 3.0), Done(None))
    run = drive(machine, reply)
    run.transport.wall_clock = lambda: 784111777.5
    run.advance()
    _, heard = machine.heard[1]
    assert heard.headers.pairs == (("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),)
    assert (heard.status, heard.body) == (503, b"body")

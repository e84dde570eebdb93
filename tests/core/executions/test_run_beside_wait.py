"""Where no events flow, a run ends hardly later than a wait that began when its execution did.

Both meet the same server in virtual time: each answer takes `latency` seconds, and the execution
ends at `ends_at`. What the server does with those who open the stream is picked for each opening.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowmaestro_core.actions import Done, Open, Read, Send
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from flowmaestro_core.policy.polling import LEAST_TIMEOUT
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.stepping import KEEPALIVE, Stepper, a_context, an_envelope, sse

POLL_INTERVAL = 1.0
TOLERANCE = 0.05
STARTED = an_envelope({"execution_id": "ex_1", "status": "pending"})
CONNECTED = sse("connected", {"execution_id": "ex_1", "status": "running"})


class Server(NamedTuple):
    """`latency`: seconds for an answer; `ends_at`: seconds after the start was answered.

    `start_takes`: seconds for that answer, if not those of the others.
    """

    latency: float
    ends_at: float
    openings: List[str] = ["silent"]
    jitter: float = 0.5
    start_takes: Optional[float] = None

    def opening(self, number: int) -> str:
        """What the nth opening comes to; the last kind goes on."""
        return self.openings[min(number, len(self.openings) - 1)]


class World:
    """Plays `server` to one machine, until it ends."""

    def __init__(self, server: Server, stepper: Stepper, begun: Optional[float] = None) -> None:
        self.server = server
        self.stepper = stepper
        self.begun = begun
        self.openings = 0
        self.opened_at = 0.0
        stepper.jitter = server.jitter

    def play(self) -> float:
        """When the machine was done, in seconds after the start was answered."""
        stepper = self.stepper
        stepper.start()
        for _ in range(5000):
            action = stepper.action
            if isinstance(action, Done):
                assert self.begun is not None
                return stepper.now - self.begun
            if isinstance(action, Send):
                self.answer(action)
            elif isinstance(action, Open):
                self.open(action)
            elif isinstance(action, Read):
                self.read(action)
            else:
                stepper.idles()
        raise AssertionError("there is no end")

    def answer(self, action: Send) -> None:
        latency = self.server.latency
        if action.request.method == "POST":
            takes = latency if self.server.start_takes is None else self.server.start_takes
            self.begun = self.stepper.now + takes
            self.stepper.replies(202, STARTED, after=takes)
        elif action.timeout < latency:
            self.stepper.fails(timed_out=True, after=action.timeout)
        else:
            assert self.begun is not None
            ended = self.stepper.now + latency / 2 >= self.begun + self.server.ends_at
            status = "completed" if ended else "running"
            body = an_envelope({"id": "ex_1", "status": status})
            self.stepper.replies(200, body, after=latency)

    def open(self, action: Open) -> None:
        self.kind, stepper = self.server.opening(self.openings), self.stepper
        self.openings += 1
        self.said_hello = False
        takes = self.server.latency * (3 if self.kind == "slow" else 1)
        if self.kind == "hangs" or takes > action.timeout:
            stepper.fails(Phase.MAYBE_PROCESSED, timed_out=True, after=action.timeout)
        elif self.kind == "refused":
            stepper.fails(Phase.NOT_SENT, after=takes)
        elif self.kind.isdigit():
            stepper.opens(int(self.kind), "text/html", after=takes)
        elif self.kind in ("html", "headless"):
            stepper.opens(200, "text/html", after=takes)
        else:
            stepper.opens(after=takes)
        self.opened_at = stepper.now

    def read(self, action: Read) -> None:
        """`stepper` is told what the open body brings."""
        stepper = self.stepper
        if self.kind.isdigit() or self.kind == "html":
            stepper.ends()
        elif self.kind in ("stalls", "headless"):
            stepper.stays_quiet()
        elif not self.said_hello:
            self.said_hello = True
            stepper.receives(CONNECTED)
        else:
            lasts = {"cut": 0.1, "reset": 1.3}.get(self.kind)
            if lasts is None:
                stepper.stays_quiet() if action.patience < 30 else stepper.receives(KEEPALIVE)
                return
            left = max(self.opened_at + lasts - stepper.now, 0.0)
            if action.patience < left:
                stepper.stays_quiet()
            else:
                (stepper.ends if self.kind == "cut" else stepper.fails)(after=left)


KINDS = [
    *("silent", "stalls", "hangs", "slow", "refused", "cut", "reset"),
    *("503", "500", "404", "401", "204", "html", "headless"),
]


def a_run(server: Server) -> World:
    run = Workflows.run("wf_1", {}, timeout=300.0)
    return World(server, Stepper(machine_for(run, a_context(), "token")))


def ended(server: Server) -> float:
    return a_run(server).play()


def openings(server: Server) -> int:
    run = a_run(server)
    run.play()
    return run.openings


def waited(server: Server) -> float:
    wait = Executions.wait_for_completion("ex_1", timeout=300.0)
    stepper = Stepper(machine_for(wait, a_context(), "token"))
    return World(server, stepper, begun=stepper.now).play()


@given(
    st.builds(
        Server,
        latency=st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 0.9, 1.6]) | st.floats(0.0, 2.0),
        ends_at=st.floats(0.0, 4.0) | st.floats(0.0, 100.0),
        openings=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
        jitter=st.floats(0.0, 1.0, exclude_max=True),
        start_takes=st.none(),
    )
    | st.builds(
        Server,
        latency=st.floats(0.0, LEAST_TIMEOUT - TOLERANCE),
        ends_at=st.floats(5.0, 30.0),
        openings=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
        jitter=st.floats(0.0, 1.0, exclude_max=True),
        start_takes=st.floats(0.0, 10.0),
    )
)
@example(Server(0.0, 0.1484375, ["cut", "404"], 0.09375))
@example(Server(0.0, 0.140625, ["refused", "404"], 0.25))
@example(Server(0.5, 57.0, ["hangs", "503"], 0.0))
@example(Server(1.0, 7.0, ["hangs", "204"], 0.0))
@example(Server(0.5625, 5.0, ["503", "slow"], 0.5, 2.0))
@settings(max_examples=160, deadline=None)
def test_a_run_ends_within_one_interval_and_one_round_trip_of_a_wait(server: Server) -> None:
    after_the_first_question = server.latency / 2 + 1e-3
    server = server._replace(ends_at=max(server.ends_at, after_the_first_question))
    assert ended(server) <= waited(server) + POLL_INTERVAL + server.latency + TOLERANCE


@pytest.mark.parametrize("latency", [0.0, 0.3, 0.9])
def test_a_slow_network_is_no_reason_to_open_twice(latency: float) -> None:
    assert openings(Server(latency, 60.0)) == 1


@pytest.mark.parametrize("latency", [0.01, 0.3, 0.9])
def test_openings_that_take_longer_than_answers_get_their_time(latency: float) -> None:
    assert openings(Server(latency, 60.0, ["slow"])) <= 14


def test_openings_that_hang_are_few() -> None:
    assert openings(Server(0.05, 60.0, ["hangs"])) <= 20

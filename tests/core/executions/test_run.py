"""Running a workflow from its start to its end: execute, follow, and ask for the last word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.errors import (
    ServerError,
    TimeoutError,
)
from flowmaestro_core.executions.run import OVERTIME, RunMachine
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT
from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead
from flowmaestro_core.machines import machine_for
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.core.durable import Checkpointed, World
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    KEEPALIVE,
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    sse,
    wander,
)

STARTED = an_envelope({"execution_id": "ex_1", "status": "pending"})
RUNNING = an_envelope({"id": "ex_1", "status": "running"})
ENDED = an_envelope({"id": "ex_1", "status": "completed", "outputs": {"a": 1}})
CONNECTED = sse("connected", {"execution_id": "ex_1", "status": "running"})
COMPLETED = sse("execution:completed", {"outputs": {"a": 1}})
ENDED_SOMEHOW = sse("execution:completed")


def is_execute(request: Request) -> bool:
    return request.method == "POST"


def running(*, timeout: float = 300.0) -> Stepper:
    operation = Workflows.run("wf_1", {"a": 1}, timeout=timeout)
    return Stepper(
        machine_for(operation, a_context(), "token"), once=is_execute, terminal=EXECUTION_TERMINAL
    )


def executed(**more: Any) -> Stepper:
    stepper = running(**more)
    stepper.start()
    stepper.replies(202, STARTED)
    return stepper


def following(**more: Any) -> Stepper:
    stepper = executed(**more)
    stepper.opens()
    return stepper


def kinds(stepper: Stepper) -> Any:
    return [item["type"] for item in stepper.items]


# The plain course


def test_a_run_executes_follows_and_polls_once_at_the_end() -> None:
    run = running()
    action = run.start()
    assert isinstance(action, Send)
    assert action.request.body == b'{"inputs":{"a":1}}'
    action = run.replies(202, STARTED)
    assert isinstance(action, Open)
    assert action.request.url.endswith("/executions/ex_1/events")
    run.opens()
    run.receives(CONNECTED + sse("node:started") + COMPLETED)
    assert run.takes_all() == Close()
    run.closes()
    action = run.takes()
    assert isinstance(action, Send)
    assert action.request.url.endswith("/executions/ex_1")
    run.replies(200, ENDED)
    ended = {"id": "ex_1", "status": "completed", "outputs": {"a": 1}, "error": None}
    assert run.value.items() >= ended.items()
    assert kinds(run) == ["connected", "node:started", "execution:completed"]
    assert run.now == 1000.0


def test_when_events_do_not_flow_it_asks_on_the_ramp_of_a_wait() -> None:
    run = following()
    run.receives(CONNECTED)
    run.takes()
    while run.now < 1002.2:
        run.replies(200, RUNNING) if isinstance(run.action, Send) else run.stays_quiet()
    asked = [request for request in run.sent if request.url.endswith("/executions/ex_1")]
    assert 7 <= len(asked) <= 10
    if not isinstance(run.action, Send):
        run.stays_quiet()
    run.replies(200, ENDED)
    assert run.stays_quiet() == Close()
    run.closes()
    assert isinstance(run.takes(), Done)
    assert run.value["outputs"] == {"a": 1}
    assert kinds(run) == ["connected", "execution:completed"]


def last_word(kind: str, **told: Any) -> Stepper:
    """A run whose terminal event has come, up to the question after it."""
    run = following()
    run.receives(sse(kind, told))
    run.closes()
    run.takes()
    assert isinstance(run.action, Send)
    return run


def test_a_last_word_that_lags_behind_is_completed_by_the_event() -> None:
    run = last_word("execution:completed", outputs={"a": 1}, completed_at="t")
    run.replies(200, an_envelope({"id": "ex_1", "workflow_id": "wf_1", "status": "running"}))
    assert run.value == {
        "id": "ex_1",
        "workflow_id": "wf_1",
        "status": "completed",
        "inputs": None,
        "outputs": {"a": 1},
        "error": None,
        "started_at": None,
        "completed_at": "t",
        "created_at": None,
    }
    assert run.now == 1000.0


def test_a_listener_may_change_the_event_that_ends_the_run() -> None:
    run = following()
    run.receives(COMPLETED)
    ending: Any = run.closes()
    ending.items[0].clear()
    run.takes()
    run.replies(500)
    assert run.value["outputs"] == {"a": 1}


def test_the_end_of_another_execution_is_not_taken_for_this_ones() -> None:
    run = last_word("execution:completed", executionId="a child", outputs={"wrong": 1})
    run.replies(200, RUNNING)
    run.waits()
    run.replies(200, ENDED)
    assert run.value["outputs"] == {"a": 1}


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_last_word_that_does_not_come_is_made_of_the_event(status: int) -> None:
    run = last_word("execution:failed", error="why")
    run.replies(status, an_error("no", window="day"), {"Retry-After": "40"})
    assert (run.value["id"], run.value["status"], run.value["error"]) == ("ex_1", "failed", "why")


def test_a_last_word_is_not_waited_for_long() -> None:
    run = last_word("execution:cancelled")
    assert isinstance(run.action, Send)
    assert run.action.timeout == pytest.approx(3.0)
    run.fails(timed_out=True, after=3.0)
    assert run.value["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["execution:completed", "execution:failed"])
def test_an_event_that_does_not_tell_the_outcome_is_no_last_word(kind: str) -> None:
    run = last_word(kind)
    assert isinstance(run.replies(200, RUNNING), Wait)
    run.waits()
    run.replies(200, ENDED)
    assert run.value["outputs"] == {"a": 1}


# Starting


@pytest.mark.parametrize("execution_id", [None, "", ".", "..", 7, ["ex_1"], {}, "\ud800"])
def test_a_start_without_a_usable_id_is_an_error(execution_id: Any) -> None:
    run = running()
    run.start()
    run.replies(202, an_envelope({"execution_id": execution_id}))
    assert isinstance(run.error, ServerError)
    assert (run.error.code, run.error.status_code) == ("invalid_response", 202)
    assert run.error.maybe_processed
    assert run.error.request_id == "req_1"


def test_the_documented_id_will_do() -> None:
    run = running()
    run.start()
    run.replies(202, an_envelope({"id": "ex_2"}))
    assert run.sent[-1].url.endswith("/executions/ex_2/events")


# Trouble with the stream is no trouble


def test_the_first_opening_is_repeated_by_the_stream_so_that_polls_come_in_time() -> None:
    run = executed()
    waits = run.fails(Phase.NOT_SENT)
    assert isinstance(waits, Wait)
    assert waits.reconnects
    assert waits.seconds <= 0.15  # until the first poll


@pytest.mark.parametrize("status", [401, 404, 501, 200])
def test_a_stream_that_is_not_offered_gives_way_to_polling(status: int) -> None:
    run = executed()
    run.opens(status, "text/html")
    run.receives(b"<html>")
    assert isinstance(run.ends(), Send)
    run.replies(200, RUNNING)
    run.waits()
    run.replies(200, ENDED)
    assert run.value["status"] == "completed"


@pytest.mark.parametrize("trouble", ["refused", "ended", "broken"])
def test_a_stream_that_stays_lost_gives_way_to_polling(trouble: str) -> None:
    run = executed()
    while run.now < 1200.0 or not isinstance(run.action, Send):
        if isinstance(run.action, Send):
            run.replies(200, RUNNING)
        elif isinstance(run.action, Read):
            run.ends() if trouble == "ended" else run.fails(Phase.REPLY_BROKEN)
        elif isinstance(run.action, Open):
            run.fails() if trouble == "refused" else run.opens()
        else:
            run.idles()
    polls = [request for request in run.sent if request.url.endswith("/executions/ex_1")]
    assert len(polls) >= 190
    run.replies(200, ENDED)
    assert run.takes().value["status"] == "completed"  # type: ignore[union-attr]


# The end of the time


@pytest.mark.parametrize("timeout", [0.2, 30.0])
@pytest.mark.parametrize("stream", ["open", "lost"])
def test_a_run_whose_polls_hang_ends_a_tenth_of_a_second_after_its_time(
    timeout: float, stream: str
) -> None:
    """As with a server that sends its replies byte by byte."""
    run = following(timeout=timeout)
    if stream == "lost":
        run.fails(Phase.REPLY_BROKEN)
    run.plays(run.times_out)
    assert isinstance(run.error, TimeoutError)
    assert run.error.execution_id == "ex_1"
    assert run.now <= 1000.0 + timeout + OVERTIME + 1e-6


def test_a_run_takes_an_end_that_arrived_while_a_poll_hung() -> None:
    run = following(timeout=0.5)
    assert isinstance(run.stays_quiet(), Send)
    run.fails(timed_out=True, after=1000.5 - run.now)
    assert run.receives(COMPLETED) == Close()
    run.closes()
    poll = run.takes()
    assert isinstance(poll, Send)
    assert poll.timeout <= OVERTIME + 1e-6
    run.fails(timed_out=True, after=poll.timeout)
    assert run.value["outputs"] == {"a": 1}
    assert run.now <= 1000.5 + OVERTIME + 1e-6


def test_first_poll_of_a_run_after_a_pause_of_the_process_has_its_second() -> None:
    run = following(timeout=6.0)
    run.now += 9.0  # as if the process was stopped until after the deadline
    assert run.receives(COMPLETED) == Close()
    run.closes()
    poll = run.takes()
    assert isinstance(poll, Send)
    assert poll.timeout == pytest.approx(LAST_POLL_TIMEOUT)


def test_a_run_that_takes_too_long_is_left_running_and_named() -> None:
    run = following(timeout=10.0)
    run.plays(lambda: run.replies(200, RUNNING))
    assert isinstance(run.error, TimeoutError)
    assert run.error.execution_id == "ex_1"
    assert run.error.last_execution["status"] == "running"
    assert run.now == pytest.approx(1010.0)
    assert sum(is_execute(request) for request in run.sent) == 1
    assert not any("cancel" in request.url for request in run.sent)


# All of it

HEADS = (
    ResponseHead(200, Headers({"Content-Type": "text/event-stream"})),
    ResponseHead(200, Headers({"Content-Type": "text/event-stream"})),
    ResponseHead(204, Headers()),
    ResponseHead(401, Headers()),
    ResponseHead(503, Headers()),
)
REPLIES = (
    a_response(202, STARTED),
    a_response(200, RUNNING),
    a_response(200, ENDED),
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(429),
)
CHUNKS = (
    KEEPALIVE,
    CONNECTED,
    sse("node:started"),
    sse("node:started") + COMPLETED,
    COMPLETED,
    ENDED_SOMEHOW,
)


def durably(*, timeout: float = 300.0, max_retries: int = 3, **settings: Any) -> Stepper:
    checkpoint = Checkpoint(lambda: None, lambda state: None, **settings)
    operation = Workflows.run("wf_1", {"a": 1}, timeout=timeout, checkpoint=checkpoint)
    return Stepper(
        machine_for(operation, a_context(max_retries=max_retries), "token"),
        terminal=EXECUTION_TERMINAL,
    )


def test_a_run_with_a_checkpoint_takes_four_requests_instead_of_three() -> None:
    world = World()
    run = world.until(world.process(run=True), "following")
    run.opens()
    run.receives(CONNECTED + COMPLETED)
    run.takes_all()
    run.closes()
    run.takes()
    run.replies(200, ENDED)
    assert [request.method for request in run.sent] == ["GET", "POST", "GET", "GET"]
    assert run.value.seen_events


def test_a_run_that_has_ended_takes_one_request() -> None:
    world = World()
    world.until(world.process(run=True), "following")
    world.server.executions[-1].status = "failed"
    again = world.finish(world.process(run=True))
    assert (again.value["id"], again.value["status"]) == ("ex_1", "failed")
    assert "execution_id" not in again.value
    assert again.value.seen_events is None
    assert len(again.sent) == 1


def test_a_run_that_goes_on_is_followed() -> None:
    world = World()
    world.until(world.process(run=True), "following")
    again = world.until(world.process(run=True), "following")
    assert [request.method for request in again.sent] == ["GET", "GET"]
    assert again.sent[1].url.endswith("/executions/ex_1/events")


def test_settling_may_take_longer_than_the_run() -> None:
    """The execution is then polled once more."""
    world = World()
    first = world.until(world.process(run=True, settle_after=400.0), "executing")
    world.until_sends(first, "POST")
    world.lose_reply(first, started=True)
    world.until(first, "waiting")
    world.server.executions[-1].status = "completed"
    world.finish(first)
    assert first.value["id"] == "ex_1"
    assert world.server.started == 1


@pytest.mark.no_cover
def test_the_table_is_true() -> None:
    world = Possibilities(REPLIES, HEADS, CHUNKS, durations=(0.0, 0.01, 1.0, 20.0))
    replies = (
        *(a_response(200, body) for body in (STARTED, RUNNING, ENDED, an_envelope([]))),
        a_response(402),
    )
    known = World()
    known.until(known.process(inputs={"a": 1}, run=True), "following")
    states: Any = (None, known.store.state)
    durable: Any = Checkpointed(replies, states)
    in_doubt = ({"v": 1, "state": "starting", "at": 0.0},)
    assert_table_is_true(
        RunMachine,
        wander(lambda: durably(timeout=30.0), durable, walks=600),
        wander(
            lambda: durably(timeout=10.4, max_retries=0, on_unknown="start", settle_after=10.0),
            Checkpointed(replies[-2:], in_doubt, (0.0, 1.0)),  # type: ignore[arg-type]
            walks=6000,
        ),
        wander(running, world, walks=200),
        wander(lambda: running(timeout=30.0), world, walks=200),
        wander(running, Possibilities(REPLIES, HEADS[:1], (COMPLETED,), (0.0,)), walks=400),
    )


class RunProperties(MachineProperties):
    timeout = 300.0
    responses = responses(
        st.one_of(
            st.sampled_from([a_response(body=body).body for body in (STARTED, RUNNING, ENDED)]),
            json_values.map(
                lambda value: (
                    a_response(body=an_envelope({"execution_id": value, "status": value})).body
                )
            ),
            json_values.map(lambda value: a_response(body=an_envelope(value)).body),
        )
    )
    chunks = st.one_of(
        st.sampled_from(CHUNKS),
        st.builds(sse, st.sampled_from(["node:started", "execution:failed"]), json_values),
        st.binary(min_size=1, max_size=20),
    )

    def make(self) -> Stepper:
        return running(timeout=self.timeout)

    def check(self) -> None:
        """It ends with an execution that has ended, or an error that names what was started."""
        stepper = self.stepper
        assert sum(is_execute(request) for request in stepper.sent) <= 4
        if isinstance(stepper.action, Done):
            assert is_terminal(stepper.action.value)
        if isinstance(stepper.action, Fail) and any(
            not is_execute(request) for request in stepper.sent
        ):
            assert stepper.error.execution_id is not None
        if isinstance(stepper.action, Wait):
            assert stepper.now + stepper.action.seconds <= 1000.0 + self.timeout + 1e-6
        assert not isinstance(stepper.action, Emit) or "type" in stepper.action.items[0]


class ShortRunProperties(RunProperties):
    timeout = 5.0


TestRunProperties = collected(RunProperties)
TestShortRunProperties = collected(ShortRunProperties)


def test_a_run_that_takes_too_long_tells_what_its_stream_had_seen() -> None:
    run = following(timeout=10.0)
    while run.now < 1008.0:
        if isinstance(run.action, Send):
            run.replies(200, RUNNING)
        else:
            run.stays_quiet()
    run.plays(lambda: run.replies(503))
    assert isinstance(run.error, TimeoutError)
    assert run.error.last_execution is not None
    assert run.error.last_execution["status"] == "running"

"""Starts that were certainly not sent: a batch and a run repeat them until their time is up."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from flowmaestro_core.actions import Emit, Fail, Send, Wait
from flowmaestro_core.errors import ConnectionError, TimeoutError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from flowmaestro_core.policy.retry import UNSENT_MAX_DELAY
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.durable import World
from tests.harness.core.stepping import Stepper, a_context, an_envelope


def run_of_one(timeout: float) -> Any:
    return Workflows.run("wf_1", timeout=timeout)


def batch_of_one(timeout: float) -> Any:
    return Workflows.run_many("wf_1", [{}], timeout=timeout)


both = pytest.mark.parametrize("operation", [run_of_one, batch_of_one])
Operation = Callable[[float], Any]


def begun(operation: Any, *, answered: bool = True, **options: Any) -> Stepper:
    context = a_context(**options)
    context.server.has_answered = answered
    stepper = Stepper(machine_for(operation, context, "token"))
    stepper.start()
    return stepper


def refused_for(stepper: Stepper, seconds: float) -> List[float]:
    """Refuse every connection for so long; return the pauses."""
    pauses: List[float] = []
    until = stepper.now + seconds
    while stepper.now < until and isinstance(stepper.action, (Send, Wait)):
        if isinstance(stepper.action, Send):
            stepper.fails(Phase.NOT_SENT, after=0.001)
        else:
            pauses.append(stepper.action.seconds)
            stepper.waits()
    return pauses


def error_of(stepper: Stepper) -> Any:
    if isinstance(stepper.action, Emit):
        return stepper.action.items[0].error
    assert isinstance(stepper.action, Fail), stepper.action
    return stepper.action.error


@both
@pytest.mark.parametrize("options", [{}, {"max_retries": 0}])
def test_unsent_start_is_repeated_through_a_long_outage(operation: Operation, options: Any) -> None:
    start = begun(operation(300.0), **options)
    pauses = refused_for(start, 250.0)
    assert len(pauses) > 40
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, (0.5, 1, 2, 4)))
    assert all(UNSENT_MAX_DELAY / 2 <= pause <= UNSENT_MAX_DELAY for pause in pauses[4:])
    while not isinstance(start.action, Send):
        start.waits()
    assert start.action.request.method == "POST"
    start.replies(202, an_envelope({"execution_id": "exec_1"}))
    assert start.machine.execution_id == "exec_1" or start.machine.in_flight  # type: ignore[attr-defined]


@both
def test_unsent_start_fails_with_its_error_at_its_deadline(operation: Operation) -> None:
    start = begun(operation(30.0))
    began = start.now
    refused_for(start, 1e9)
    error = error_of(start)
    assert isinstance(error, ConnectionError)
    assert 29.0 <= start.now - began <= 30.0
    assert "after the deadline" in error.gave_up
    assert {attempt.outcome for attempt in error.attempts} == {Phase.NOT_SENT}


@both
def test_server_that_never_answered_is_reported_within_seconds(operation: Operation) -> None:
    start = begun(operation(300.0), answered=False)
    began = start.now
    refused_for(start, 1e9)
    assert start.now - began < 5.0
    assert len(error_of(start).attempts) == 4


@both
def test_permanent_failure_of_an_unsent_start_is_not_repeated(operation: Operation) -> None:
    start = begun(operation(300.0))
    start.fails(Phase.NOT_SENT, permanent=True)
    assert len(error_of(start).attempts) == 1


@both
def test_start_that_may_have_been_processed_is_not_repeated_after_an_outage(
    operation: Operation,
) -> None:
    start = begun(operation(300.0))
    refused_for(start, 20.0)
    while not isinstance(start.action, Send):
        start.waits()
    start.fails(Phase.MAYBE_PROCESSED)
    assert error_of(start).attempts[-1].outcome is Phase.MAYBE_PROCESSED


def test_attempts_that_were_not_sent_use_up_no_retries_and_no_budget() -> None:
    start = begun(run_of_one(300.0))
    tokens = start.machine._context.budget.tokens
    refused_for(start, 60.0)
    assert start.machine._context.budget.tokens == tokens
    for _ in range(3):
        while not isinstance(start.action, Send):
            start.waits()
        start.replies(503, headers={"Retry-After": "1"})
        assert isinstance(start.action, Wait)
    start.waits()
    start.replies(503, headers={"Retry-After": "1"})
    assert error_of(start).gave_up == "max_retries=3 is used up"


@pytest.mark.parametrize("attaches", [False, True])
def test_unsent_get_of_a_run_with_a_checkpoint_is_repeated_through_an_outage(
    attaches: bool,
) -> None:
    """It reads the baseline, or gets the execution that was started."""
    world = World()
    if attaches:
        world.finish(world.process())
    run = world.process(run=True)
    run.machine._context.server.has_answered = True
    world.step(run)
    refused_for(run, 250.0)
    assert isinstance(run.action, (Send, Wait)), run.action
    world.now = run.now
    world.until(run, "following")
    assert world.server.started == 1


def test_call_outside_of_a_run_keeps_its_number_of_attempts() -> None:
    call = begun(Workflows.execute("wf_1"))
    refused_for(call, 1e9)
    assert len(error_of(call).attempts) == 4


@pytest.mark.parametrize("status", [200, 404, 500])
def test_any_response_counts_as_an_answer_of_the_server(status: int) -> None:
    context = a_context(max_retries=0)
    call = Stepper(machine_for(Workflows.get("wf_1"), context, "token"))
    call.start()
    call.replies(status, an_envelope({"id": "wf_1"}))
    assert context.server.has_answered
    assert context.with_options(context.options).server is context.server


def test_an_opened_stream_counts_as_an_answer_of_the_server() -> None:
    stream = begun(Executions.stream("exec_1"), answered=False)
    stream.opens()
    assert stream.machine._context.server.has_answered


def batch_in_an_outage(rows: int, *, ends: float, jitter: float = 0.5, **options: Any) -> Stepper:
    """A batch whose starts are not sent until the outage ends, and whose rows then complete."""
    batch = begun(Workflows.run_many("wf_1", [{} for _ in range(rows)], **options))
    began, batch.jitter = batch.now, jitter

    def answer() -> None:
        if batch.now < began + ends:
            batch.fails(Phase.NOT_SENT, after=0.01)
        elif batch.sent[-1].method == "POST":
            batch.replies(202, an_envelope({"execution_id": f"ex_{len(batch.sent)}"}))
        elif "?" in batch.sent[-1].url:
            batch.replies(500)
        else:
            batch.replies(200, an_envelope({"status": "completed"}))

    batch.plays(answer)
    return batch


@pytest.mark.parametrize("timeout", [3.0, 30.0])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.99])
def test_rows_wait_together_in_an_outage(timeout: float, jitter: float) -> None:
    batch = batch_in_an_outage(6, ends=1e9, timeout=timeout, jitter=jitter)
    assert batch.now <= 1000.0 + timeout + 0.1
    first, *others = [item.error for item in batch.items]
    assert isinstance(first, ConnectionError)
    assert len(others) == 5
    assert all(isinstance(error, TimeoutError) for error in others)
    assert {error.__cause__ for error in others} == {first}


def test_rows_start_when_the_outage_ends_in_time() -> None:
    batch = batch_in_an_outage(20, ends=25.0, timeout=30.0)
    assert [item.ok for item in batch.items] == [True] * 20


def test_rows_after_an_outage_have_their_whole_time() -> None:
    batch = batch_in_an_outage(20, ends=40.0, timeout=30.0, concurrency=8)
    assert sum(item.ok for item in batch.items) == 12

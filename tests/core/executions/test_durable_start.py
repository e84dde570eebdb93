"""A start with a checkpoint: what each loaded state means, and what each failure leaves behind."""

from __future__ import annotations

import json
import math
from typing import Any, List

import pytest

from flowmaestro_core.actions import Done, Fail, Save, Send, Wait
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.errors import (
    ConnectionError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StartUnknownError,
    TimeoutError,
)
from flowmaestro_core.executions.durable_start import DurableStartMachine
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.http.urls import api_root
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.durable import INPUTS, SETTLE_AFTER, Checkpointed, Execution, World, methods
from tests.harness.core.stepping import (
    Report,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    wander,
)


def dies_while_starting(world: World, *, started: bool, **more: Any) -> Stepper:
    """A process that dies between its announcement and the reply."""
    process = world.until(world.process(**more), "starting")
    if started:
        world.server.add(INPUTS, world.now)
    return process


# Nothing, or `open`


def test_the_first_call_announces_starts_and_saves_the_id() -> None:
    world = World()
    process = world.finish(world.process())
    assert methods(process) == ["GET", "POST"]
    assert process.value["data"]["execution_id"] == "ex_1"
    starting, started = world.store.saves
    assert (starting["state"], starting["serial"], starting["after"]) == ("starting", 1, "ex_0")
    assert (started["state"], started["serial"]) == ("started", 2)
    assert started["execution_id"] == "ex_1"
    assert started["token"] == starting["token"] != ""


def test_look_up_goes_on_behind_an_execution_that_is_little_older_than_the_start() -> None:
    """The clocks of the servers that made the two may differ."""
    world = World()
    dies_while_starting(world, started=True)
    world.store.state["after"] = None  # The newest execution before the start could not be read.
    stranger = Execution("ex_stranger", {"task": 9}, world.now - 30.0, world.now)
    world.server.executions.append(stranger)
    process = world.finish(world.process())
    assert process.value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_start_without_a_baseline_is_found_if_the_clock_of_its_process_was_ahead() -> None:
    world = World()
    dies_while_starting(world, started=True)
    world.store.state.update(after=None, at=world.now + 3600.0)
    world.now += 100.0
    process = world.finish(world.process())
    assert process.value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_an_execution_that_is_found_is_followed_also_with_on_unknown_start() -> None:
    world = World()
    first = world.until(world.process(), "starting")
    world.lose_reply(first, started=True)
    again = world.finish(world.process(on_unknown="start"))
    assert again.value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_state_has_about_400_bytes() -> None:
    """The ids are UUIDs, and the base URL is the default."""
    world = World()
    checkpoint = world.process().machine._checkpoint
    start = Workflows.execute("a" * 36, inputs=INPUTS, checkpoint=checkpoint)
    machine = machine_for(start, a_context(), "f" * 32)
    assert isinstance(machine, DurableStartMachine)
    machine._identity = machine._identity._replace(api_root=api_root(DEFAULT_BASE_URL))
    machine._saved = machine._saved._replace(after="b" * 36, serial=99)
    machine._start.restore("started", "c" * 36, 99)
    saved = machine._save(1234567890.123456)
    assert isinstance(saved, Save)
    assert len(json.dumps(saved.states[0])) <= 400


def test_a_workflow_without_executions_has_an_empty_baseline() -> None:
    world = World()
    world.server.executions.clear()
    world.finish(world.process())
    assert world.store.saves[0]["after"] == ""


def test_an_open_state_may_have_had_other_inputs() -> None:
    """Nothing was started with them. The idempotency key is another, since the body is."""
    world = World()
    refused = world.until(world.process(inputs={"task": "bad"}), "starting")
    refused.replies(422, an_error("validation_error"))
    world.step(refused)
    first = world.store.state["token"]
    world.finish(world.process())
    assert world.store.state["token"] != first
    assert world.store.state["state"] == "started"


# `started`


@pytest.mark.parametrize("status", ["running", "completed", "failed"])
def test_a_started_execution_is_returned_with_its_present_status(status: str) -> None:
    world = World()
    world.finish(world.process())
    world.server.executions[-1].status = status
    again = world.finish(world.process())
    assert methods(again) == ["GET"]
    data = again.value["data"]
    assert (data["execution_id"], data["workflow_id"], data["status"]) == ("ex_1", "wf_1", status)
    assert world.server.started == 1


def test_an_execution_with_a_status_in_rerun_is_started_again() -> None:
    world = World()
    world.finish(world.process(rerun=("failed",)))
    world.server.executions[-1].status = "failed"
    again = world.finish(world.process(rerun=("failed",)))
    assert again.value["data"]["execution_id"] == "ex_2"
    assert world.store.state["reruns"] == 1
    assert world.store.saves[2]["after"] == "ex_1"
    assert len(set(world.server.keys)) == 2, "another execution is another idempotency key"
    world.server.executions[-1].status = "completed"
    assert world.finish(world.process(rerun=("failed",))).value["data"]["execution_id"] == "ex_2"


@pytest.mark.parametrize("started", [True, False])
def test_a_rerun_is_not_taken_for_the_execution_that_failed(started: bool) -> None:
    """The server lists the failed one late, and the reply to the next start is lost."""
    world = World()
    process = world.until(world.process(), "starting")
    world.step(process, listed_after=29.0)
    world.finish(process)
    world.server.executions[-1].status = "failed"
    world.now += 5.0
    again = world.until(world.process(rerun=("failed",)), "starting")
    assert methods(again) == ["GET", "POST"]
    world.lose_reply(again, started=started)
    assert world.finish(again).value["data"]["execution_id"] == "ex_2"
    assert world.server.started == 2


@pytest.mark.parametrize("own", [False, True])
def test_an_execution_that_settling_finds_is_started_again_if_an_earlier_call_started_it(
    own: bool,
) -> None:
    world = World()
    if own:
        again = world.until(world.process(rerun=("failed",)), "starting")
        world.lose_reply(again, started=True)
    else:
        dies_while_starting(world, started=True)
        again = world.process(rerun=("failed",))
    world.server.executions[-1].status = "failed"
    world.finish(again)
    assert again.value["data"]["execution_id"] == ("ex_1" if own else "ex_2")
    assert world.finish(world.process(rerun=("failed",))).value["data"]["execution_id"] == "ex_2"


def test_an_execution_that_is_gone_is_not_started_again() -> None:
    world = World()
    world.finish(world.process())
    world.server.remove("ex_1")
    again = world.finish(world.process())
    assert isinstance(again.error, NotFoundError)
    assert again.error.execution_id == "ex_1"


# `starting`


def test_a_started_execution_is_found_after_settle_after() -> None:
    world = World()
    dies_while_starting(world, started=True)
    again = world.finish(world.process())
    assert again.waited_for == [SETTLE_AFTER]
    assert again.value["data"]["execution_id"] == "ex_1"
    assert world.store.state["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_start_that_did_not_arrive_is_made_again_with_the_same_key() -> None:
    world = World()
    first = dies_while_starting(world, started=False)
    again = world.finish(world.process())
    assert again.value["data"]["execution_id"] == "ex_1"
    assert world.store.saves[1]["after"] == "ex_0"
    assert world.server.keys == [first.sent[-1].headers["idempotency-key"]]


def test_a_start_of_a_workflow_without_executions_is_made_again() -> None:
    world = World()
    world.server.executions.clear()
    dies_while_starting(world, started=False)
    world.finish(world.process())
    assert world.server.started == 1


@pytest.mark.parametrize("state", [None, {"v": 1, "state": "starting", "at": 1000.0}])
def test_a_call_with_the_key_of_another_workspace_does_not_forget_the_start(state: Any) -> None:
    """Its list is empty, as before the start, and the server does not know the workflow."""
    world = World()
    world.server.executions.clear()
    dies_while_starting(world, started=True)
    world.store.state = state or world.store.state
    elsewhere = World()
    elsewhere.server.executions.clear()
    elsewhere.now, elsewhere.store = world.now, world.store
    stranger = elsewhere.until(elsewhere.process(), "starting")
    stranger.replies(404, an_error("not_found"))
    elsewhere.finish(stranger)
    assert isinstance(stranger.error, StartUnknownError)
    assert isinstance(stranger.error.__cause__, NotFoundError)
    world.now = elsewhere.now
    assert world.finish(world.process()).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_announcement_of_another_process_is_not_taken_for_the_start_of_this_call() -> None:
    """The list is that of another workspace, and the other process may have started it."""
    world = World()
    world.server.executions.clear()
    held_up = world.until(world.process(), "starting")
    held_up.replies(429, None, {"Retry-After": "40"})
    world.now += 100.0
    held_up.now = world.now
    held_up.waits(after=0.0)
    world.until(held_up, "saving announced")
    other = world.until(world.process(), "starting")
    world.lose_reply(other, started=True)
    world.server.executions.clear()
    world.until(held_up, "starting").replies(404, an_error("not_found"))
    world.finish(held_up)
    assert isinstance(held_up.error, StartUnknownError)
    assert world.store.state["state"] == "starting"


def test_a_500_twice_is_the_error_of_a_workflow_without_executions() -> None:
    world = World()
    world.server.executions.clear()
    process = world.process()
    for _ in range(2):
        world.until(process, "starting").replies(500, an_error("internal_error", "no"))
    world.finish(process)
    assert isinstance(process.error, ServerError)
    assert process.waited_for == [SETTLE_AFTER]
    assert world.store.state["state"] == "open"


def test_an_empty_list_then_and_other_executions_now_is_conclusive() -> None:
    world = World()
    world.server.executions.clear()
    dies_while_starting(world, started=True)
    assert world.finish(world.process()).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_listed_row_without_an_id_does_not_end_the_lookup() -> None:
    world = World()
    world.server.executions.clear()
    dies_while_starting(world, started=True)
    again = world.until(world.process(), "looking up")
    rows = [{"created_at": "1970-01-01T00:20:00Z"}, world.server.executions[0].shown()]
    again.replies(200, an_envelope(rows, pagination={"has_next": False}))
    assert world.finish(again).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_start_in_doubt_loads_the_state_again_before_the_lookup() -> None:
    """The process that seemed dead may have saved the id meanwhile."""
    world = World()
    slow = dies_while_starting(world, started=False)
    again = world.process()
    world.step(again)
    world.finish(slow)
    assert world.finish(again).value["data"]["execution_id"] == "ex_1"
    assert methods(again) == ["GET"], "it has asked for the execution alone"


def test_a_newer_announcement_begins_another_wait() -> None:
    world = World()
    dies_while_starting(world, started=False)
    one, other = world.process(), world.process()
    world.step(one)
    world.step(other)
    world.until(one, "starting")
    world.step(other)
    world.step(other)
    assert other.machine.state == "waiting"
    world.finish(one)
    assert world.finish(other).waited_for == [SETTLE_AFTER] * 2
    assert world.server.started == 1


def test_a_lookup_ends_once_too_many_executions_could_be_the_start() -> None:
    """The baseline was deleted, and the workflow always has the same inputs."""
    world = World()
    dies_while_starting(world, started=True)
    world.server.remove("ex_0")
    for _ in range(100):
        world.server.add(INPUTS, world.now)
    again = world.finish(world.process())
    assert isinstance(again.error, StartUnknownError)
    assert len(again.error.candidates) == 11
    assert len(again.sent) == 1


def test_a_page_that_comes_again_and_again_says_nothing_about_the_start() -> None:
    world = World()
    world.server.executions.clear()
    dies_while_starting(world, started=True)
    again = world.until(world.process(), "looking up")
    rows = [{"id": "ex_5", "inputs": {}, "status": "running"}]
    while not isinstance(again.action, Fail):
        again.replies(200, an_envelope(rows, pagination={"has_next": True}))
    assert isinstance(again.error, StartUnknownError)
    assert "sent the same page of the list again" in str(again.error)
    assert len(again.sent) == 4


def test_a_listed_execution_without_its_inputs_could_be_the_start() -> None:
    world = World()
    dies_while_starting(world, started=True)
    again = world.until(world.process(), "looking up")
    rows = [{"id": "ex_1", "inputs": None}, world.server.executions[0].shown(), {"id": "older"}]
    again.replies(200, an_envelope(rows, pagination={"has_next": False}))
    assert isinstance(again.error, StartUnknownError)
    assert "[invalid_response] The list does not show the inputs of 'ex_1'" in str(again.error)


@pytest.mark.parametrize("on_unknown", ["error", "start"])
@pytest.mark.parametrize(
    ("why", "candidates"),
    [("equal ones", ["ex_2", "ex_1"]), ("no baseline", ["ex_1"]), ("insufficient_scope", [])],
)
def test_a_lookup_that_cannot_tell_leaves_the_start_unknown(
    why: str, candidates: List[str], on_unknown: str
) -> None:
    world = World()
    dies_while_starting(world, started=candidates != [])
    if why == "equal ones":
        world.server.add(INPUTS, world.now)  # by somebody else
    elif why == "no baseline":
        world.server.remove("ex_0")
    again = world.until(world.process(on_unknown=on_unknown), "looking up")
    if not candidates:
        again.replies(403, an_error(why))
    world.finish(again)
    if on_unknown == "start":
        assert world.server.started == len(candidates) + 1
        return
    assert isinstance(again.error, StartUnknownError)
    assert [it["id"] for it in again.error.candidates] == candidates
    assert f"whether the run was started: {len(candidates)} executions" in str(again.error)
    assert again.error.maybe_processed
    assert candidates or (again.error.__cause__ is not None and why in str(again.error))
    assert world.store.state["state"] == "starting", "the next call settles it again"


# The start


@pytest.mark.parametrize("status", [402, 429])
def test_a_refused_start_leaves_an_open_checkpoint(status: int) -> None:
    world = World()
    process = world.until(world.process(), "starting")
    process.replies(status, an_error("refused"), {"Retry-After": "400"})
    world.step(process)
    assert isinstance(process.error, InsufficientCreditsError if status == 402 else RateLimitError)
    assert process.error.retry_after == 400.0
    assert process.error.execution_id is None
    assert world.store.state["state"] == "open"
    assert world.finish(world.process()).waited_for == []
    assert world.server.started == 1


def test_a_start_that_is_never_sent_leaves_an_open_checkpoint() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    while not isinstance(process.action, (Fail, Save)):
        process.now = world.now
        if isinstance(process.action, Wait):
            world.step(process)
        else:
            process.fails(Phase.NOT_SENT)
    world.step(process)
    assert isinstance(process.action, Fail)
    assert world.store.state["state"] == "open"


def test_a_start_that_is_held_up_is_announced_again() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    process.replies(429, an_error("rate_limit_exceeded"), {"Retry-After": "31"})
    world.finish(process)
    assert [it["state"] for it in world.store.saves] == ["starting", "starting", "started"]
    assert len(process.sent) == 3
    keys = {it.headers["idempotency-key"] for it in process.sent if it.method == "POST"}
    assert len(keys) == 1


def test_a_process_that_was_presumed_dead_does_not_start_a_second_execution() -> None:
    """It is held up by a 429; meanwhile another process takes over."""
    world = World()
    slow = world.until(world.process(), "starting")
    slow.replies(429, an_error("rate_limit_exceeded"), {"Retry-After": "50"})
    other = world.process()
    world.step(other)
    world.now += SETTLE_AFTER
    other.now = world.now
    other.waits(after=0.0)
    assert world.finish(other).value["data"]["execution_id"] == "ex_1"
    assert world.finish(slow).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


@pytest.mark.parametrize("started", [True, False])
def test_a_lost_reply_is_settled_in_the_same_call(started: bool) -> None:
    world = World()
    process = world.until(world.process(), "starting")
    world.lose_reply(process, started=started)
    world.finish(process)
    assert process.waited_for == [SETTLE_AFTER]
    assert process.value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_reply_without_an_id_is_settled_too() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    assert isinstance(process.action, Send)
    world.server.accept(process.action.request, world.now)
    process.replies(202, an_envelope({}))
    assert world.finish(process).value["data"]["execution_id"] == "ex_1"


def test_a_start_is_not_made_after_the_time_of_the_run() -> None:
    world = World()
    process = world.until(world.process(run=True, settle_after=400.0), "executing")
    world.until_sends(process, "POST")
    world.lose_reply(process, started=False)
    world.finish(process)
    assert isinstance(process.error, TimeoutError)
    assert process.error.__cause__ is not None
    assert world.store.state["state"] == "open"


def test_a_start_is_not_sent_if_its_announcement_outlasts_the_run() -> None:
    world = World()
    process = world.until(world.process(run=True, settle_after=700.0), "executing")
    while not isinstance(process.action, Save):
        world.step(process)
    world.now += 300.0
    world.finish(process)
    assert isinstance(process.error, TimeoutError)
    assert methods(process) == ["GET"]
    assert world.store.state["state"] == "open"


def test_a_run_with_little_time_is_started() -> None:
    world = World()
    process = walking(deadline=world.now + 0.5)
    process.start()
    assert isinstance(world.until(process, "starting").action, Send)


# The table


STATES = (
    None,
    {"v": 1, "state": "starting", "at": 0.0},
    {"v": 9},
)
REPLIES = (
    a_response(202, an_envelope({"execution_id": "ex_1"})),
    a_response(200, an_envelope([{"id": "ex_0", "inputs": {}}], pagination={"has_next": False})),
    a_response(200, an_envelope([{"id": "ex_1", "inputs": INPUTS}])),
    a_response(200, an_envelope([{"id": "..", "inputs": INPUTS}])),
    a_response(200, an_envelope([])),
    a_response(200, an_envelope({"id": "ex_1", "status": "failed"})),
    a_response(200, an_envelope({"id": "ex_1", "status": "running"})),
    a_response(402),
    a_response(429),
    a_response(500),
)


def refused_until_the_end(world: World, run: Stepper, *, late: float) -> None:
    """Refuse each connection of a start. Each wait ends `late` seconds late."""
    while not isinstance(run.action, (Done, Fail)):
        if isinstance(run.action, Wait):
            run.waits(after=run.action.seconds + late)
        elif isinstance(run.action, Send) and run.action.request.method == "POST":
            run.fails(Phase.NOT_SENT, after=0.05)
        else:
            world.now = run.now
            world.step(run)


def test_the_last_attempt_of_a_refused_start_is_sent_although_clocks_wake_late() -> None:
    world = World()
    run = world.until(world.process(run=True), "executing")
    began = run.now
    refused_until_the_end(world, run, late=0.002)
    assert isinstance(run.error, ConnectionError)
    assert run.error.attempts[-1].outcome is Phase.NOT_SENT
    assert "after the deadline" in run.error.gave_up
    assert 299.0 <= run.now - began <= 300.0
    assert world.store.state["state"] == "open"


def test_a_refused_start_without_time_for_another_attempt_says_why() -> None:
    """The last wait ends so late that the next attempt is not sent."""
    world = World()
    run = world.until(world.process(run=True), "executing")
    refused_until_the_end(world, run, late=2.0)
    assert isinstance(run.error, TimeoutError)
    refused = run.error.__cause__
    assert isinstance(refused, ConnectionError)
    assert "the network is down (not sent)" in str(refused)
    assert len(run.error.attempts) == len(refused.attempts) == methods(run).count("POST")


def test_the_cause_of_a_start_that_is_too_late_shows_no_key() -> None:
    world = World()
    run = world.until(world.process(run=True, settle_after=700.0), "executing")
    world.until_sends(run, "POST")
    failure = TransportFailure(Phase.NOT_SENT, "no route for fm_live_key")
    assert isinstance(run.report(Report("transport_failed", (failure,), 0.0)), Wait)
    run.waits(after=300.1)
    world.now = run.now
    world.finish(run)
    refused = run.error.__cause__
    assert isinstance(refused, ConnectionError)
    assert "no route for ***" in str(refused)
    assert "no route for ***" in str(refused.__cause__)


def test_a_late_wake_after_a_start_in_doubt_is_a_start_unknown_error() -> None:
    """The lookup was not conclusive, and the second start is refused until the deadline."""
    world = World()
    run = world.until(world.process(run=True, on_unknown="start"), "executing")
    world.until_sends(run, "POST")
    world.lose_reply(run, started=False)
    while not isinstance(run.action, Send):
        world.step(run)
    run.replies(403, an_error("insufficient_scope"))
    refused_until_the_end(world, run, late=1.1)
    assert isinstance(run.error, StartUnknownError)
    assert "could not be started within the timeout" in str(run.error)
    assert world.store.state["state"] == "starting", "the next call looks for the first start"


def walking(*, deadline: float = 1200.0, max_retries: int = 3, **settings: Any) -> Stepper:
    start = World().process(rerun=("failed",), **settings).machine._operation
    context = a_context(max_retries=max_retries)
    return Stepper(DurableStartMachine(start, context, "token", deadline))


@pytest.mark.no_cover
def test_the_table_is_true() -> None:
    worlds = [Checkpointed(REPLIES, STATES) for _ in range(2)]
    started = World()
    started.finish(started.process())
    attached = Checkpointed(REPLIES, (started.store.state,))
    assert_table_is_true(
        DurableStartMachine,
        wander(walking, worlds[0], walks=600),  # type: ignore[arg-type]
        wander(lambda: walking(on_unknown="start"), worlds[1], walks=3000),  # type: ignore[arg-type]
        wander(walking, attached, walks=200),  # type: ignore[arg-type]
        wander(
            lambda: walking(on_unknown="start", deadline=1040.0),
            Checkpointed(REPLIES[-2:], STATES[1:2]),  # type: ignore[arg-type]
            walks=200,
        ),
        wander(
            lambda: walking(deadline=1020.0),
            Checkpointed((REPLIES[4], REPLIES[-2]), STATES[:1]),  # type: ignore[arg-type]
            walks=200,
        ),
        wander(
            lambda: walking(on_unknown="start"),
            Checkpointed(REPLIES[-2:], STATES[1:2]),  # type: ignore[arg-type]
            walks=200,
        ),
        wander(
            lambda: walking(on_unknown="start", deadline=math.inf, max_retries=0),
            Checkpointed((REPLIES[4], REPLIES[-2]), STATES[1:2]),  # type: ignore[arg-type]
            walks=200,
        ),
        wander(
            lambda: walking(on_unknown="start", deadline=1011.4, max_retries=0, settle_after=10.0),
            Checkpointed((REPLIES[4], a_response(402)), STATES[1:2], (0.0, 1.0)),  # type: ignore[arg-type]
            walks=1500,
        ),
    )


def test_a_start_with_a_checkpoint_ends_with_a_value_or_an_error() -> None:
    world = World()
    process = world.finish(world.process())
    assert isinstance(process.action, Done)
    process.refuses_all_but_expected()

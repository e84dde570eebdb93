"""A start with a checkpoint: saves, states of engines, bad states, where the promise ends."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from flowmaestro_core.actions import Fail, Save, Send, Wait
from flowmaestro_core.errors import (
    CheckpointConflict,
    CheckpointError,
    ServerError,
    StartUnknownError,
)
from tests.harness.core.durable import INPUTS, SETTLE_AFTER, World, methods
from tests.harness.core.stepping import an_envelope, an_error

# Saves


@pytest.mark.parametrize(
    "state", ["loading", "saving announced", "saving started", "saving refused"]
)
def test_a_store_that_fails_ends_the_run(state: str) -> None:
    world = World()
    process = world.process()
    if state == "saving refused":
        world.until(process, "starting").replies(402)
    world.until(process, state)
    error = CheckpointError("The store is away")
    process.fails_to_keep(error)
    assert process.error is error
    assert error.execution_id == ("ex_1" if state == "saving started" else None)


def test_a_refusal_is_named_if_its_save_fails() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    process.replies(422, an_error("validation_error", "the input 'task' is missing"))
    error = CheckpointError("The store is away")
    process.fails_to_keep(error)
    assert process.error is error
    assert "The store is away" in str(error)
    assert "the start failed: [validation_error] the input 'task' is missing" in str(error)
    assert process.error.__cause__ is not None
    assert "'task' is missing" in str(process.error.__cause__)


def test_if_two_processes_load_the_same_state_one_starts() -> None:
    world = World()
    one, other = world.process(), world.process()
    world.step(one)
    world.step(other)
    world.until(one, "starting")
    world.until(other, "waiting")
    world.finish(one)
    assert world.finish(other).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_the_third_conflict_is_an_error() -> None:
    world = World()
    process = world.process()
    for _ in range(3):
        world.until(process, "saving announced")
        process.fails_to_keep(CheckpointConflict())
    assert type(process.error) is CheckpointError
    assert process.error.code == "checkpoint_conflict"
    assert process.error.execution_id is None
    assert methods(process) == ["GET"] * 3


@pytest.mark.parametrize("conflicts", [2, 3])
def test_conflict_with_another_announcement_is_one_setback(conflicts: int) -> None:
    world = World()
    world.until(world.process(), "starting")  # It dies.
    process = world.until(world.process(), "waiting")
    for _ in range(conflicts):
        world.until(process, "saving announced")
        # Another process announces its start first, and dies.
        world.store.state["serial"] += 1
        world.step(process)
    world.finish(process)
    assert process.waited_for == [SETTLE_AFTER] * 3
    if conflicts == 3:
        assert process.error.code == "checkpoint_conflict"
    else:
        assert process.value["data"]["execution_id"] == "ex_1"


def test_another_announcement_is_not_waited_for_after_the_deadline() -> None:
    world = World()
    world.until(world.process(), "starting")  # It dies.
    process = world.process(run=True)
    while not isinstance(process.action, Save):
        world.step(process)
    world.store.state["serial"] += 1  # Another process announces its start first.
    world.now += 300.0
    world.finish(process)
    assert isinstance(process.error, StartUnknownError)
    assert process.waited_for == [SETTLE_AFTER]


def test_a_conflict_after_the_start_follows_what_the_other_process_found() -> None:
    world = World()
    process = world.until(world.process(), "saving started")
    world.now += 1
    other = world.finish(world.process())
    assert world.finish(process).value["data"]["execution_id"] == "ex_1"
    assert other.value["data"]["execution_id"] == "ex_1"


def test_a_conflict_after_the_start_does_not_start_again() -> None:
    """The other process was refused and left the checkpoint open, but this one's start runs."""
    world = World()
    process = world.until(world.process(), "saving started")
    world.store.state = {**world.store.state, "state": "open", "serial": 3}
    world.finish(process)
    assert process.value["data"]["execution_id"] == "ex_1"
    assert (world.store.state["state"], world.store.state["serial"]) == ("started", 4)
    assert world.server.started == 1


def test_a_store_that_forgets_is_noticed_within_the_call() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    world.lose_reply(process, started=True)
    world.store.state = None
    world.finish(process)
    assert isinstance(process.error, StartUnknownError)
    assert isinstance(process.error.__cause__, CheckpointError)
    assert "lost a state" in str(process.error)
    assert world.server.started == 1


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_nothing_is_released_while_a_lookup_has_not_shown_what_was_started(
    own: bool, late: bool
) -> None:
    """It would start again by `on_unknown`, but the store or the time runs out."""
    world = World()
    process = world.process(run=True, on_unknown="start", settle_after=100.0)
    if not own:
        world.until(world.process(), "starting")  # It dies.
    while not (isinstance(process.action, Send) and "per_page=100" in process.action.request.url):
        if own and isinstance(process.action, Send) and process.action.request.method == "POST":
            world.lose_reply(process, started=True)
        else:
            world.step(process)
    process.now = world.now
    process.replies(403, an_error("insufficient_scope"))
    assert isinstance(process.action, Save)
    if late:
        world.now += 300.0
        world.finish(process)
    else:
        process.fails_to_keep(CheckpointError())
    assert isinstance(process.error, StartUnknownError)
    assert world.store.state["state"] == "starting"


def test_saves_that_take_too_long_are_an_error_in_the_end() -> None:
    world = World()
    process = world.until(world.process(), "saving announced")
    for _ in range(2):
        process.saves(after=31.0)
        assert isinstance(process.action, Save), "announced again"
    process.saves(after=31.0)
    assert "save took longer than half of settle_after" in str(process.error)
    assert methods(process) == ["GET"]


@pytest.mark.parametrize(("run", "waits"), [(True, 5), (False, 3)])
def test_announcements_of_another_process_are_not_waited_for_without_end(
    run: bool, waits: int
) -> None:
    world = World()
    world.until(world.process(), "starting")
    process = world.process(run=run)
    while not isinstance(process.action, Fail):
        # The other process announces its start again, before each load of this one.
        world.store.state["serial"] += 1
        world.step(process)
    assert isinstance(process.error, StartUnknownError)
    assert "announced" in str(process.error)
    assert process.waited_for == [SETTLE_AFTER] * waits
    assert process.sent == []


# A state that an engine made


def engine_made(world: World) -> Dict[str, Any]:
    return {"v": 1, "state": "starting", "at": world.now}


@pytest.mark.parametrize("started", [True, False])
def test_a_state_without_a_baseline_is_settled_by_time(started: bool) -> None:
    world = World()
    old = world.until(world.process(), "starting")
    world.step(old)  # An equal execution, an hour older: of another task.
    world.now += 3600
    world.store.state = engine_made(world)
    if started:
        world.server.add(INPUTS, world.now)
    again = world.finish(world.process())
    assert again.value["data"]["execution_id"] == "ex_2"
    assert world.server.started == 2
    listed = [it for it in again.sent if "?" in it.url]
    assert len(listed) == (1 if started else 2), "a start of its own has a baseline"


def test_a_state_that_the_engine_makes_anew_begins_another_wait() -> None:
    world = World()
    world.store.state = engine_made(world)
    process = world.until(world.process(), "waiting")
    world.now += SETTLE_AFTER - 1
    world.store.state = engine_made(world)  # Another attempt of the engine, which sends now.
    world.server.add(INPUTS, world.now, 2.0)
    world.now += 1
    process.now = world.now
    process.waits(after=0.0)
    world.finish(process)
    assert process.waited_for == [SETTLE_AFTER] * 2
    assert process.value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


def test_a_young_workflow_has_no_older_execution() -> None:
    world = World()
    world.server.executions.clear()
    world.store.state = engine_made(world)
    assert world.finish(world.process()).value["data"]["execution_id"] == "ex_1"
    assert world.server.started == 1


@pytest.mark.parametrize("dated", [True, False])
def test_without_dates_an_equal_execution_may_be_older(dated: bool) -> None:
    world = World()
    world.store.state = engine_made(world)
    process = world.until(world.process(), "looking up")
    assert isinstance(process.action, Send)
    rows = [{"id": "ex_5", "inputs": INPUTS, "status": "running"}]
    if dated:
        rows[0]["created_at"] = "1970-01-01T00:17:00Z"
    headers = {"Date": "Thu, 01 Jan 1970 00:17:40 GMT"} if dated else {}
    process.replies(200, an_envelope(rows, pagination={"has_next": False}), headers)
    if dated:
        assert world.store.state["state"] == "starting"
        assert process.machine.execution_id == "ex_5"
    else:
        assert isinstance(process.error, StartUnknownError)


# Bad states


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ([], "a list"),
        ("{}", "a str"),
        ({}, "without a version"),
        ({"v": True}, "without a version"),
        ({"v": 2}, "update it"),
        ({"v": 1, "state": "starting"}, "'at'"),
        ({"v": 1, "state": "starting", "at": float("nan")}, "'at'"),
        ({"v": 1, "state": "starting", "at": 10**400}, "'at'"),
        ({"v": 1, "state": "started", "at": 1.0}, "'api_root'"),
    ],
)
def test_a_state_that_is_none_is_refused(changed: Any, said: str) -> None:
    world = World()
    world.store.state = changed
    process = world.process()
    world.step(process)
    assert isinstance(process.error, CheckpointError)
    assert process.error.code == "checkpoint_unusable"
    assert said in str(process.error)
    assert process.sent == []


@pytest.mark.parametrize("inputs", [INPUTS, {"other": 1}])
def test_a_state_whose_nulls_were_dropped_is_read_as_before(inputs: Any) -> None:
    """Some stores drop them: such a state has no `execution_id` yet, and perhaps no `after`."""
    world = World()
    world.until(world.process(), "starting")  # It dies.
    kept = {name: value for name, value in world.store.state.items() if name != "after"}
    world.store.state = {name: value for name, value in kept.items() if value is not None}
    process = world.process(inputs=inputs)
    world.step(process)
    if inputs == INPUTS:
        assert process.machine.state == "waiting"
    else:
        assert process.error.code == "checkpoint_mismatch"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", "ended"),
        ("state", ["open"]),
        ("token", "a\r\nX-Evil: 1"),
        ("token", ""),
        ("serial", -1),
        ("serial", "2"),
        ("reruns", None),
        ("reruns", 10**400),
        ("at", "now"),
        ("after", 5),
        ("execution_id", None),
        ("execution_id", 5),
        ("execution_id", ".."),
    ],
)
def test_a_malformed_state_is_refused(name: str, value: Any) -> None:
    world = World()
    world.finish(world.process())
    world.store.state[name] = value
    process = world.process()
    world.step(process)
    assert process.error.code == "checkpoint_unusable"
    assert repr(name) in str(process.error)


@pytest.mark.parametrize(
    ("name", "said"),
    [("digest", "other inputs"), ("workflow_id", "another workflow_id"), ("api_root", "https://")],
)
def test_a_checkpoint_of_something_else_is_refused(name: str, said: str) -> None:
    world = World()
    world.finish(world.process())
    world.store.state[name] = "something else"
    process = world.process()
    world.step(process)
    assert process.error.code == "checkpoint_mismatch"
    assert said in str(process.error)
    assert process.error.execution_id == "ex_1"
    assert process.sent == []


def test_a_server_that_is_away_before_the_start_leaves_nothing_behind() -> None:
    world = World()
    process = world.until(world.process(), "reading baseline")
    while not isinstance(process.action, Fail):
        if isinstance(process.action, Wait):
            process.waits()
        else:
            process.replies(500)
    assert isinstance(process.error, ServerError)
    assert world.store.saves == []


# Where the promise ends: a second execution is started.


def test_processes_with_different_settle_after_start_twice() -> None:
    world = World()
    slow = world.until(world.process(settle_after=600.0), "starting")
    begun = world.now
    slow.replies(429, an_error("rate_limit_exceeded"), {"Retry-After": "59"})
    other = world.finish(world.process(settle_after=20.0))
    assert (other.waited_for, world.server.started) == ([20.0], 1)
    slow.now = world.now = begun + 59.0
    slow.waits(after=0.0)
    world.finish(slow)
    assert world.server.started == 2


def test_a_process_that_stalls_just_before_its_request_starts_twice() -> None:
    world = World()
    process = world.until(world.process(), "starting")
    world.finish(world.process())
    world.step(process)  # Its request goes out a minute after its announcement.
    assert world.server.started == 2
    world.finish(process)
    assert process.error.code == "checkpoint_conflict"
    assert process.error.execution_id == "ex_2"
    assert "has started 'ex_1' meanwhile" in str(process.error)
    assert world.store.state["execution_id"] == "ex_1", "the next call follows this one"

"""What a batch tells its handle, in which order it hands over, and which arguments it takes."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro_core.actions import Done, Emit, Send, Wait
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome, still_runs
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import (
    EPOCH,
    asked,
    numbered,
    running,
    says,
    starts,
    until_asked,
)
from tests.harness.core.stepping import a_context


def test_progress_counts_done_failed_and_running_rows() -> None:
    told: List[BatchProgress] = []
    run = running([{}, {"a": {1}}, {}], concurrency=1)
    while not isinstance(run.action, Done):
        if isinstance(run.action, Emit):
            told.append(run.machine.progress)
            run.takes(after=1.0)
        elif asked(until_asked(run)) == "execute":
            starts(run, f"ex_{len(run.sent)}")
        else:
            says(run, "completed")
    assert [(it.done, it.failed, it.in_flight, it.total) for it in told] == [
        (1, 0, 0, 3),
        (2, 1, 0, 3),
        (3, 1, 0, 3),
    ]
    assert told[-1].seconds_left == 0.0
    assert told[0].seconds_left > 0.0


def test_the_rate_limit_is_part_of_the_estimate() -> None:
    """Two requests a row, sixty a minute."""
    run = running([{}] * 121, concurrency=1)
    limit = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "40", "Date": EPOCH}
    limit["X-RateLimit-Reset"] = str(784111777 + 30)
    starts(run, "a", **limit)
    says(until_asked(run), "completed", **limit)
    estimate = run.machine.progress.seconds_left
    assert estimate == pytest.approx(30.0 + ((240 - 40) / 60 - 1) * 60)


def test_total_is_known_if_the_rows_have_a_length() -> None:
    assert Executions.wait_many(iter("aba")).total == 2
    assert Workflows.run_many("w", [{}, {}]).total == 2
    assert Workflows.run_many("w", iter([{}, {}])).total is None


def test_on_start_is_called_as_soon_as_an_execution_has_an_id() -> None:
    run = running([{"n": 1}], on_start=print)
    started = starts(run, "a").items[0]
    assert started == RunOutcome(0, {"n": 1}, "a")
    assert still_runs(started)
    assert run.machine.in_flight == (started,)
    run.takes()
    says(until_asked(run), "completed")
    assert run.takes() == Done(None)


def test_ordered_outcomes_come_in_the_order_of_the_rows() -> None:
    run = running(numbered(), concurrency=2, ordered=True)
    first = starts(run, "ex_0")
    assert isinstance(first, Send)
    for _ in range(200):
        if isinstance(run.action, Wait):
            run.waits()
        elif asked(run) == "execute":
            starts(run, f"ex_{len(run.sent)}")
        else:
            says(run, "running" if asked(run) == "ex_0" else "completed")
    assert run.items == []
    assert sum(request.method == "POST" for request in run.sent) == 8
    kept = {item.index for item in run.machine.in_flight}
    assert kept == set(range(8))
    while asked(until_asked(run)) != "ex_0":
        says(run, "running")
    says(run, "completed")
    while isinstance(run.action, Emit):
        run.takes()
    assert [item.index for item in run.items] == list(range(8))


@pytest.mark.parametrize(
    ("inputs", "read_on"),
    [([{}], False), (({},), False), (iter([{}]), True), ({1: {}}.values(), True)],
)
def test_batch_knows_whether_it_runs_code_of_the_caller(inputs: Any, read_on: bool) -> None:
    machine = machine_for(Workflows.run_many("w", inputs), a_context(), "token")
    assert machine.runs_callers_code is read_on


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["timeout", "poll_interval"])
def test_times_are_positive_and_finite(name: str, bad: float) -> None:
    arguments: Any = {name: bad}
    for build in (
        lambda: Executions.wait_many([], **arguments),
        lambda: Workflows.run_many("w", [], **arguments),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            build()


def test_concurrency_must_be_at_least_one() -> None:
    for bad in (0, -1):
        with pytest.raises(ValueError, match=r"^concurrency must be at least 1"):
            Workflows.run_many("w", [], concurrency=bad)
    wrong: Any
    for wrong in (True, 2.0, "8", None):
        with pytest.raises(TypeError, match=r"^concurrency must be an int"):
            Workflows.run_many("w", [], concurrency=wrong)


@pytest.mark.parametrize("wrong", ["ex_1", b"ex_1", {"a": 1}, 5, None])
def test_single_object_instead_of_an_iterable_is_refused(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^execution_ids must be a list or another iterable of ids, not"
    ):
        Executions.wait_many(wrong)
    with pytest.raises(
        TypeError, match=r"^inputs must be a list or another iterable of dicts, not"
    ):
        Workflows.run_many("w", wrong)


@pytest.mark.parametrize("bad", ["", "..", 5, None, []])
def test_a_bad_id_among_many_is_refused_at_once(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="execution_id"):
        Executions.wait_many(["a", bad])

"""What a batch asks its journal, and what it makes of the answers."""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from flowmaestro_core.actions import Done, Emit, Fail, Load, Save, Send, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    AuthenticationError,
    ConnectionError,
    FlowMaestroError,
    JournalError,
    RateLimitError,
    StartUnknownError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_core.machines import machine_for
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.records import JournalPlan, digest_of
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.store import HEADER_KEY
from tests.harness.core.batch_steps import BatchStepper, asked
from tests.harness.core.journals import MemoryJournal
from tests.harness.core.stepping import Stepper, a_context, an_envelope

Answer = Callable[[Request], Any]


def by_n(row: Any) -> int:
    return int(row["n"])


class World:
    """A journal, and a service that starts, lists and ends whatever it is asked to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.journal = MemoryJournal(lambda: self.now)
        self.started = 0
        self.told: List[BatchProgress] = []

    def run(self, rows: Any, answer: Answer = lambda request: None, **more: Any) -> Stepper:
        """The same call again, to its end; `answer` may say something else, or fail."""
        context = more.pop("context", a_context())
        batch = Workflows.run_many("w", rows, journal="unused", **more)
        stepper = BatchStepper(machine_for(batch, context, "token"))
        stepper.now = self.now
        stepper.foreign = (TypeError, ValueError, LookupError)
        stepper.start()
        while not isinstance(stepper.action, (Done, Fail)):
            self.now = stepper.now
            action = stepper.action
            if isinstance(action, (Load, Save)):
                self.journal.carry_out(stepper)
            elif isinstance(action, Send):
                self.answer(stepper, action.request, answer(action.request))
            else:
                if isinstance(action, Emit):
                    self.told.append(stepper.machine.progress)
                stepper.idles()
        self.now = stepper.now
        return stepper

    def answer(self, stepper: Stepper, request: Request, own: Any) -> None:
        if own == "lost":
            stepper.fails(Phase.MAYBE_PROCESSED)
        elif own == "unsent":
            stepper.fails(Phase.NOT_SENT)
        elif callable(own):
            own(stepper)
        elif own is not None:
            stepper.replies(*own)
        elif request.method == "POST":
            self.started += 1
            stepper.replies(202, an_envelope({"execution_id": f"ex_{self.started}"}))
        elif "?" in request.url:
            stepper.replies(*listed(OLD))
        else:
            name = request.url.rpartition("/")[2]
            stepper.replies(200, an_envelope({"id": name, "status": "completed"}))


def indexes(stepper: Stepper) -> List[int]:
    return [item.index for item in stepper.items]


def is_start(request: Request) -> bool:
    return request.method == "POST"


def answering(
    starts: Any = None, *, lookups: Any = None, baseline: Any = None, polls: Any = None
) -> Answer:
    """Answer each kind of request so; of an iterator, each takes one, and then the usual answer."""

    def answer(request: Request) -> Any:
        given = starts if is_start(request) else polls
        if "per_page=100&" in request.url:
            given = lookups
        elif "per_page=1&" in request.url:
            given = baseline
        elif "?" in request.url:  # It waits for several executions.
            return None
        return next(given, None) if isinstance(given, Iterator) else given

    return answer


def listed(*rows: Any, **more: Any) -> Any:
    """A page of the list, which is the last one unless `has_next`."""
    return (200, an_envelope(rows, pagination={"has_next": False, **more}))


ROWS = [{"n": n} for n in range(3)]
OLD = {"id": "old", "inputs": {}, "created_at": "1970-01-01T00:00:00Z"}
LOST = {"id": "ex_lost", "inputs": {"n": 0}, "created_at": "1970-01-01T00:16:41Z"}
OURS = {"id": "ex_1", "inputs": {"n": 1}, "created_at": "1970-01-01T00:16:42Z"}
BASELINE = {"id": "base", "inputs": {}, "created_at": "1970-01-01T00:16:00Z"}


@pytest.mark.parametrize("refusal", [(404,), (429, None, {"Retry-After": "20"}), "unsent"])
def test_baseline_of_a_key_that_could_start_nothing_is_read_again(refusal: Any) -> None:
    """The key of another workspace sees an empty list, and does not find the workflow."""
    world = World()
    world.run(ROWS, answering(refusal, baseline=listed()), concurrency=2)
    assert (world.started, world.journal.header["after"]) == (0, None)
    old = listed({**OLD, "inputs": ROWS[0]})
    again = world.run(ROWS, answering(iter(["lost"]), baseline=old, lookups=old))
    assert json.loads(world.journal.states[HEADER_KEY])["after"] == "old"
    assert all(item.ok for item in again.items)
    assert "old" not in {item.execution_id for item in again.items}


FAILED = (200, an_envelope({"id": "ex_1", "status": "failed", "error": "x"}))


def on_a_new_workflow(world: World, lost: int, rows: Any, **more: Any) -> Stepper:
    """Make a call whose list is empty, and which loses the response to one of its starts."""
    starts = iter([*[None] * lost, "lost"])
    return world.run(rows, answering(starts, baseline=listed(), lookups=listed()), **more)


def test_first_start_of_a_new_workflow_that_never_arrived_is_made_again() -> None:
    """The same key has sent it and has read the empty list, as with a checkpoint."""
    world = World()
    run = on_a_new_workflow(world, 0, ROWS[:1])
    assert [item.execution_id for item in run.items] == ["ex_1"]
    assert [request.method for request in run.sent].count("POST") == 2


def test_empty_list_although_a_row_was_started_leaves_another_row_unknown() -> None:
    run = on_a_new_workflow(World(), 1, ROWS[:2], concurrency=1)
    assert isinstance(run.items[1].error, StartUnknownError)


def test_empty_list_although_a_row_had_an_execution_leaves_its_rerun_unknown() -> None:
    world = World()
    world.run(ROWS[:1], answering(baseline=listed(), polls=FAILED))
    run = world.run(ROWS[:1], answering("lost", lookups=listed()), rerun=("failed",))
    assert sum(map(is_start, run.sent)) == 1
    assert isinstance(run.items[0].error, StartUnknownError)


@pytest.mark.parametrize("second", [[None], ["a", "b"]])
def test_found_execution_hides_no_older_one_of_a_row_that_is_still_in_doubt(second: Any) -> None:
    """That of the first row was made late, and is newer than that of the second."""
    found = {"id": "e0", "inputs": ROWS[0], "created_at": "1970-01-01T00:17:10Z"}
    older = {"inputs": ROWS[1], "created_at": "1970-01-01T00:16:50Z"}
    world = World()
    rows = (found, *({**older, "id": name} for name in second), BASELINE)
    world.run(ROWS[:2], with_a_lost_start(*rows, starts="lost"))
    again = world.run(ROWS[:2], with_a_lost_start(*rows, starts=iter([None])))
    assert not any(map(is_start, again.sent))
    assert isinstance(again.items[1].error, StartUnknownError)


@pytest.mark.parametrize("on_unknown", ["error", "start"])
@pytest.mark.parametrize("older", [[], [{"id": "old", "inputs": {}}]])
@pytest.mark.parametrize("body", [an_envelope({"execution_id": 17}), {"data": None}, {}])
def test_row_that_was_accepted_without_an_id_is_not_started_again(
    body: Any, older: Any, on_unknown: Any
) -> None:
    """The list, which is complete or empty, does not show its execution."""
    answer = answering((202, body), baseline=listed(*older), lookups=listed(*older))
    run = World().run(ROWS[:1], answer, on_unknown=on_unknown)
    assert sum(map(is_start, run.sent)) == 1
    assert isinstance(run.items[0].error, StartUnknownError)


def test_next_call_starts_a_row_that_was_accepted_without_an_id_and_is_not_listed() -> None:
    """The platform may have lost its execution. The journal does not keep that it was accepted."""
    world = World()
    first = world.run(ROWS[:1], answering((202, {})))
    assert isinstance(first.items[0].error, StartUnknownError)
    again = world.run(ROWS[:1])
    assert [item.execution_id for item in again.items] == ["ex_1"]
    assert Wait(60.0) in again.trace


def test_rows_in_doubt_that_are_too_far_apart_for_an_ordered_call_are_settled_by_another() -> None:
    """An ordered call does not read the second one before it has settled the first."""
    rows = [{"n": n} for n in range(300)]
    rows[-1] = rows[0]
    world, lists_fail = World(), answering(lookups=(403,))

    def loses_both(request: Request) -> Any:
        is_one_of_them = is_start(request) and json.loads(request.body)["inputs"] == rows[0]
        return "lost" if is_one_of_them else lists_fail(request)

    both = answering(lookups=listed(LOST, {**LOST, "id": "ex_lost_too"}, OLD))
    for call, answer, ordered, unknown in (
        ("the first", loses_both, False, {0, 299}),
        ("ordered", both, True, {0, 299}),
        ("not ordered", both, False, set()),
    ):
        run = world.run(rows, answer, ordered=ordered)
        errors = {item.index: type(item.error) for item in run.items if not item.ok}
        assert errors == dict.fromkeys(unknown, StartUnknownError), call
    found = {item.execution_id for item in run.items if item.index in (0, 299)}
    assert found == {"ex_lost", "ex_lost_too"}


def test_empty_list_although_a_row_was_accepted_leaves_another_row_unknown() -> None:
    starts = iter([(202, an_envelope({})), "lost"])
    run = World().run(ROWS[:2], answering(starts, baseline=listed(), lookups=listed()))
    assert all(isinstance(item.error, StartUnknownError) for item in run.items)


def test_baseline_is_kept_once_a_start_may_have_been_processed() -> None:
    world = World()
    world.run(ROWS, answering(iter(["lost", (401,)])))
    assert json.loads(world.journal.states[HEADER_KEY])["after"] == "old"


def test_rows_with_a_key_may_move() -> None:
    world = World()
    world.run(ROWS, key=by_n)
    again = world.run([{"n": 3}, *reversed(ROWS)], key=by_n)
    assert {item.index: item.replayed for item in again.items} == {
        0: False, 1: True, 2: True, 3: True
    }  # fmt: skip
    assert world.started == 4
    missing = world.run(iter(ROWS[:1]), key=by_n)
    assert indexes(missing) == [0]


class _Kind(str, Enum):
    A = "a"


class _Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(("member", "key"), [(_Kind.A, "a"), (_Number.ONE, "1")])
def test_member_of_an_enumeration_is_the_key_that_its_value_is(member: Any, key: str) -> None:
    """On each version of Python: `str` of a member differs between them."""
    world = World()
    world.run(ROWS[:1], key=lambda row: member)
    assert [it.replayed for it in world.run(ROWS[:1], key=lambda row: key).items] == [True]
    assert world.started == 1


@pytest.mark.parametrize("max_retries", [0, 3])
@pytest.mark.parametrize(("seconds", "waits"), [("20", True), ("", True), ("400", False)])
def test_429_on_reading_the_baseline_delays_the_starts(
    seconds: str, waits: bool, max_retries: int
) -> None:
    """It is asked for before the first start, which the key is refused for, too."""
    world = World()
    headers = {"Retry-After": seconds} if seconds else {}
    answer = answering(baseline=iter([(429, None, headers)]))
    run = world.run(ROWS, answer, context=a_context(max_retries=max_retries))
    assert [request.method for request in run.sent][:3] == (
        ["GET", "GET", "POST"] if waits else ["GET"]
    )
    if waits:
        assert Wait(float(seconds or 1)) in run.trace
        assert world.journal.header["after"] == "old"
        assert len(run.items) == 3
    else:
        assert isinstance(run.error, RateLimitError)
        assert run.error.retry_after == 400.0


@pytest.mark.parametrize(("seconds", "waits"), [("90", True), ("400", False)])
def test_429_on_a_lookup_delays_the_starts(seconds: str, waits: bool) -> None:
    answer = answering(iter(["lost"]), lookups=(429, None, {"Retry-After": seconds}))
    run = World().run(ROWS[:1], answer, on_unknown="start")
    assert sum(map(is_start, run.sent)) == (2 if waits else 1)
    if waits:
        assert Wait(90.0) in run.trace
        assert run.items[0].ok
    else:
        assert run.items == []
        assert isinstance(run.error, RateLimitError)


@pytest.mark.parametrize("kind", [list, iter])
def test_mismatched_keys_and_rows_are_named(kind: Any) -> None:
    def error(world: World, rows: Any, key: Any) -> Any:
        return world.run(kind(rows), key=key).error

    world = World()
    found = error(world, ROWS, lambda row: "same")
    assert world.started == 0
    assert isinstance(found, JournalError)
    assert "inputs[0] and inputs[1] have the same key 'same'" in found.message
    found = error(World(), ROWS, lambda row: None)
    assert "key must make a str or an int of inputs[0], not NoneType" in str(found)
    found = error(World(), ROWS, lambda row: "\ud800")
    assert "the key of inputs[0] holds a lone surrogate" in str(found)
    for size in (1001, 1_000_000):
        found = error(World(), ROWS, lambda row, size=size: "x" * size)
        assert f"the key of inputs[0] has {size} bytes; at most 1000 are allowed" in str(found)
    found = error(World(), ROWS, lambda row: 1 << 8_000_000)
    assert "the key of inputs[0] has more than 1000 bytes; at most" in str(found)
    found = error(World(), ROWS, lambda row: HEADER_KEY)
    assert "must not be 'flowmaestro:header': it is reserved" in str(found)
    world = World()
    world.run(ROWS, key=lambda row: "a" if row["n"] == 0 else str(row["n"]))
    found = error(world, [{"n": 9}], lambda row: "a")
    assert isinstance(found, JournalError)
    assert "inputs[0] is not what the journal has under the key 'a'" in found.message


@pytest.mark.parametrize("kind", [list, iter])
def test_changed_or_missing_rows_are_refused(kind: Any) -> None:
    world = World()
    world.run(ROWS)
    for rows, named in (
        ([*ROWS[:2], {"n": 9}], "inputs[2] is not"),
        ([*ROWS[:2], {"n": object()}], "inputs[2] is not"),
        ([{"n": 9}, *ROWS[1:], {"n": 3}], "inputs[0] is not"),
        (ROWS[:1], "has inputs[2]"),
    ):
        found = world.run(kind(rows)).error
        assert isinstance(found, JournalError)
        assert found.code == "journal_mismatch"
        assert named in found.message
    assert world.started == 3


@pytest.mark.parametrize("kind", [list, iter])
def test_a_row_that_was_refused_may_be_corrected(kind: Any) -> None:
    world = World()
    run = world.run(ROWS[:1], answering((400,)))
    assert isinstance(run.items[0].error, ValidationError)
    assert world.run(kind([{"n": 9}])).items[0].ok


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("rows", [[{"n": 9}], [{"n": 0}, {"n": 9}], []])
def test_first_changed_row_is_named_before_missing_rows(kind: Any, rows: List[Any]) -> None:
    world = World()
    world.run(ROWS)
    found = world.run(kind(rows)).error
    assert isinstance(found, JournalError)
    named = f"inputs[{len(rows) - 1}] is not" if rows else "has inputs[2], and there are no rows"
    if rows:  # Of an iterator it is not known yet how many rows follow.
        ends = {list: ", which has more rows, up to inputs[2]", iter: "; pass redo="}[kind]
        named += f" what the journal has{ends}"
    assert named in found.message


def test_exception_of_the_iterator_is_not_the_end_of_rows() -> None:
    def broken() -> Iterator[Any]:
        yield ROWS[0]
        raise LookupError("mine")

    world = World()
    world.run(ROWS)
    assert isinstance(world.run(broken()).error, LookupError)


def test_many_rows_are_looked_up_in_chunks() -> None:
    world = World()
    rows = [{"n": n} for n in range(600)]
    started = world.run(iter(rows), concurrency=50)
    assert started.machine.batch.total is None
    again = world.run(iter(rows))
    assert indexes(again) == list(range(600))
    looked_up = [len(it.keys) for it in again.trace if isinstance(it, Load)]
    assert looked_up == [1, 256, 256, 88]


def test_row_that_cannot_be_sent_is_not_in_the_journal() -> None:
    world = World()
    rows = [{"n": 0}, {"n": {1}}, {"n": 2}]
    for _ in range(2):
        outcomes = {item.index: item.ok for item in world.run(rows).items}
        assert outcomes == {0: True, 1: False, 2: True}
    assert set(world.journal.rows) == {"0", "2"}


def one_dict_again_and_again(count: int) -> Iterator[Any]:
    row = {"n": 0}
    for n in range(count):
        row["n"] = n
        yield row


def test_a_row_is_started_as_it_was_when_it_was_read() -> None:
    run = World().run(one_dict_again_and_again(20), concurrency=2)
    sent = [json.loads(it.body)["inputs"]["n"] for it in run.sent if it.method == "POST"]
    assert sent == list(range(20))


def test_a_row_that_changed_since_it_was_looked_up_is_not_started() -> None:
    world = World()
    world.run([{"n": 0}])
    again = world.run(one_dict_again_and_again(4))
    assert {item.index: item.ok for item in again.items} == {0: True, 1: False, 2: False, 3: True}
    errors = [str(item.error) for item in again.items if not item.ok]
    assert all(error.endswith("it has changed since it was read") for error in errors)
    assert world.started == 2


def test_rows_that_have_ended_come_first_however_many_are_new() -> None:
    world = World()
    rows = [{"n": n} for n in range(1100)]
    world.run(rows[-1:], key=by_n)
    again = world.run(rows, answering((422,)), key=by_n)
    assert again.items[0].replayed
    assert indexes(again) == [1099, *range(1099)]


def test_failed_rows_are_started_again_with_another_key() -> None:
    world = World()
    failed = world.run(ROWS, says("failed"))
    assert [(item.ok, item.error) for item in failed.items] == [(False, None)] * len(ROWS)
    keys = {request.headers["idempotency-key"] for request in failed.sent if is_start(request)}
    again = world.run(ROWS, rerun=["failed"])
    assert [item.ok for item in again.items] == [True] * len(ROWS)
    assert not keys & {it.headers["idempotency-key"] for it in again.sent if is_start(it)}


def says(status: str) -> Answer:
    """Answer each poll with this status."""
    return answering(polls=(200, an_envelope({"status": status})))


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_row_whose_cancellation_is_found_out_in_this_call_is_rerun(status: str) -> None:
    world = World()
    assert [type(item.error) for item in world.run(ROWS[:1], says("running")).items] == [
        TimeoutError
    ]
    first_poll = iter([(200, an_envelope({"status": status}))])
    again = world.run(ROWS[:1], answering(polls=first_poll), rerun=[status])
    assert [(item.execution_id, item.ok) for item in again.items] == [("ex_2", True)]
    rows = world.journal.rows.values()
    assert [(row["state"], row["reruns"]) for row in rows] == [("ended", 1)]


fails_to_start_and_to_look_up = answering((500,), lookups=(500,))


def test_row_in_doubt_that_was_cancelled_meanwhile_is_rerun() -> None:
    world = World()
    world.run(ROWS[:1], fails_to_start_and_to_look_up)
    polls = iter([(200, an_envelope({"status": "cancelled"}))])
    answer = answering(lookups=listed(LOST, OLD), polls=polls)
    again = world.run(ROWS[:1], answer, rerun=["cancelled"])
    assert [(item.execution_id, item.ok) for item in again.items] == [("ex_1", True)]


def test_row_that_this_call_has_started_is_not_rerun_by_it() -> None:
    world = World()
    run = world.run(ROWS[:1], says("cancelled"), rerun=["cancelled"])
    assert [item.execution["status"] for item in run.items] == ["cancelled"]
    run = world.run(ROWS[:1], says("cancelled"), rerun=["cancelled"])
    assert world.started == 2


def test_row_in_doubt_that_this_call_starts_again_is_not_rerun_by_it() -> None:
    """A conclusive lookup finds no execution of the earlier call, so this call starts the row."""
    world = World()
    world.run(ROWS[:1], fails_to_start_and_to_look_up)
    again = world.run(ROWS[:1], says("failed"), rerun=["failed"])
    assert [item.execution["status"] for item in again.items] == ["failed"]
    assert world.started == 1


def test_ended_row_of_an_earlier_call_is_not_rerun_without_rerun() -> None:
    world = World()
    world.run(ROWS[:1], says("running"))
    again = world.run(ROWS[:1], says("cancelled"), rerun=["failed"])
    assert [item.execution["status"] for item in again.items] == ["cancelled"]
    assert world.started == 1


CHANGED = [{"n": 0}, {"n": 10}, {"n": 20}]


def bodies(stepper: Stepper) -> List[Any]:
    return [json.loads(it.body)["inputs"] for it in stepper.sent if is_start(it)]


@pytest.mark.parametrize("rows_of", [list, iter])
def test_redo_starts_the_changed_rows_among_its_indices_alone(rows_of: Any) -> None:
    world = World()
    first = world.run(ROWS)
    again = world.run(rows_of(CHANGED), redo=[0, 1, 2])
    assert bodies(again) == CHANGED[1:]
    assert sorted((it.index, it.replayed) for it in again.items) == [
        (0, True),
        (1, False),
        (2, False),
    ]
    keys = [it.headers["idempotency-key"] for it in (*first.sent, *again.sent) if is_start(it)]
    assert len(set(keys)) == 5
    for _ in range(2):
        same = world.run(rows_of(CHANGED), redo=[0, 1, 2])
        assert bodies(same) == []
        assert [it.replayed for it in same.items] == [True] * 3
    without = world.run(rows_of(CHANGED))
    assert [it.replayed for it in without.items] == [True] * 3


@pytest.mark.parametrize("rows_of", [list, iter])
def test_changed_row_outside_redo_is_refused_with_what_to_do(rows_of: Any) -> None:
    world = World()
    world.run(ROWS)
    refused = world.run(rows_of(CHANGED), redo=[1])
    assert refused.error.code == "journal_mismatch"
    assert "inputs[2] is not what the journal has; pass redo=[2] to start" in str(refused.error)
    assert "key=" in str(refused.error)
    if rows_of is list:
        assert bodies(refused) == []


def test_redo_with_a_key_means_the_rows_of_this_call() -> None:
    world = World()
    world.run([{"n": 0, "v": 1}, {"n": 1, "v": 1}], key=by_n)
    rows = [{"n": 1, "v": 2}, {"n": 0, "v": 1}]
    assert "under the key '1'; pass redo=[0]" in str(world.run(rows, key=by_n).error)
    assert bodies(world.run(rows, key=by_n, redo=[0])) == [{"n": 1, "v": 2}]


def test_redo_refuses_a_changed_row_that_still_runs_with_its_id() -> None:
    world = World()
    world.run(ROWS[:1], says("running"))
    refused = world.run(CHANGED[1:2], redo=[0])
    assert refused.error.code == "journal_mismatch"
    assert "its execution ex_1 may still run" in str(refused.error)
    assert refused.sent == []
    world.run(ROWS[:1])
    assert bodies(world.run(CHANGED[1:2], redo=[0])) == [{"n": 10}]


def test_redo_refuses_a_changed_row_in_doubt() -> None:
    world = World()
    world.run(ROWS[:1], answering("lost", baseline=(500,), lookups=(500,)))
    refused = world.run(CHANGED[1:2], redo=[0])
    assert "its last start is in doubt" in str(refused.error)
    assert refused.sent == []


def test_redo_records_the_new_digest_before_the_start() -> None:
    """The process dies while the changed row is being started: the same call settles it."""
    world = World()
    world.run(ROWS[:1])
    died = Stepper(
        machine_for(
            Workflows.run_many("w", CHANGED[1:2], journal="unused", redo=[0]), a_context(), "t"
        )
    )
    died.now = world.now
    died.start()
    while isinstance(died.action, (Load, Save)):
        world.journal.carry_out(died)
    assert is_start(died.action.request)  # type: ignore[union-attr]
    again = world.run(CHANGED[1:2], redo=[0])
    assert [it.ok for it in again.items] == [True]
    assert "/executions?" in again.sent[0].url


def test_row_that_cannot_be_sent_is_not_started_by_redo() -> None:
    world = World()
    world.run(ROWS[:1])
    again = world.run([{"n": {1, 2}}], redo=[0])
    assert [it.error.code for it in again.items] == ["invalid_input"]


BROKEN = (500, {"error": {"code": "22P05", "message": "unsupported Unicode escape sequence"}})


def test_resumed_row_with_the_same_500_does_not_wait_for_a_lookup() -> None:
    world = World()
    world.run(ROWS[:1], answering(BROKEN))
    again = world.run(ROWS[:1], answering(BROKEN))
    assert [item.error.code for item in again.items] == ["22P05"]
    assert len(again.sent) == 1
    assert not any(isinstance(action, Wait) for action in again.trace)
    mended = world.run(ROWS[:1])
    assert [item.ok for item in mended.items] == [True]


def test_stopped_ordered_batch_delivers_rows_after_one_in_doubt() -> None:
    run = World().run(ROWS, answering(iter(["lost", None, (401,)])), ordered=True)
    assert indexes(run) == [1]
    assert isinstance(run.error, AuthenticationError)


@pytest.mark.parametrize("on_unknown", ["error", "start"])
def test_row_whose_responses_are_all_lost_is_refused_once_nothing_runs(on_unknown: str) -> None:
    """Each lookup has shown that nothing was started, so the next call starts it at once."""
    world = World()
    run = world.run(ROWS[:1], answering("lost"), on_unknown=on_unknown)
    (outcome,) = run.items
    assert isinstance(outcome.error, ConnectionError)
    assert sum(map(is_start, run.sent)) == 4
    assert world.journal.rows["0"]["state"] == "open"


def test_progress_counts_rows_in_doubt() -> None:
    world = World()
    world.run(ROWS, answering(iter(["lost"])))
    assert [(it.done, it.in_doubt) for it in world.told] == [(1, 1), (2, 1), (3, 0)]


def test_progress_is_called_each_second_until_rows_in_doubt_are_settled() -> None:
    world = World()
    world.run(ROWS, answering(iter(["lost"] * 3)), progress=print)
    settling = [it for it in world.told if it.in_doubt]
    assert {(it.done, it.in_doubt) for it in settling} == {(0, 3)}
    assert [it.seconds_left for it in settling] == [60.0 - n for n in range(61)]
    assert [(it.done, it.in_doubt) for it in world.told[61:]] == [(1, 0), (2, 0), (3, 0)]


def test_progress_is_called_each_second_while_the_list_is_read() -> None:
    world, pages, starts = World(), iter(range(5)), iter(["lost"])

    def answer(request: Request) -> Any:
        if "per_page=100" not in request.url:
            return next(starts, None) if is_start(request) else None
        rows = [{"id": f"{request.url}{n}", "inputs": {}, "created_at": "no"} for n in range(9)]
        body = an_envelope(rows, pagination={"has_next": next(pages, None) is not None})
        return lambda stepper: stepper.replies(200, body, after=0.7)

    world.run(ROWS[:1], answer, progress=print, settle_after=0.5)
    told = [it.seconds_left for it in world.told if it.in_doubt]
    assert told == [0.5, 0.0, 0.0, 0.0]  # Six pages take 4.2 s. One call in two is due.


def test_on_start_does_not_count_as_progress_for_rows_in_doubt() -> None:
    """Row 1 starts while row 0 is in doubt, and its outcome waits for that of row 0."""
    world, more = World(), {"on_start": print, "progress": print}
    world.run(ROWS[:2], answering(iter(["lost"])), ordered=True, **more)
    assert (0, 1) in [(it.done, it.in_doubt) for it in world.told if it.in_flight == 0]


def test_progress_is_called_each_time_a_row_is_in_doubt() -> None:
    world = World()
    world.run(ROWS[:1], answering(iter(["lost"] * 2)), on_unknown="start", progress=print)
    seconds = [it.seconds_left for it in world.told if it.in_doubt]
    assert seconds.count(60.0) == 2
    assert (world.told[-1].done, world.told[-1].in_doubt) == (1, 0)


def test_a_lost_start_that_is_listed_is_followed() -> None:
    page = listed(
        {**LOST, "id": None},  # without an id, nobody's
        {**LOST, "id": ".."},  # nor with this one
        *[LOST] * 2,
        OLD,
        {"id": "older", "inputs": {"n": 0}, "created_at": "1969-01-01T00:00:00Z"},
        has_next=True,
    )
    run = World().run(ROWS[:1], answering("lost", lookups=page))
    assert [(item.execution_id, item.ok) for item in run.items] == [("ex_lost", True)]
    assert sum(map(is_start, run.sent)) == 1
    assert sum("per_page=100" in request.url for request in run.sent) == 1


def test_an_equal_execution_from_before_the_batch_is_not_taken_for_a_lost_start() -> None:
    """The newest execution before the batch could not be read."""
    yesterday = {"id": "ex_old", "inputs": {"n": 0}, "created_at": "1970-01-01T00:00:00Z"}
    before = {**yesterday, "id": "ex_older", "created_at": "1969-12-31T00:00:00Z"}
    date = {"Date": "Thu, 01 Jan 1970 00:20:00 GMT"}  # The journal was begun at 1000 s.
    page = (*listed(yesterday, before, has_next=True), date)
    run = World().run(ROWS[:1], answering(iter(["lost"]), lookups=page, baseline=(503,)))
    assert [(item.execution_id, item.ok) for item in run.items] == [("ex_1", True)]
    assert sum(map(is_start, run.sent)) == 2
    assert sum("per_page=100" in request.url for request in run.sent) == 1


def test_a_list_that_grows_by_a_page_during_a_lookup_hides_no_lost_start() -> None:
    others = [{"id": f"other_{n}", "inputs": {}, "created_at": "no time"} for n in range(19)]
    rows = [[*others, OURS], [*others, OURS], [LOST, BASELINE, OLD]]
    pages = (listed(*page, has_next=True) for page in rows)
    answer = answering(iter(["lost"]), lookups=pages, baseline=listed(BASELINE))
    run = World().run(ROWS[:2], answer)
    assert sorted(item.execution_id for item in run.items) == ["ex_1", "ex_lost"]
    assert sum(map(is_start, run.sent)) == 2


def with_a_lost_start(*rows: Any, starts: Any = None, baseline: Any = None) -> Answer:
    """Lose the first start. Afterwards, the list shows `rows`, at 3 hours."""
    page = (*listed(*rows), {"Date": "Thu, 01 Jan 1970 03:00:00 GMT"})
    baseline = baseline or listed(BASELINE)
    return answering(starts or iter(["lost"]), lookups=page, baseline=baseline)


def test_a_clock_that_was_set_back_does_not_make_a_lost_start_older_than_the_batch() -> None:
    """The journal holds the baseline, so its age does not matter."""
    world = World()
    world.journal._clock = lambda: world.now - 3600.0
    run = world.run(ROWS[:1], with_a_lost_start(LOST, BASELINE))
    assert [(item.execution_id, item.ok) for item in run.items] == [("ex_lost", True)]
    assert sum(map(is_start, run.sent)) == 1


@pytest.mark.parametrize("id", [None, "", ".."])
def test_newest_execution_without_a_usable_id_is_no_baseline(id: Any) -> None:
    """The age of the journal decides then, so the lookup of a first start is conclusive."""
    world = World()
    newest = {**BASELINE, "id": id}
    run = world.run(ROWS[:1], with_a_lost_start(newest, OLD, baseline=listed(newest)))
    assert [(item.execution_id, item.ok) for item in run.items] == [("ex_1", True)]
    assert world.journal.header["after"] is None


@pytest.mark.parametrize("older", [[], [BASELINE]])
@pytest.mark.parametrize(("inputs", "starts"), [(ROWS[0], 1), (None, 1), (ROWS[1], 4)])
def test_listed_execution_without_a_usable_id_may_be_the_row_in_doubt(
    inputs: Any, starts: int, older: Any
) -> None:
    """With other inputs, it is not, and the row is started again."""
    nameless = {"id": 17, "inputs": inputs, "created_at": "1970-01-01T00:16:42Z"}
    answer = with_a_lost_start(nameless, *older, starts="lost", baseline=listed(*older))
    run = World().run(ROWS[:1], answer)
    assert sum(map(is_start, run.sent)) == starts
    assert isinstance(run.items[0].error, StartUnknownError) == (starts == 1)


def test_execution_without_a_usable_id_leaves_all_equal_rows_in_doubt() -> None:
    """It may be that of the first row, although the other execution is the only one with an id.

    If that were taken for the one of the first row, the next lookup would end before the one
    without an id, and start the other row again.
    """
    equal = {"id": "ex_lost", "inputs": {"n": 1}, "created_at": "1970-01-01T00:16:43Z"}
    nameless = {**equal, "id": 17, "created_at": "1970-01-01T00:16:41Z"}
    other = {"id": "ex_1", "inputs": {"n": 2}, "created_at": "1970-01-01T00:16:42Z"}
    page = (equal, other, nameless, BASELINE)
    rows = [{"n": 1}, {"n": 2}, {"n": 1}]
    world = World()
    answer = with_a_lost_start(*page, starts=iter(["lost", None, "lost"]))
    run = world.run(rows, answer)
    again = world.run(rows, with_a_lost_start(*page, starts=iter([None])))
    assert not any(map(is_start, again.sent))
    for items in (run.items, again.items):
        unknown = {item.index for item in items if isinstance(item.error, StartUnknownError)}
        assert unknown == {0, 2}


def test_few_of_many_candidates_are_kept_while_the_lookup_goes_on() -> None:
    others = [
        {"id": f"other_{n}", "inputs": {"n": 0}, "created_at": "1970-01-01T00:16:42Z"}
        for n in range(50)
    ]
    lost = {"id": "ex_lost", "inputs": {"n": 1}, "created_at": "1970-01-01T00:16:41Z"}
    run = World().run(ROWS[:2], with_a_lost_start(*others, lost, BASELINE, starts="lost"))
    outcomes = {item.index: item for item in run.items}
    assert len(outcomes[0].error.candidates) == 11
    assert outcomes[1].execution_id == "ex_lost"


@pytest.mark.parametrize("status", [401, 422, 429])
def test_a_refused_second_start_leaves_the_row_in_doubt(status: int) -> None:
    """The first one was lost: the next call must find its execution, behind that of another row."""
    world = World()
    starts = iter(["lost", None, (status, None, {"Retry-After": "400"})])
    refuse = answering(starts, lookups=(403,), baseline=listed(BASELINE))
    run = world.run(ROWS[:2], refuse, on_unknown="start")
    unknown = [item.error for item in run.items if not item.ok]
    assert [type(error) for error in unknown] == ([StartUnknownError] if status == 422 else [])
    assert all(isinstance(error.__cause__, ValidationError) for error in unknown)
    assert world.journal.rows["0"]["state"] == "starting"
    found = world.run(ROWS[:2], answering(lookups=listed(OURS, LOST, BASELINE, OLD)))
    assert {item.execution_id for item in found.items} == {"ex_1", "ex_lost"}
    assert not any(map(is_start, found.sent))


def with_a_lost_start_and_refused_lookups() -> Answer:
    return answering(iter(["lost"]), lookups=(403,))


def test_row_in_doubt_that_can_no_longer_be_prepared_is_unknown() -> None:
    """The iterator yields one dict again and again, so the row has changed meanwhile."""
    world = World()
    answer = with_a_lost_start_and_refused_lookups()
    run = world.run(one_dict_again_and_again(2), answer, on_unknown="start")
    errors = {item.index: item.error for item in run.items}
    assert errors[1] is None
    assert isinstance(errors[0], StartUnknownError)
    assert isinstance(errors[0].__cause__, ValidationError)
    assert "inputs[0] cannot be sent: it has changed since it was read" in str(errors[0])
    assert world.journal.rows["0"]["state"] == "starting"


def test_a_second_start_that_was_not_sent_stays_in_doubt() -> None:
    """The batch is closed before the request: the first start may have been processed."""
    world = World()
    rows = [{"n": n} for n in range(3)]
    replies = iter(["lost", "lost", "lost"])
    batch = Workflows.run_many("w", rows, journal="unused", on_unknown="start")
    stepper = BatchStepper(machine_for(batch, a_context(), "token"))
    stepper.start()
    while not (stepper.machine.state == "starting" and next(replies, None) is None):
        if isinstance(stepper.action, (Load, Save)):
            world.journal.carry_out(stepper)
        elif not isinstance(stepper.action, Send):
            stepper.idles()
        elif is_start(stepper.action.request):
            stepper.fails(Phase.MAYBE_PROCESSED)
        else:
            stepper.replies(500)
    machine: Any = stepper.machine
    assert machine.last_save() is None


def test_an_accepted_second_start_gets_a_later_number_than_the_first() -> None:
    """A walk that ended at its execution would miss the starts between the two."""
    world = World()
    run = world.run(ROWS, with_a_lost_start_and_refused_lookups(), on_unknown="start")
    assert [item.ok for item in run.items] == [True] * len(ROWS)
    assert world.journal.numbers == {"ex_1": 2, "ex_2": 3, "ex_3": 4}
    assert world.journal.rows["0"]["number"] == 4


def test_without_the_baseline_an_old_equal_execution_leaves_a_row_unknown() -> None:
    """The baseline was deleted. The list shows another execution of the batch."""
    yesterday = {"id": "ex_old", "inputs": {"n": 0}, "created_at": "1970-01-01T00:00:00Z"}
    run = World().run(ROWS[:2], with_a_lost_start(OURS, yesterday))
    done, unknown = run.items
    assert done.ok
    assert isinstance(unknown.error, StartUnknownError)
    assert [it["id"] for it in unknown.error.candidates] == ["ex_old"]
    assert sum(map(is_start, run.sent)) == 2


def test_rows_in_doubt_are_settled_a_minute_after_resuming() -> None:
    """An ordered batch settles those of one chunk before it reads the next."""
    world, rows = World(), [{"n": n} for n in range(300)]
    world.run(rows)
    for index in (0, 299):
        row = {**world.journal.rows[str(index)], "state": "starting", "execution_id": None}
        world.journal.states[str(index)] = json.dumps(row)
    again = world.run(rows, ordered=True)
    assert indexes(again) == list(range(300))
    assert [wait for wait in again.waited_for if wait > 10] == [60.0]


def test_page_that_is_too_large_is_read_in_halves() -> None:
    sizes: List[str] = []
    page = {"id": "x" * 3000, "created_at": "1970-01-01T00:00:00Z"}
    context = Context(a_context().options, max_reply_size=1500)

    def answer(request: Request) -> Any:
        if is_start(request):
            return "lost" if len(sizes) < 3 else None
        if "?" not in request.url:
            return None
        sizes.append(request.url.partition("per_page=")[2].partition("&")[0])
        return (200, an_envelope([page], pagination={"has_next": False}))

    run = World().run(ROWS[:1], answer, context=context)
    assert sizes == ["1", "100", "50", "25", "12", "6", "3", "1"]
    error = run.items[0].error
    assert isinstance(error, StartUnknownError)
    assert "1500" in str(error.__cause__)  # of the lookup


def test_halved_pages_begin_where_the_large_one_did() -> None:
    asked: List[str] = []

    def answer(request: Request) -> Any:
        if is_start(request):
            return "lost" if len(asked) < 3 else None
        if "?" not in request.url:
            return None
        asked.append(request.url.partition("?")[2].replace("&workflow_id=w", ""))
        rows = [{"id": f"{request.url}{n}", "created_at": "no time"} for n in range(3)]
        if len(asked) == 3:
            rows[0]["id"] = "x" * 9000
        more = {"has_next": len(asked) < 5}
        return (200, an_envelope(rows, pagination=more))

    World().run(ROWS[:1], answer, context=Context(a_context().options, max_reply_size=8000))
    assert asked[1:5] == [
        "page=1&per_page=100",
        "page=2&per_page=100",
        "page=3&per_page=50",
        "page=4&per_page=50",
    ]


def test_seconds_left_is_none_without_a_delivered_row() -> None:
    pace = OutcomeQueue(ordered=False)
    pace.begin(0.0)
    assert pace.seconds_for(5) is None
    pace.replied(RateLimit(60, 0, None, 100, 10), 1.0)
    pace.put(RunOutcome(0))
    pace.get(1.0)
    assert pace.seconds_for(None) is None
    assert pace.seconds_for(20) == pytest.approx(10 / 100 * 86_400)
    pace.put(RunOutcome(1, replayed=True))  # which says nothing of the pace
    pace.get(2.0)
    assert pace.seconds_for(20) == pytest.approx(10 / 100 * 86_400)


def test_rows_that_the_day_suffices_for_follow_from_the_requests_so_far() -> None:
    pace = OutcomeQueue(ordered=False)
    for _ in range(6):
        pace.replied(RateLimit(limit_day=100, remaining_day=30), 1.0)
    assert pace.day_ends_after(50, 0, 1) is None  # No row was delivered.
    for index in range(2):
        pace.put(RunOutcome(index))
        pace.get(1.0)
    assert pace.day_ends_after(50, 0, 3) is None
    assert pace.day_ends_after(None, 0, 2) is None
    assert pace.day_ends_after(12, 0, 2) is None
    assert pace.day_ends_after(13, 0, 2) == 12  # Three requests a row, and 30 are left.
    assert pace.day_ends_after(19, 2, 2) == 18  # Two of them have started rows in flight.
    pace.replied(RateLimit(), 1.0)
    assert pace.day_ends_after(13, 0, 2) is None


def test_digests_are_equal_if_the_server_stores_equal_values() -> None:
    assert digest_of('{"b":1,"a":12345678901234567890}') == digest_of(
        '{"a":12345678901234567000.0,"b":1.0}'
    )
    assert digest_of('{"a":1}') != digest_of('{"a":true}')
    assert digest_of('{"a":-0.0}') == digest_of('{"a":0}')
    assert digest_of('{"a":%s}' % ("9" * 400)) == digest_of('{"a":null}')


def test_last_save_releases_the_rows_that_were_not_sent() -> None:
    """The start of the first row is in flight: the server may start it."""
    world = World()
    batch = Workflows.run_many("w", [{"n": n} for n in range(3)], journal="unused")
    stepper = BatchStepper(machine_for(batch, a_context(), "token"))
    stepper.start()
    while stepper.machine.state != "starting":
        if isinstance(stepper.action, (Load, Save)):
            world.journal.carry_out(stepper)
        else:  # The newest execution before the batch: there is none.
            stepper.replies(200, an_envelope([]))
    machine: Any = stepper.machine
    header, *released = machine.last_save().states
    assert header["serial"] == world.journal.header["serial"] + 1
    assert [(row["key"], row["state"]) for row in released] == [("1", "open"), ("2", "open")]
    assert machine.last_save() is None


def test_last_save_forgets_the_baseline_if_no_start_was_sent() -> None:
    """The next call may have the API key of another workspace."""
    world = World()
    batch = Workflows.run_many("w", ROWS, journal="unused")
    stepper = BatchStepper(machine_for(batch, a_context(), "token"))
    stepper.start()
    while stepper.machine.state != "pausing":
        if isinstance(stepper.action, (Load, Save)):
            world.journal.carry_out(stepper)
        elif "execute" in asked(stepper):
            stepper.replies(429, None, {"Retry-After": "20"})
        else:
            stepper.replies(200, an_envelope([]))
    assert world.journal.header["after"] == ""
    machine: Any = stepper.machine
    header, *released = machine.last_save().states
    assert (header["after"], header["last_number"]) == (None, 0)
    assert {row["state"] for row in released} == {"open"}


def test_outcome_that_the_store_leaves_out_is_loaded_again() -> None:
    world = World()
    world.run(ROWS)
    load = world.journal.load

    def one_at_a_time(keys: Any, outcomes: bool) -> Any:
        states = load(keys, outcomes)
        for state in [it for it in states if "outcome" in it][1:]:
            del state["outcome"]
        return states

    world.journal.load = one_at_a_time  # type: ignore[method-assign]
    again = world.run(ROWS)
    assert indexes(again) == [0, 1, 2]
    assert all(item.replayed for item in again.items)


def test_header_that_is_older_than_a_row_is_refused() -> None:
    """The store has lost a part of a save. The next starts would get numbers a second time."""
    world = World()
    world.run(ROWS)
    older = {**world.journal.header, "last_number": 2}
    world.journal.states[HEADER_KEY] = json.dumps(older)
    refused = world.run([*ROWS, {"n": 9}])
    assert isinstance(refused.error, JournalError)
    assert "the store returned a header that is older than the state of a row" in str(refused.error)
    assert refused.sent == []


def test_row_without_credits_is_saved_as_not_started_and_without_an_outcome() -> None:
    world = World()
    broke = an_envelope({"status": "failed", "error": "Insufficient credits"})
    world.run(ROWS[:1], answering(polls=(200, broke)))
    saved = world.journal.rows["0"]
    assert (saved["state"], "outcome" in saved) == ("open", False)
    assert [item.ok for item in world.run(ROWS[:1]).items] == [True]


# How many saves a row takes


def saved(stepper: Stepper) -> List[List[Tuple[str, str]]]:
    """The rows of each save, with their states. The first save has the header alone."""
    saves = [action for action in stepper.trace if isinstance(action, Save)]
    return [[(it["key"], it["state"]) for it in save.states[1:]] for save in saves][1:]


def test_ids_of_starts_that_follow_each_other_are_saved_together() -> None:
    run = World().run(ROWS, concurrency=3)
    rows = ["0", "1", "2"]
    assert saved(run)[:2] == [[(row, state) for row in rows] for state in ("starting", "started")]
    trace = [type(action) for action in run.trace]
    first_wait = trace.index(Wait)
    assert trace[first_wait - 1] is Save, "the ids are saved before the first pause"


def test_id_is_saved_with_the_end_of_another_row_that_is_due() -> None:
    rows = [{"n": n} for n in range(4)]
    run = World().run(rows, concurrency=3)
    assert [("3", "started"), ("1", "ended")] in saved(run)


def test_id_is_saved_before_on_start_is_called() -> None:
    run = World().run(ROWS, concurrency=3, on_start=print)
    saves = 0
    for action in run.trace:
        saves += isinstance(action, Save)
        if isinstance(action, Emit):
            break
    assert saved(run)[saves - 2] == [("0", "started")]


def test_id_is_saved_before_a_start_waits_for_its_next_attempt() -> None:
    starts = iter([None, (503, None, {"Retry-After": "9"})])
    run = World().run(ROWS[:2], answering(starts))
    trace = run.trace
    pause = next(action for action in trace if isinstance(action, Wait))
    assert pause.because is not None
    assert pause.because.outcome == 503
    before = trace[trace.index(pause) - 1]
    assert isinstance(before, Save)
    assert [it.get("state") for it in before.states[1:]] == ["started"]
    assert [item.ok for item in run.items] == [True, True]


def test_store_knows_the_execution_of_a_row_that_ends_without_credits_at_once() -> None:
    """Its id was not saved before. Another row with these inputs could take it for its own."""
    ledger, row = Ledger(JournalPlan("", ""), "root", "token"), Row(0, {}, 0)
    for happens in (row.announce, row.send, lambda: row.accept("ex_1")):
        happens()
    ledger.add(row)
    row.end(FlowMaestroError("no credits"))
    ledger.add(row)
    saves = [ledger.save(), ledger.save()]
    assert ledger.save() is None
    ids = [save.states[1]["execution_id"] for save in saves if save is not None]
    assert ids == ["ex_1", None]


def test_unsent_baseline_is_read_again_before_the_next_start() -> None:
    world, unsent = World(), iter([lambda stepper: stepper.fails(Phase.NOT_SENT)])
    run = world.run(ROWS[:2], answering(baseline=unsent), context=a_context(max_retries=0))
    assert [type(item.error) for item in run.items] == [ConnectionError, type(None)]
    assert world.journal.header["after"] == "old"


def test_request_for_the_baseline_is_retried() -> None:
    world = World()
    world.run(ROWS, answering(baseline=iter([(503,), "lost"])))
    assert world.journal.header["after"] == "old"

"""Waiting for many through the list: which requests are made, and that no execution is lost."""

from __future__ import annotations

import random
from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.actions import Done, Emit, Read, Send, Wait
from flowmaestro_core.errors import TimeoutError
from flowmaestro_core.executions.list_plan import SMALLEST_SIZE
from flowmaestro_core.executions.outcome import BatchProgress, day_ends
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT
from flowmaestro_core.executions.watch import (
    LONGEST_INTERVAL,
    LOST_BEFORE_GIVING_UP,
    PAGE_LIMIT,
    PAGES_BEFORE_GROWTH,
    SINGLES_AFTER_FAILURE,
)
from flowmaestro_core.machines import machine_for
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.pace import FEW
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import (
    NEARLY_SPENT,
    errors,
    running,
    says,
    starts,
    until_asked,
    waiting,
)
from tests.harness.core.listed import BEGUN, ListingServer
from tests.harness.core.stepping import Stepper, a_context, an_envelope

LATEST = 1.2 * LONGEST_INTERVAL


def ended(stepper: Stepper) -> List[Any]:
    """The ids of the executions that were handed over as ended, sorted."""
    assert stepper.action == Done(None)
    return sorted(item.execution_id for item in stepper.items if item.execution is not None)


# How many are waited for


@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_executions_are_polled_singly(rows: int) -> None:
    server = ListingServer()
    server.play(running([{}] * rows))
    assert server.lists == []


def test_one_execution_whose_workflow_is_unknown_is_polled_singly() -> None:
    server = ListingServer()
    name = server.add(ends=3.0)
    assert ended(server.play(waiting(name))) == [name]
    assert server.lists == []


def test_three_executions_are_read_from_the_list() -> None:
    server = ListingServer()
    batch = server.play(running([{}] * 3))
    assert ended(batch) == ["ex_0", "ex_1", "ex_2"]
    assert server.polls == []
    assert len(server.lists) <= 8


def test_an_end_that_a_page_shows_needs_no_further_request() -> None:
    server = ListingServer(takes=lambda _: 0.5)
    batch = server.play(running([{}] * 3))
    assert server.asked == ["start"] * 3 + ["list 1 10"]
    outcome = batch.items[0]
    assert outcome.execution == server.executions[-1].entry(batch.now) | {
        "started_at": None,
        "trigger_id": None,
    } or outcome.outputs == {"of": outcome.execution_id}
    assert outcome.ok


def test_rows_cost_few_requests_and_are_seen_soon() -> None:
    rng = random.Random(1)
    server = ListingServer(takes=lambda _: 60.0 * (0.5 + rng.random()))
    batch = running([{}] * 400, concurrency=50, timeout=900.0)
    late: Dict[str, float] = {}
    while not isinstance(batch.action, Done):
        if isinstance(batch.action, Emit):
            item = batch.action.items[0]
            (known,) = (one for one in server.executions if one.id == item.execution_id)
            late[item.execution_id] = batch.now - known.ends_at
        server.answer(batch) if isinstance(batch.action, Send) else batch.idles()
    assert len(late) == 400
    assert max(late.values()) <= LATEST
    assert sorted(late.values())[200] <= 3.0
    assert len(server.asked) / 400 <= 1.4


# When the list is read


def times_of_lists(server: ListingServer, stepper: Stepper, until: float) -> List[float]:
    times: List[float] = []
    while stepper.now < BEGUN + until and not isinstance(stepper.action, Done):
        if isinstance(stepper.action, Send):
            before = len(server.lists)
            server.answer(stepper)
            times += [stepper.now - BEGUN] * (len(server.lists) - before)
        else:
            stepper.idles()
    return times


def gaps(times: List[float]) -> List[float]:
    return [after - before for before, after in zip(times, times[1:])]


@pytest.mark.parametrize("seconds", [0.2, 2.0, 30.0])
def test_given_poll_interval_is_kept_from_the_first_poll_on(seconds: float) -> None:
    server = ListingServer(takes=lambda number: 4.0 if number == 9 else 280.0)
    batch = running([{}] * 10, concurrency=10, poll_interval=seconds)
    times = times_of_lists(server, batch, 9 * seconds)
    assert gaps(times) == pytest.approx([seconds] * (len(times) - 1))
    assert times[0] <= 1.0


def test_lists_become_rarer_until_an_execution_has_ended() -> None:
    server = ListingServer(takes=lambda _: 200.0)
    between = gaps(times_of_lists(server, running([{}] * 3), 60.0))
    assert between[0] <= 1.0
    assert between == sorted(between)
    assert between[-1] == pytest.approx(LONGEST_INTERVAL)


def test_interval_follows_from_the_time_that_executions_take() -> None:
    """Those that have ended took 8 s in the median, so the list is read every 2.8 s."""
    server = ListingServer(takes=lambda number: 6.0 + number if number < 5 else 200.0)
    between = gaps(times_of_lists(server, running([{}] * 9, concurrency=9), 17.0))
    assert between[-1] == pytest.approx(0.35 * 8.0)


def test_lists_become_rarer_once_only_long_executions_are_left() -> None:
    server = ListingServer()
    names = [server.add(ends=1.0) for _ in range(20)] + [server.add(ends=250.0) for _ in range(3)]
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.asked) <= 250.0 / LONGEST_INTERVAL * 1.2 + 15


def test_ends_are_dated_by_the_server_if_it_can_be_read() -> None:
    """Executions that had ended before the wait took their time, too."""
    server = ListingServer()
    for _ in range(5):
        server.add(ends=0.0)
    for one in server.executions:
        one.created_at = BEGUN - 100.0
    names = [one.id for one in server.executions] + [server.add(ends=250.0) for _ in range(3)]
    between = gaps(times_of_lists(server, waiting(*names), 60.0))
    assert between[-1] == pytest.approx(LONGEST_INTERVAL)


def test_executions_without_times_are_dated_by_our_own_clock() -> None:
    def undated(entries: List[Any]) -> List[Any]:
        return [{**entry, "created_at": None} for entry in entries]

    server = ListingServer(takes=lambda n: 20.0 if n < 3 else 90.0, entries=undated)
    between = gaps(times_of_lists(server, running([{}] * 8, concurrency=8), 60.0))
    assert between[-1] == pytest.approx(LONGEST_INTERVAL)


# How much of the list is read


def test_page_is_as_long_as_the_oldest_execution_is_deep() -> None:
    server = ListingServer(takes=lambda number: 100.0 if number == 0 else 3.0)
    server.play(running([{}] * 60, concurrency=4))
    sizes = [int(asked.split()[2]) for asked in server.lists]
    assert sizes[0] == 10
    assert max(sizes) > 50
    assert sizes[-1] <= 100
    assert all(asked.split()[1] == "1" for asked in server.lists)


def test_second_page_is_read_only_while_it_costs_fewer_requests() -> None:
    """The oldest of 130 is alone on the second page, so it is polled singly."""
    server = ListingServer(takes=lambda number: 500.0)
    batch = running([{}] * 104, concurrency=104, timeout=900.0)
    server.play(batch, until=60.0)
    assert any(asked.startswith("list 2") for asked in server.lists)
    server = ListingServer(takes=lambda number: 500.0)
    server.play(running([{}] * 101, concurrency=101, timeout=900.0), until=60.0)
    assert all(asked.startswith("list 1") for asked in server.lists)
    assert set(server.polls) == {"ex_0"}


def test_new_executions_of_other_clients_make_the_page_longer() -> None:
    server = ListingServer(takes=lambda _: 40.0)
    batch = running([{}] * 3)
    for _ in range(200):
        if isinstance(batch.action, Done):
            break
        if isinstance(batch.action, Send):
            server.answer(batch)
            for _ in range(4):
                server.add(ends=0.0)
        else:
            batch.idles()
    assert ended(batch) == ["ex_0", "ex_10", "ex_5"]
    assert max(int(asked.split()[2]) for asked in server.lists) > 30


@pytest.mark.parametrize(
    "lacking",
    [
        lambda entry: {key: entry[key] for key in entry if key != "outputs"},
        lambda entry: {key: entry[key] for key in entry if key != "error"},
        lambda entry: {**entry, "completed_at": None},
        lambda entry: {**entry, "status": None},
    ],
    ids=["no outputs", "no error", "no end", "no status"],
)
def test_an_incomplete_entry_is_polled_singly(lacking: Callable[[Any], Any]) -> None:
    server = ListingServer(entries=lambda entries: [lacking(entry) for entry in entries])
    server.play(running([{}] * 3))
    assert set(server.polls) == {"ex_0", "ex_1", "ex_2"}


def test_list_is_not_read_on_for_an_incomplete_entry() -> None:
    server = ListingServer(entries=lambda entries: [{"id": entry["id"]} for entry in entries])
    for _ in range(20):
        server.add(ends=0.0)
    server.play(running([{}] * 3))
    assert set(server.lists) == {"list 1 10"}


def test_an_incomplete_entry_that_a_page_shows_twice_is_polled_singly() -> None:
    def bare(entries: List[Any]) -> List[Any]:
        return [{"id": entry["id"]} for entry in entries for _ in range(2)]

    server = ListingServer(entries=bare)
    server.play(running([{}] * 3))
    assert set(server.polls) == {"ex_0", "ex_1", "ex_2"}


def test_cancelled_execution_needs_no_time_of_its_end() -> None:
    def undated(entries: List[Any]) -> List[Any]:
        return [{**entry, "completed_at": None} for entry in entries]

    server = ListingServer(entries=undated)
    batch = running([{}] * 3)
    server.play(batch, until=0.5)
    for one in server.executions:
        one.status = "cancelled"
    assert ended(server.play(batch)) == ["ex_0", "ex_1", "ex_2"]
    assert server.polls == []


# A list that fails


def test_failing_list_is_read_again_after_ten_single_polls() -> None:
    server = ListingServer(takes=lambda _: 60.0, refuses=lambda page, size: 500)
    batch = server.play(running([{}] * 3))
    assert len(ended(batch)) == 3
    text = " ".join("L" if asked.startswith("list") else "p" for asked in server.asked[3:])
    between = [len(part.split()) for part in text.split("L")[1:-1]]
    assert set(between) == {12}  # In rounds of three, ten are reached in the fourth.
    assert SINGLES_AFTER_FAILURE == 10


def test_list_that_shows_one_execution_is_read_again_after_ten_single_polls() -> None:
    server = ListingServer(takes=lambda _: 60.0, entries=lambda entries: entries[:1])
    server.play(running([{}] * 3))
    first, second = [at for at, asked in enumerate(server.asked) if asked.startswith("list")][:2]
    assert second - first > SINGLES_AFTER_FAILURE


@pytest.mark.parametrize(
    ("status", "failures", "polls"),
    [(429, 1, 0), (429, 5, 0), (503, 1, 0), (503, 2, 60), (500, 1, 60), (403, 1, 60), (302, 1, 60)],
)
def test_page_that_fails_for_another_reason_than_the_list_costs_no_single_polls(
    status: int, failures: int, polls: int
) -> None:
    left = [status] * failures
    server = ListingServer(
        takes=lambda _: 30.0, refuses=lambda page, size: left.pop() if left else None
    )
    batch = server.play(running([{}] * 60, concurrency=60))
    assert len(ended(batch)) == 60
    assert len(server.polls) == polls


def test_page_that_fails_at_the_deadline_is_followed_by_last_polls() -> None:
    server = ListingServer(takes=lambda _: 400.0)
    batch = server.play(running([{}] * 3, concurrency=3, timeout=10.0), until=8.0)
    server.refuses = lambda page, size: 503
    server.play(batch)
    assert server.polls == ["ex_0", "ex_1", "ex_2"]


def test_page_that_is_too_large_is_requested_with_half_the_size() -> None:
    server = ListingServer(takes=lambda _: 400.0)
    batch = running([{}] * 40, concurrency=40, timeout=900.0)
    large = b'{"data": ["' + b"x" * PAGE_LIMIT + b'"]}'
    sizes: List[int] = []
    while batch.now < BEGUN + 100.0:
        if isinstance(batch.action, Send) and "?" in batch.action.request.url:
            sizes.append(int(batch.action.request.url.rpartition("per_page=")[2].split("&")[0]))
            if sizes[-1] > 20 and len(sizes) < 30:
                batch.replies(200, raw=large)
                continue
        server.answer(batch) if isinstance(batch.action, Send) else batch.waits()
    assert sizes[:4] == [50, 25, 12, 12]
    assert sizes[2 + PAGES_BEFORE_GROWTH] > 20
    assert server.polls == []


def test_pages_too_large_at_the_smallest_size_give_way_to_single_polls() -> None:
    batch = running([{}] * 6, concurrency=6)
    server = ListingServer(takes=lambda _: 20.0)
    large = b'{"data": ["' + b"x" * PAGE_LIMIT + b'"]}'

    def answer() -> None:
        url = batch.sent[-1].url
        if "?" in url:
            assert int(url.partition("per_page=")[2].split("&")[0]) >= 4
            batch.replies(200, raw=large)
        else:
            server.answer(batch)

    batch.plays(answer)
    assert len(ended(batch)) == 6
    assert SMALLEST_SIZE == 4


# Executions that were started elsewhere


def test_a_thousand_executions_of_one_workflow_are_read_in_eleven_requests() -> None:
    server = ListingServer()
    names = [server.add(ends=0.0) for _ in range(1000)]
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.asked) == 11


def test_a_few_executions_beside_many_of_another_workflow_are_read_from_their_list() -> None:
    server = ListingServer()
    names = [server.add("wf_many", ends=20.0) for _ in range(100)]
    names += [server.add("wf_few", ends=200.0) for _ in range(3)]
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.polls) == 2  # One of each workflow, which is unknown before.


def test_executions_of_as_many_workflows_are_polled_singly() -> None:
    server = ListingServer()
    names = [server.add(f"wf_{number}", ends=0.0) for number in range(100)]
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.lists) <= 10


def test_executions_whose_workflow_is_never_shown_are_polled_singly() -> None:
    server = ListingServer(shows_workflow=False)
    names = [server.add(ends=3.0) for _ in range(20)]
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert server.lists == []


def test_old_executions_are_looked_for_no_further_than_it_pays() -> None:
    server = ListingServer()
    names = [server.add(ends=20.0) for _ in range(3)]
    for _ in range(5000):
        server.add(ends=0.0)
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.lists) <= 2


def test_old_executions_of_a_large_batch_are_found() -> None:
    server = ListingServer()
    names = [server.add(ends=200.0) for _ in range(100)]
    for _ in range(300):
        server.add(ends=0.0)
    assert ended(server.play(waiting(*names))) == sorted(names)
    assert len(server.polls) <= 300
    assert "list 4 100" in server.lists


# Deadlines


def test_last_look_at_the_deadline_is_one_page_for_all() -> None:
    server = ListingServer()
    names = [server.add(ends=1e6) for _ in range(50)]
    wait = waiting(*names, timeout=20.0)
    server.play(wait)
    assert wait.now == pytest.approx(BEGUN + 20.0)
    assert all(isinstance(error, TimeoutError) for error in errors(wait))
    assert len(server.polls) == 1
    assert len(server.lists) <= 12


def test_end_at_the_deadline_is_seen_by_the_last_page() -> None:
    server = ListingServer()
    names = [server.add(ends=20.0) for _ in range(50)]
    assert ended(server.play(waiting(*names, timeout=20.0))) == sorted(names)


def test_execution_that_no_page_shows_has_its_last_poll() -> None:
    server = ListingServer(entries=lambda entries: entries[:-1])
    names = [server.add(ends=20.0) for _ in range(5)]
    assert ended(server.play(waiting(*names, timeout=20.0))) == sorted(names)


def requested(stepper: Stepper) -> str:
    """What the request in flight is about: `list`, or the id of the execution that is polled."""
    assert isinstance(stepper.action, Send)
    url = stepper.action.request.url
    return "list" if "?" in url else url.rpartition("/")[2]


def play_until_late(server: ListingServer, wait: Stepper, name: str) -> None:
    """Answer until `name` is polled near the deadline, and then only after the deadline."""
    while not (isinstance(wait.action, Send) and wait.now > BEGUN + 15 and requested(wait) == name):
        server.answer(wait) if isinstance(wait.action, Send) else wait.idles()
    server.answer(wait, after=10.0)


def test_deadline_during_single_polls_begins_a_round_if_a_page_has_shown_the_execution() -> None:
    """The list shows all but the newest two. One page is the last look at four."""
    server = ListingServer(entries=lambda entries: entries[2:])
    wait = waiting(*(server.add(ends=1e6) for _ in range(6)), timeout=20.0)
    play_until_late(server, wait, "ex_4")
    assert play_with_losses(server, wait, lambda _: False) == ["list", "ex_5"]


def test_deadline_during_single_polls_is_followed_by_the_last_poll_of_one_that_no_page_shows() -> (
    None
):
    """The list shows all but the oldest three."""
    server = ListingServer(entries=lambda entries: entries[:-3])
    wait = waiting(*(server.add(ends=1e6) for _ in range(6)), timeout=20.0)
    play_until_late(server, wait, "ex_1")
    assert play_with_losses(server, wait, lambda _: False) == ["ex_0", "ex_2", "list"]


def test_last_poll_at_the_deadline_is_of_the_execution_whose_deadline_it_is() -> None:
    """The other one is due sooner, but little is left of the rate limit."""
    batch = running([{}] * 2, timeout=20.0)
    starts(batch, "ex_0")
    batch.now += 0.3
    starts(batch, "ex_1")
    while not (batch.now > BEGUN + 19.0 and requested(batch) == "ex_0"):
        says(batch, "running") if isinstance(batch.action, Send) else batch.idles()
    says(batch, "running", **NEARLY_SPENT)
    until_asked(batch)
    assert (batch.now, requested(batch)) == (BEGUN + 20.0, "ex_0")


def test_round_reads_on_if_it_leaves_two_executions() -> None:
    server = ListingServer(takes=lambda number: 0.0 if number > 2 else 100.0)
    batch = running([{}] * 3)
    for _ in range(2):
        server.answer(batch)
    for _ in range(9):
        server.add(ends=0.0)
    server.play(batch, until=3.0)
    assert server.asked[3:5] == ["list 1 10", "list 2 10"]


def play_with_losses(
    server: ListingServer, stepper: Stepper, is_lost: Callable[[str], bool]
) -> List[str]:
    """Answer each request, unless `is_lost(request)`. Return the requests in order.

    A request is `list`, or the id of the execution that is polled.
    """
    requests: List[str] = []
    while not isinstance(stepper.action, Done):
        if not isinstance(stepper.action, Send):
            stepper.idles()
            continue
        requests.append(requested(stepper))
        if is_lost(requests[-1]):
            stepper.times_out()
        else:
            server.answer(stepper)
    return requests


@pytest.mark.parametrize("stopped", [0.0, 60.0])
@pytest.mark.parametrize("lost", [("list", "ex_0"), ("ex_0",), ("list", "ex_0", "ex_3")])
def test_lost_last_poll_gives_up_no_other_execution(lost: Any, stopped: float) -> None:
    """Six rows have ended by their deadline. The server does not answer the requests `lost`."""
    server = ListingServer(takes=lambda _: 3.0)
    batch = running([{}] * 6, concurrency=6, timeout=4.0)
    server.play(batch, until=0.5)
    if stopped:
        while not isinstance(batch.action, Send):
            batch.idles()
        batch.fails(timed_out=True, after=stopped)
    requests = play_with_losses(server, batch, lambda request: request in lost)
    failed = {item.execution_id for item in batch.items if not item.ok}
    assert len(batch.items) == 6
    assert failed == {request for request in requests if request in lost} - {"list"}


@pytest.mark.parametrize("known", [True, False], ids=["list", "singly"])
def test_server_that_answers_nothing_gets_three_requests_after_the_deadline(known: bool) -> None:
    """It is silent from the deadline on. One of the three is the list, if it is worth reading."""
    server = ListingServer(shows_workflow=known)
    names = [server.add(ends=1e6) for _ in range(50)]
    wait = waiting(*names, timeout=20.0)
    server.play(wait, until=19.0)
    while wait.now < BEGUN + 20.0:
        server.answer(wait) if isinstance(wait.action, Send) else wait.idles()
    requests = play_with_losses(server, wait, lambda _: True)
    assert len(requests) == LOST_BEFORE_GIVING_UP == 3
    assert requests.count("list") == known
    assert len(errors(wait)) == 50
    assert wait.now <= BEGUN + 20.0 + LOST_BEFORE_GIVING_UP * LAST_POLL_TIMEOUT


# Whatever the list does


def entries_of(draw: Any) -> Callable[[List[Any]], List[Any]]:
    kind = draw(st.sampled_from(["whole", "short", "twice", "foreign", "junk", "empty", "stale"]))

    def change(entries: List[Any]) -> List[Any]:
        if kind == "short":
            return entries[::2]
        if kind == "twice":
            return [*entries, *entries]
        if kind == "foreign":
            return [{"id": f"other_{n}", "status": "completed"} for n in range(50)] + entries
        if kind == "junk":
            return [None, 7, {}, {"id": 5}, {"id": "ex_0", "status": 3}, *entries]
        if kind == "stale":
            return [{**entry, "status": "running"} for entry in entries]
        return [] if kind == "empty" else entries

    return change


@given(st.data())
def test_no_execution_is_lost_whatever_the_list_does(data: Any) -> None:
    """Each row is handed over once, ended, and not too late; a list may fail, lie or shift."""
    draw = data.draw
    rng = random.Random(draw(st.integers(0, 999)))
    failing, arrivals = draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.integers(0, 5))
    change = entries_of(draw)
    server = ListingServer(
        takes=lambda _: rng.choice([0.1, 2.0, 30.0]),
        refuses=lambda page, size: 500 if rng.random() < failing else None,
    )
    stale = change([{"id": "x", "status": "completed"}]) == [{"id": "x", "status": "running"}]
    server.entries = (lambda entries: change(entries)) if not stale else change
    batch = running([{}] * 12, concurrency=draw(st.sampled_from([3, 6, 12])), timeout=100.0)
    while not isinstance(batch.action, Done):
        assert batch.now < BEGUN + 900.0
        if isinstance(batch.action, Send):
            server.answer(batch, after=0.01)
            for _ in range(arrivals if rng.random() < 0.2 else 0):
                server.add(ends=0.0)
        else:
            batch.idles()
    assert sorted(item.index for item in batch.items) == list(range(12))
    if not stale:
        assert all(item.ok for item in batch.items)


# Beside other waits of the client


def crowd(stepper: Stepper) -> None:
    """Ten other machines of the client wait, and of the key's window little is left."""
    pace: Any = stepper.machine._context.pace
    pace.replied(RateLimit(limit=300, remaining=20, reset_after=60.0), stepper.now)
    for _ in range(FEW):
        pace.plan(0.5, stepper.now)


def test_a_wait_beside_many_others_takes_turns() -> None:
    wait = Stepper(machine_for(Executions.wait_for_completion("ex_1"), a_context(), "token"))
    wait.start()
    crowd(wait)
    action = wait.replies(200, an_envelope({"id": "ex_1", "status": "running"}))
    assert isinstance(action, Wait)
    assert action.seconds > 10.0


def test_last_poll_beside_many_others_comes_at_the_deadline() -> None:
    operation = Executions.wait_for_completion("ex_1", timeout=5.0)
    wait = Stepper(machine_for(operation, a_context(), "token"))
    wait.start()
    crowd(wait)
    assert wait.replies(200, an_envelope({"id": "ex_1", "status": "running"})) == Wait(5.0)


def test_a_run_beside_many_others_takes_turns() -> None:
    run = Stepper(machine_for(Workflows.run("wf_1"), a_context(), "token"))
    run.start()
    crowd(run)
    run.replies(202, an_envelope({"execution_id": "ex_1"}))
    assert isinstance(run.opens(), Read)
    begun = run.now
    while not isinstance(run.action, Send):
        run.stays_quiet()
    assert run.now - begun > 5.0


def test_the_sentence_about_the_day_rounds_to_two_digits() -> None:
    said = day_ends(BatchProgress(100, 0, 8, 2000, 60.0, day_ends_after=1327))
    assert "after about 1,300 of 2,000 rows at this rate" in said

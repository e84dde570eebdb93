"""A start: its table, and which errors leave it in doubt."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, Set, Tuple

import pytest

from flowmaestro_core.errors import (
    Attempt,
    ConnectionError,
    FlowMaestroError,
    NotFoundError,
    ServerError,
    StartUnknownError,
)
from flowmaestro_core.executions.start import (
    IN_DOUBT,
    REFUSED,
    STARTED,
    UNKNOWN,
    Start,
    StartState,
)
from flowmaestro_core.http.messages import Headers, Phase, Response
from flowmaestro_core.machine import LocalProtocolError
from flowmaestro_core.payloads.reply import NonJsonBody, error_from_response


def failure(outcome: Any, code: str = "code", message: str = "") -> FlowMaestroError:
    """An error of a start whose last attempt had this outcome."""
    error: FlowMaestroError
    if isinstance(outcome, Phase):
        error = ConnectionError("the network is down")
    else:
        body = f'{{"error": {{"code": "{code}", "message": "{message}"}}}}'.encode()
        error = error_from_response(Response(outcome, Headers(), body))
    error.attempts = (Attempt(1, outcome),)
    return error


def sent(*, may_run: bool = False) -> Start:
    """A start whose request is out; with `may_run`, after an earlier one that is unknown."""
    start = Start()
    if may_run:
        start.restore("starting", None, 0)
        start.give_up((), None)
        start.start_anyway()
    start.announce()
    start.send()
    return start


EVENTS: Dict[str, Callable[[Start], Any]] = {
    "open": lambda start: start.restore("open", None, 0),
    "starting": lambda start: start.restore("starting", None, 0),
    "started": lambda start: start.restore("started", "ex_1", 0),
    "ended": lambda start: start.restore("ended", "ex_1", 0),
    "announce": Start.announce,
    "withdraw": Start.withdraw,
    "refuse": lambda start: start.refuse(failure(Phase.NOT_SENT)),
    "send": Start.send,
    "hold_up": Start.hold_up,
    "accept": lambda start: start.accept("ex_1"),
    "fail": lambda start: start.fail(failure(422)),
    "doubt": lambda start: start.doubt(failure(500)),
    "find": lambda start: start.find("ex_1"),
    "miss": Start.miss,
    "give_up": lambda start: start.give_up((), None),
    "start_anyway": Start.start_anyway,
    "end": Start.end,
    "end without credits": lambda start: start.end(failure(402)),
    "rerun": Start.rerun,
}


def test_table_lists_what_the_events_do() -> None:
    taken: Set[Tuple[StartState, str, StartState]] = set()

    class Recorded(Start):
        __slots__ = ()

        def _go(self, event: str, to: StartState) -> None:
            before = self.state
            super()._go(event, to)
            taken.add((before, event, to))

    seen: Set[Any] = set()
    left: List[Start] = [Recorded()]
    while left:
        start = left.pop()
        known = (start.state, start.may_run, start.restarts)
        if known in seen or start.restarts > 4:
            continue
        seen.add(known)
        for happens in EVENTS.values():
            after = copy.copy(start)
            try:
                happens(after)
            except LocalProtocolError:  # The table does not list it.
                continue
            left.append(after)
    table = {
        (state, event, to)
        for state, events in Start.TRANSITIONS.items()
        for event, successors in events.items()
        for to in successors
    }
    assert taken == table


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Phase.NOT_SENT, REFUSED),
        (Phase.MAYBE_PROCESSED, IN_DOUBT),
        (Phase.REPLY_BROKEN, IN_DOUBT),
        *((status, REFUSED) for status in (301, 307, 308, 400, 401, 402, 403, 404, 405, 409, 422)),
        *((status, REFUSED) for status in (429,)),
        *((status, IN_DOUBT) for status in (200, 202, 302, 303, 408, 500, 502, 503, 504)),
    ],
)
def test_failure_that_may_have_started_an_execution_leaves_doubt(
    outcome: Any, state: StartState
) -> None:
    start = sent()
    error = failure(outcome)
    start.fail(error)
    assert (start.state, start.error) == (state, error)


def test_request_that_is_refused_while_an_earlier_one_may_run_leaves_the_start_unknown() -> None:
    for start in (sent(may_run=True), sent(may_run=True)):
        error = failure(422)
        start.fail(error)
        assert start.state is UNKNOWN
        assert isinstance(start.error, StartUnknownError)
        assert start.error.__cause__ is error
        assert start.stage == "starting"


BROKEN = failure(500, "22P05", "unsupported Unicode escape sequence")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (BROKEN, REFUSED),
        (failure(500, "57P01", "terminating connection"), IN_DOUBT),
        (failure(502, "22P05", "unsupported Unicode escape sequence"), IN_DOUBT),
    ],
)
def test_only_the_same_500_again_is_known_to_start_nothing(
    error: FlowMaestroError, state: StartState
) -> None:
    start = sent()
    start.fail(BROKEN)
    start.miss()
    start.announce()
    start.send()
    start.fail(error)
    assert start.state is state


def test_start_after_a_lack_of_credits_has_another_idempotency_key() -> None:
    """The server has processed the request with the first one."""
    start = sent()
    first = start.token("token")
    start.accept("ex_1")
    start.end(failure(402))
    assert start.state is REFUSED
    assert start.token("token") != first


def test_the_same_500_after_a_lookup_that_cannot_tell_leaves_doubt() -> None:
    start = sent()
    start.fail(BROKEN)
    start.give_up((), None)
    assert start.start_anyway()
    start.announce()
    start.send()
    start.fail(BROKEN)
    assert start.state is IN_DOUBT


def test_unknown_start_is_started_anyway_three_times() -> None:
    start = Start()
    start.restore("starting", None, 0)
    for expected in (True, True, True, False):
        start.give_up((), None)
        assert start.start_anyway() is expected
        if expected:
            start.announce()
            start.send()
            start.doubt(failure(Phase.MAYBE_PROCESSED))
    assert start.state is UNKNOWN


def test_store_that_holds_another_state_ends_the_doubt() -> None:
    start = sent(may_run=True)
    start.doubt(failure(500))
    start.restore("starting", None, 0)
    assert (start.may_run, start.error is None) == (True, False)
    start.restore("started", "ex_1", 0)
    assert (start.state, start.may_run, start.error) == (STARTED, False, None)


# Which errors are the server's own


def missed(error: FlowMaestroError) -> Start:
    """A start whose request failed with `error`, and of which a lookup found no execution."""
    start = sent()
    start.doubt(error)
    start.miss()
    return start


def test_an_error_with_another_text_or_request_id_is_told_apart_by_its_text() -> None:
    first = missed(ServerError("no\x00", "internal_error", 500, "req_1")).refusal
    assert first == missed(ServerError("no\x00", "internal_error", 500, "req_2")).refusal
    assert first != missed(ServerError("other", "internal_error", 500)).refusal
    assert len(first) == 32


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("no"),
        ServerError("away", "service_unavailable", 503),
        ServerError("no JSON", "invalid_response", 500),
        ServerError("a page", "internal_error", 500, details=NonJsonBody("<html>")),
        error_from_response(Response(500, Headers())),
    ],
    ids=["404", "503", "invalid response", "page of a gateway", "empty body of a gateway"],
)
def test_any_other_error_says_nothing_about_the_inputs(error: FlowMaestroError) -> None:
    start = missed(error)
    assert start.refusal == ""
    start.announce()
    start.send()
    start.doubt(error)


def test_start_restored_as_in_doubt_is_missed_without_an_error() -> None:
    start = Start()
    start.restore("starting", None, 0)
    start.miss()
    assert start.refusal == ""


def test_a_server_error_of_other_inputs_leaves_doubt() -> None:
    start = missed(BROKEN)
    start.digest = "of other inputs"
    start.announce()
    start.send()
    start.fail(BROKEN)
    assert start.state is IN_DOUBT


def test_a_server_error_of_inputs_that_were_started_once_leaves_doubt() -> None:
    start = missed(BROKEN)
    start.announce()
    start.send()
    start.accept("ex_1")
    start.end()
    start.rerun()
    start.announce()
    start.send()
    start.fail(BROKEN)
    assert start.state is IN_DOUBT

"""Calls whose reply was lost and whose repeat was refused."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import AuthenticationError, NotFoundError, ValidationError
from flowmaestro_core.http.messages import Phase
from tests.harness.core.calls import CANCEL, DELETE, refused_after, started
from tests.harness.core.stepping import an_envelope


@pytest.mark.parametrize("lost", [None, 500, 502, 408])
def test_a_cancellation_whose_reply_was_lost_is_proved_by_the_execution(lost: Any) -> None:
    call = refused_after(CANCEL, 400, lost)
    assert call.sent[-1].url.endswith("/executions/ex_1")
    call.replies(200, an_envelope({"id": "ex_1", "status": "cancelled"}))
    assert call.value["data"]["status"] == "cancelled"
    assert call.value.attempts == 3


def test_an_execution_that_had_ended_was_not_cancelled() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(200, an_envelope({"status": "completed"}))
    assert isinstance(call.error, ValidationError)
    assert [attempt.outcome for attempt in call.error.attempts] == [Phase.MAYBE_PROCESSED, 400]


def test_the_question_survives_an_outage_and_its_failure_leaves_the_refusal() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(302, headers={"Location": "/x"})
    call.fails()
    call.waits()
    call.replies(200, an_envelope({"status": "cancelled"}))
    assert call.value["data"]["status"] == "cancelled"
    call = refused_after(CANCEL, 400)
    call.replies(404)
    assert isinstance(call.error, ValidationError)
    call = refused_after(CANCEL, 400)
    for _ in range(3):
        call.fails()
        call.waits()
    call.fails()
    assert isinstance(call.error, ValidationError)


def test_a_question_answered_with_nonsense_leaves_the_refusal() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(200, an_envelope(None))
    assert isinstance(call.error, ValidationError)


@pytest.mark.parametrize("lost", [None, 500])
def test_a_deletion_whose_reply_was_lost_is_proved_by_the_404(lost: Any) -> None:
    call = refused_after(DELETE, 404, lost)
    assert call.value["data"] == {"id": "th_1", "deleted": True}
    assert call.value.attempts == 2
    assert call.value.rate_limit.remaining == 3


@pytest.mark.parametrize(("call", "refusal"), [(CANCEL, 400), (DELETE, 404)])
def test_a_refusal_of_what_cannot_have_happened_proves_nothing(
    call: Call[Any], refusal: int
) -> None:
    first = started(call)
    first.replies(refusal)
    assert first.error.status_code == refusal
    second = started(call)
    second.fails(Phase.NOT_SENT)
    second.waits()
    second.replies(refusal)
    assert second.error.status_code == refusal
    for is_rejected_unprocessed in (429, 503):
        third = started(call)
        third.replies(is_rejected_unprocessed, headers={"Retry-After": "1"})
        third.waits()
        third.replies(refusal)
        assert third.error.status_code == refusal


def test_a_proxys_page_proves_no_deletion() -> None:
    call = started(DELETE)
    call.fails(Phase.MAYBE_PROCESSED)
    call.waits()
    call.replies(404, raw=b"<html><h1>default backend</h1></html>")
    assert isinstance(call.error, NotFoundError)


def test_another_refusal_proves_nothing() -> None:
    call = refused_after(DELETE, 401)
    assert isinstance(call.error, AuthenticationError)

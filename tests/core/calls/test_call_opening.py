"""Asking for an event stream, and what else may come."""

from __future__ import annotations

import pytest

from flowmaestro_core.actions import Close, Done, Open, Read, Wait
from flowmaestro_core.defaults import MAX_REPLY_SIZE
from flowmaestro_core.errors import (
    AuthenticationError,
    ConnectionError,
    NotFoundError,
    TimeoutError,
)
from flowmaestro_core.http.messages import Phase, ResponseHead
from tests.harness.core.calls import EXECUTE, GET, NOT_RETRIED, calling, opening


def test_a_stream_is_asked_for_uncompressed_and_its_body_stays_open() -> None:
    call = calling(GET, stream=True, headers=(("Last-Event-ID", "7"),))
    action = call.start()
    assert isinstance(action, Open)
    sent = action.request.headers
    assert sent["accept"] == "text/event-stream"
    assert (sent["accept-encoding"], sent["cache-control"]) == ("identity", "no-store")
    assert sent["last-event-id"] == "7"
    call.opens(headers={"X-Request-ID": "req_9"})
    assert isinstance(call.value, ResponseHead)
    assert call.value.headers["x-request-id"] == "req_9"
    assert call.body_open


@pytest.mark.parametrize("kind", ["TEXT/Event-Stream", "text/event-stream; charset=latin-1"])
def test_a_media_type_has_parameters_and_no_case(kind: str) -> None:
    call = opening()
    assert isinstance(call.opens(content_type=kind), Done)


def test_another_reply_is_read_whole_and_judged() -> None:
    call = opening()
    assert call.opens(404, "application/json", after=5.0) == Read(25.0)
    assert call.receives(b'{"error": {"code": "resource_not', after=10.0) == Read(15.0)
    call.receives(b'_found"}}')
    call.ends()
    assert isinstance(call.error, NotFoundError)
    assert call.error.code == "resource_not_found"


def test_json_is_a_result_too() -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.receives(b'{"data": {"status": "pending"}}')
    call.ends()
    assert call.value["data"] == {"status": "pending"}


@pytest.mark.parametrize("status", [503, 429])
def test_an_error_reply_is_tried_again_from_a_fresh_start(status: int) -> None:
    call = opening()
    call.opens(status, "text/html")
    call.receives(b"<html>")
    assert isinstance(call.ends(), Wait)
    assert isinstance(call.waits(), Open)
    call.opens(200, "application/json")
    call.receives(b'{"data": {}}')
    call.ends()
    assert call.value["data"] == {}


def test_an_error_reply_that_does_not_end_is_closed_and_judged_by_its_status() -> None:
    call = opening()
    call.opens(401, "text/html")
    call.receives(b"<html>", after=29.0)
    assert call.stays_quiet() == Close()
    call.closes()
    assert isinstance(call.error, AuthenticationError)


def test_an_error_reply_that_breaks_off_is_judged_by_its_status() -> None:
    call = opening()
    call.opens(401, "text/html")
    call.fails(Phase.REPLY_BROKEN)
    assert isinstance(call.error, AuthenticationError)


def test_a_redirect_that_does_not_end_is_followed() -> None:
    call = opening()
    call.opens(302, "text/html", {"Location": "/x"})
    call.stays_quiet()
    assert isinstance(call.closes(), Open)


def test_a_reply_that_dribbles_is_closed_in_time() -> None:
    call = opening()
    call.opens(200, "application/json")
    for _ in range(29):
        assert isinstance(call.receives(b" ", after=1.0), Read)
    assert call.receives(b" ", after=1.0) == Close()
    assert isinstance(call.closes(), Wait)


@pytest.mark.parametrize("phase", list(Phase))
def test_once_a_reply_has_begun_the_request_was_sent_whatever_a_transport_says(
    phase: Phase,
) -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.fails(phase)
    assert call.error.attempts[0].outcome is Phase.REPLY_BROKEN
    assert len(call.sent) == 1


def test_a_reply_that_breaks_off_is_lost() -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.fails(Phase.REPLY_BROKEN)
    assert isinstance(call.error, ConnectionError)
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.stays_quiet()
    call.closes()
    assert isinstance(call.error, TimeoutError)
    assert call.error.gave_up == NOT_RETRIED


def test_a_long_text_instead_of_events_is_not_read_to_its_end() -> None:
    long = b"x" * (MAX_REPLY_SIZE + 1)
    call = opening()
    call.opens(200, "text/html")
    assert call.receives(long) == Close()
    call.closes()
    assert call.error.code == "reply_too_large"
    call = opening()
    call.opens(500, "text/html")
    call.receives(long)
    assert isinstance(call.closes(), Wait)

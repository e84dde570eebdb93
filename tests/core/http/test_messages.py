from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core import http
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)

NAMES = st.text("abcXYZ-", min_size=1, max_size=4)
PAIRS = st.lists(st.tuples(NAMES, st.text("12 ", max_size=3)), max_size=8)


@pytest.mark.parametrize(
    "kind",
    [Headers, Phase, Request, Response, ResponseHead, TransportClosedError, TransportFailure],
)
def test_messages_are_names_of_the_package(kind: Any) -> None:
    assert getattr(http, kind.__name__) is kind
    assert kind.__name__ in http.__all__


def test_headers_are_looked_up_without_regard_to_case() -> None:
    headers = Headers({"Content-Type": "text/html", "X-A": "1"})
    assert headers["content-type"] == headers["CONTENT-TYPE"] == "text/html"
    assert "x-a" in headers
    assert "X-B" not in headers
    assert 5 not in headers
    assert headers.get("CONTENT-type") == "text/html"
    assert headers.get("x-b") is None
    assert headers.get("x-b", "none") == "none"
    with pytest.raises(KeyError):
        headers["x-b"]


def test_a_repeated_field_reads_as_one_list_or_apart() -> None:
    headers = Headers([("Via", "a"), ("X", "1"), ("via", "b")])
    assert headers["Via"] == "a, b"
    assert headers.get_list("VIA") == ["a", "b"]
    assert headers.get_list("nope") == []
    assert list(headers) == ["via", "x"]
    assert len(headers) == 2
    assert headers.pairs == (("Via", "a"), ("X", "1"), ("via", "b"))


@given(pairs=PAIRS)
def test_headers_keep_every_pair_in_order(pairs: List[Tuple[str, str]]) -> None:
    headers = Headers(pairs)
    assert list(headers.pairs) == pairs
    assert headers == Headers(iter(pairs))
    assert Headers(headers).pairs == headers.pairs
    assert pickle.loads(pickle.dumps(headers)).pairs == headers.pairs
    assert copy.deepcopy(headers) == headers
    for name, _ in pairs:
        assert headers[name.swapcase()] == ", ".join(headers.get_list(name))
    assert sorted(headers) == sorted({name.lower() for name, _ in pairs})


def test_no_repr_shows_a_secret() -> None:
    headers = Headers({"X-API-Key": "hush", "Accept": "text/html"})
    request = Request("POST", "https://api.example/x", headers, b"hush")
    for value in (headers, request, ResponseHead(200, headers), Response(200, headers, b"hush")):
        assert "hush" not in repr(value)
        assert "hush" not in str(value)
    assert repr(headers) == "Headers([('X-API-Key', '***'), ('Accept', 'text/html')])"


def test_messages_say_what_they_are() -> None:
    request = Request("POST", "https://api.example/x", Headers(), b"body")
    assert repr(request) == "<Request POST https://api.example/x, 4 bytes>"
    assert repr(Response(404, Headers(), b"body")) == "<Response 404, 4 bytes>"


def test_equal_messages_compare_equal() -> None:
    request = Request("GET", "https://api.example/", Headers({"A": "1"}))
    assert request == Request("GET", "https://api.example/", Headers({"a": "1"}))
    assert request != Request("GET", "https://api.example/", Headers({"a": "2"}))
    assert replace(request, method="PUT").headers is request.headers


@pytest.mark.parametrize("given", [Headers({"A": "1"}), {"A": "1"}, [("A", "1")]])
def test_headers_are_given_in_several_ways_and_read_in_one(given: Any) -> None:
    for message in (
        Request("GET", "https://api.example/", given),
        ResponseHead(200, given),
        Response(HTTPStatus.OK, given),
    ):
        assert isinstance(message.headers, Headers)
        assert message.headers["a"] == "1"


@pytest.mark.parametrize("wrong", [None, 3, "A: 1", b"AB", {"A": 1}, [("A",)], ["ABC"], {1: "A"}])
def test_headers_of_another_type(wrong: Any) -> None:
    for make in (
        partial(ResponseHead, 200),
        partial(Response, 200),
        partial(Request, "GET", "https://api.example/"),
    ):
        with pytest.raises(TypeError, match="headers must be Headers, a mapping"):
            make(wrong)


@pytest.mark.parametrize("wrong", ["200", None, True, 200.0])
def test_a_status_of_another_type(wrong: Any) -> None:
    for make in (ResponseHead, Response):
        with pytest.raises(TypeError, match="status must be an int, not"):
            make(wrong, {})


@pytest.mark.parametrize("wrong", ["text", None, bytearray(b"x")])
def test_a_body_of_another_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match="body must be bytes, not"):
        Response(200, {}, wrong)
    with pytest.raises(TypeError, match="body must be bytes, not"):
        Request("POST", "https://api.example/", {}, wrong)


def test_a_body_of_a_subclass_of_bytes_is_kept() -> None:
    class Body(bytes):
        pass

    body = Body(b"text")
    assert Request("POST", "http://a/", {}, body).body is body
    assert Response(200, {}, body).body is body


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_messages_survive_every_pickle(protocol: int) -> None:
    response = Response(200, [("Set-Cookie", "a"), ("Set-Cookie", "b")], b"body")
    twin = pickle.loads(pickle.dumps(response, protocol))
    assert twin == response
    assert twin.headers.pairs == response.headers.pairs


@pytest.mark.parametrize("given", [("refused", Phase.NOT_SENT), (Phase.NOT_SENT, OSError("no"))])
def test_transport_failure_says_what_it_takes(given: Any) -> None:
    with pytest.raises(TypeError, match="takes a Phase, then a message as text"):
        TransportFailure(*given)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("timed_out", "permanent"), [(True, False), (False, True)])
def test_a_failure_says_how_far_it_came_and_survives_a_pickle(
    phase: Phase, timed_out: bool, permanent: bool
) -> None:
    failure = TransportFailure(phase, "broken pipe", timed_out=timed_out, permanent=permanent)
    assert str(failure) == "broken pipe"
    assert phase.value in repr(failure)
    assert ("timed out" in repr(failure)) is timed_out
    assert ("permanent" in repr(failure)) is permanent
    for twin in (pickle.loads(pickle.dumps(failure)), copy.copy(failure)):
        assert (twin.phase, twin.message) == (phase, "broken pipe")
        assert (twin.timed_out, twin.permanent) == (timed_out, permanent)


def test_a_closed_transport_says_so() -> None:
    assert str(TransportClosedError()) == "this transport is closed"
    for twin in (
        pickle.loads(pickle.dumps(TransportClosedError())),
        copy.copy(TransportClosedError()),
    ):
        assert str(twin) == "this transport is closed"


@pytest.mark.parametrize(
    "message", [Request("GET", "https://h", {}), Response(200, {}), ResponseHead(200, {})]
)
def test_messages_that_hooks_and_transports_get_are_immutable(message: Any) -> None:
    with pytest.raises(AttributeError):
        message.headers = Headers()

"""The bytes of a request, beside what h11 would write."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.http.messages import Headers, Request, TransportFailure
from flowmaestro_transports.http11.exchange import Exchange, RequestWriter

HOST = Headers({"Host": "api.test"})
KEY = "fm_live_secret"


def test_the_request_is_written_as_given() -> None:
    writer = RequestWriter(HOST)
    headers = Headers([("X-One", "1"), ("A", "3"), ("x-One", "2")])
    for _ in range(2):
        exchange = Exchange(
            writer, Request("PUT", "http://api.test/", headers, b"body"), "/a?b=%20"
        )
        assert bytes(exchange.unsent) == (
            b"PUT /a?b=%20 HTTP/1.1\r\nHost: api.test\r\nX-One: 1\r\nA: 3\r\nx-One: 2\r\n"
            b"Content-Length: 4\r\n\r\nbody"
        )


def test_host_and_length_of_caller_are_kept() -> None:
    fields = {"host": "other.test", "content-length": "4"}
    request = Request("POST", "http://api.test/", fields, b"body")
    exchange = Exchange(RequestWriter(HOST), request, "/")
    assert bytes(exchange.unsent) == (
        b"POST / HTTP/1.1\r\nhost: other.test\r\ncontent-length: 4\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GE T", "/", {}),
        ("G\xc9T", "/", {}),
        ("GET", "/a b", {}),
        ("GET", "/\xe9", {}),
        ("GET", "", {}),
        ("GET", "/", {"X-API-Key": f"{KEY}\r\nX: y"}),
        ("GET", "/", {"X-API-Key": f"{KEY}\u2028"}),
        ("GET", "/", {"X Y": KEY}),
        ("GET", "/", {"X: Y": KEY}),
        ("GET", "/", {"X-API-\u212aey": KEY}),
        ("GET", "/", {"X-API-Key": f" {KEY}"}),
        ("GET", "/", {"X-API-Key": f"{KEY}\t"}),
        ("GET", "/", {"X-API-Key": KEY, "Transfer-Encoding": "chunked"}),
        ("GET", "/", {"X-API-Key": KEY, "Content-Length": "5"}),
        ("GET", "/", Headers([("Host", "a"), ("Host", "b"), ("X-API-Key", KEY)])),
    ],
)
def test_invalid_request_is_refused_without_showing_it(
    method: str, target: str, fields: Any
) -> None:
    with pytest.raises(TransportFailure) as caught:
        Exchange(RequestWriter(HOST), Request(method, "http://api.test/", fields), target)
    error: Optional[BaseException] = caught.value
    assert error is not None
    assert error.__cause__ is error.__context__ is None
    assert KEY not in str(error)
    traceback = error.__traceback__
    while traceback is not None:
        if "flowmaestro_transports" in traceback.tb_frame.f_code.co_filename:
            assert KEY not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


ODD = st.text("aZ-0 :,\t\r\n\x01\x7f\xe9\u212a\u2028", max_size=4)
NAME = st.sampled_from(["Host", "host", "content-length", "Transfer-Encoding", "X-A", "X-B"])
CONTENT = st.sampled_from(["4", "0", "chunked", "close", "a b"])


def is_stricter_here(name: str, value: str, length: int) -> bool:
    """Whether a field is refused that h11 writes."""
    if name.lower() == "transfer-encoding" or not value.replace("\t", "").isprintable():
        return True
    return name.lower() == "content-length" and value != str(length)


@given(
    st.one_of(st.sampled_from(["GET", "POST"]), ODD),
    st.lists(st.tuples(st.one_of(NAME, ODD), st.one_of(CONTENT, ODD)), max_size=3),
    st.sampled_from([b"", b"body"]),
)
def test_written_request_equals_h11_output(
    method: str, fields: List[Tuple[str, str]], body: bytes
) -> None:
    request = Request(method, "http://api.test/", Headers(fields), body)
    names = [name.lower() for name, _ in fields]
    host = [] if "host" in names else [("Host", "api.test")]
    counted = "content-length" not in names and (body or method == "POST")
    length = [("Content-Length", str(len(body)))] if counted else []
    try:
        by_h11 = h11.Connection(h11.CLIENT).send(
            h11.Request(method=method, target="/", headers=[*host, *fields, *length])
        )
    except (h11.LocalProtocolError, UnicodeError):
        by_h11 = None
    try:
        written = bytes(Exchange(RequestWriter(HOST), request, "/").unsent)
    except TransportFailure:
        assert by_h11 is None or any(is_stricter_here(*field, len(body)) for field in fields)
        return
    assert by_h11 is not None
    assert sorted(written.split(b"\r\n")) == sorted((by_h11 + body).split(b"\r\n"))

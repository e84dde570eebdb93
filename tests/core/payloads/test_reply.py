from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any, Dict, Optional, Type

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from flowmaestro_core import errors
from flowmaestro_core.calls.call import Call
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.payloads.reply import (
    MAX_JSON_DEPTH,
    RateLimit,
    Reply,
    decode_json,
    error_from_response,
    is_daily_quota_error,
    request_id_of,
    retry_after,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EPOCH = 784111777

KEYS = st.sampled_from(
    [*("error", "code", "message", "details", "meta", "request_id", "statusCode", "success"), "x"]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "Date", "X-Request-ID", "X-RateLimit-Reset"]),
    st.one_of(st.text(max_size=8), st.integers().map(str), st.floats().map(str), st.just(DATE)),
    max_size=3,
).map(Headers)


def response(status: int, body: Any, headers: Optional[Dict[str, str]] = None) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, Headers(headers or {}), raw)


# Replies


def a_reply() -> Reply[Any]:
    reply: Reply[Any] = Reply({"data": {"id": "wf_1"}, "meta": {"request_id": "req_1"}})
    reply.status_code = 202
    reply.headers = Headers({"X-RateLimit-Remaining": "5"})
    reply.attempts = 2
    return reply


def test_reply_has_status_attempts_and_request_id() -> None:
    reply = a_reply()
    assert (reply.status_code, reply.attempts, reply.request_id) == (202, 2, "req_1")
    assert repr(reply) == repr({"data": {"id": "wf_1"}, "meta": {"request_id": "req_1"}})
    assert reply.rate_limit == RateLimit(remaining=5)
    bare: Reply[Any] = Reply()
    assert (bare.status_code, bare.attempts, bare.request_id) == (0, 0, None)
    assert bare.rate_limit == RateLimit()


def test_a_reply_survives_a_pickle_and_a_copy_with_its_attributes() -> None:
    reply = a_reply()
    for twin in (pickle.loads(pickle.dumps(reply)), copy.copy(reply), copy.deepcopy(reply)):
        assert twin == reply
        assert type(twin) is Reply
        assert vars(twin) == vars(reply)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"meta": {"request_id": "req_1"}}, {"x-request-id": "other"}, "req_1"),
        ({"meta": {"request_id": ""}}, {"X-Request-ID": "other"}, "other"),
        ({"meta": {"request_id": 5}}, {"X-Request-ID": "other"}, "other"),
        ({"meta": None}, {"X-Request-ID": "other"}, "other"),
        ([], {"X-Request-ID": "other"}, "other"),
        (None, {}, None),
    ],
)
def test_the_request_id_to_quote(body: Any, headers: Dict[str, str], expected: str) -> None:
    assert request_id_of(body, Headers(headers)) == expected


# Rate limits


def test_rate_limit_headers() -> None:
    headers = Headers(
        {
            "Date": DATE,
            "X-RateLimit-Limit": "60",
            "X-RateLimit-Remaining": "59",
            "X-RateLimit-Reset": str(EPOCH + 42),
            "X-RateLimit-Limit-Day": "1000",
            "X-RateLimit-Remaining-Day": "999",
        }
    )
    assert RateLimit.from_headers(headers) == RateLimit(60, 59, 42.0, 1000, 999)


def test_a_window_that_has_ended_is_reset_now() -> None:
    headers = Headers({"Date": DATE, "X-RateLimit-Reset": str(EPOCH - 5)})
    assert RateLimit.from_headers(headers).reset_after == 0.0
    assert RateLimit.from_headers(Headers({"X-RateLimit-Reset": "5"})).reset_after is None


@pytest.mark.parametrize(
    "value", ["", "-1", "+1", "1.5", " 5", "5, 5", "many", "٣", "²", "1" * 19, "nan", "1_0"]
)
def test_a_rate_limit_that_is_no_number_counts_as_absent(value: str) -> None:
    headers = Headers({"X-RateLimit-Remaining": value, "X-RateLimit-Reset": value, "Date": DATE})
    assert RateLimit.from_headers(headers) == RateLimit()


# How long to wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.25"}, 1.25),
        ({"Retry-After": "86400"}, 86400.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "9"}, 9.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": DATE}, 10.0),
        ({"Retry-After": "Sunday, 06-Nov-94 08:49:47 GMT", "Date": DATE}, 10.0),
        ({"Retry-After": "Sun Nov  6 08:49:47 1994", "Date": DATE}, 10.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": DATE}, None),
        ({"Retry-After": DATE, "Date": "garbage"}, None),
        ({}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "-inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "5 s"}, None),
        ({"Retry-After": "1_0"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "+5"}, None),
        ({"Retry-After": "5."}, None),
        ({"Retry-After": ".5"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Retry-After": "9" * 400}, None),
    ],
)
def test_retry_after_reads_every_form(headers: Dict[str, str], seconds: Optional[float]) -> None:
    assert retry_after(Headers(headers)) == seconds


@given(headers=HEADERS)
def test_a_wait_is_finite_and_never_negative(headers: Headers) -> None:
    seconds = retry_after(headers)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    reset = RateLimit.from_headers(headers).reset_after
    assert reset is None or (math.isfinite(reset) and reset >= 0)


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ValidationError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientCreditsError),
        (403, errors.AuthorizationError),
        (404, errors.NotFoundError),
        (405, errors.FlowMaestroError),
        (408, errors.TimeoutError),
        (409, errors.ConflictError),
        (413, errors.FlowMaestroError),
        (415, errors.FlowMaestroError),
        (418, errors.FlowMaestroError),
        (422, errors.ValidationError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (501, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.ServerError),
        (504, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_a_status_means_a_class(status: int, kind: Type[errors.FlowMaestroError]) -> None:
    body = {
        "error": {"code": "some_code", "message": "Words", "details": {"field": "name"}},
        "meta": {"request_id": "req_1"},
    }
    error = error_from_response(response(status, body, {"X-Request-ID": "other"}))
    assert type(error) is kind
    assert (error.code, error.message, error.status_code) == ("some_code", "Words", status)
    assert (error.request_id, error.details) == ("req_1", {"field": "name"})
    nothing = error_from_response(response(status, b"", {"X-Request-ID": "other"}))
    assert type(nothing) is kind
    assert str(status) in nothing.message
    assert (nothing.status_code, nothing.request_id, nothing.details) == (status, "other", None)
    assert nothing.code


@pytest.mark.parametrize(
    ("body", "code", "message", "details"),
    [
        (
            {"success": False, "error": "Insufficient credits", "details": {"needed": 5}},
            "",
            "Insufficient credits",
            {"needed": 5},
        ),
        (
            {"statusCode": 404, "error": "Not Found", "message": "Route GET:/x not found"},
            "",
            "Route GET:/x not found",
            None,
        ),
        (
            {"statusCode": 500, "code": "FST_ERR", "error": "Internal", "message": "Bad JSON"},
            "FST_ERR",
            "Bad JSON",
            None,
        ),
        ({"error": {"code": "c", "message": "m"}, "details": [1]}, "c", "m", [1]),
        ({"error": {"message": "m", "details": None}, "details": [1]}, "", "m", None),
        ({"error": {"code": 5, "message": ["m"]}, "message": "outer"}, "", "outer", None),
    ],
)
def test_errors_come_in_several_shapes(body: Any, code: str, message: str, details: Any) -> None:
    error = error_from_response(response(418, body))
    assert error.message == message
    assert error.code == (code or "unknown_error")
    assert error.details == details


PAGE = b"""<!DOCTYPE html>
<html><head><title>502 Bad\tGateway</title></head>
<body><h1>Sorry</h1></body></html>"""


@pytest.mark.parametrize(
    ("body", "said", "details"),
    [
        (b"", "no readable error", None),
        (b" \r\n\x1b ", "no readable error", " \r\n\x1b "),
        (PAGE, "502 Bad Gateway", PAGE.decode()),
        (b"<b></b>", "no readable error", "<b></b>"),
        (b"upstream is down\nand out", "upstream is down", "upstream is down\nand out"),
        (b"\x1b[31mred", "[31mred", "\x1b[31mred"),
        (b"if 1 < 2 and 3 > 2", "if 1 < 2 and 3 > 2", "if 1 < 2 and 3 > 2"),
        (b"\xff\xfe", "\ufffd\ufffd", "\ufffd\ufffd"),
        ("\ufeffé".encode(), "é", "é"),
        (b"null", "null", "null"),
        (b"[]", "[]", []),
        (b'"text"', '"text"', "text"),
        (b'{"detail": "No"}', '{"detail": "No"}', {"detail": "No"}),
        (b'{"error": {"details": [1]}}', '{"error": {"details": [1]}}', [1]),
        (b"{", "{", "{"),
        (b"[" * 100_000, "[" * 120, "[" * 500),
        (b'{"error":' * 100_000, ('{"error":' * 60)[:120], ('{"error":' * 60)[:500]),
        ("é".encode() * 9999, "é" * 120, "é" * 500),
    ],
)
def test_unknown_error_body_is_quoted_and_kept(body: bytes, said: str, details: Any) -> None:
    error = error_from_response(response(502, body))
    assert type(error) is errors.ServerError
    assert error.message == f"The server answered with status 502: {said}"
    assert error.details == details


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(
    "body",
    [
        {
            "statusCode": 500,
            "code": "22P02",
            "error": "Internal Server Error",
            "message": 'invalid input syntax for type uuid: "wf_invalid"',
        },
        {
            "error": {
                "code": "execution_failed",
                "message": 'Invalid input syntax for type UUID: "wf_invalid"',
            }
        },
    ],
)
def test_an_id_that_is_no_uuid_is_not_found(status: int, body: Any) -> None:
    error = error_from_response(response(status, body))
    assert type(error) is errors.NotFoundError
    assert error.status_code == status
    assert error.message.startswith("An id has the wrong form; it must be a UUID.")
    assert "wf_invalid" in error.message


def test_error_shows_no_key_that_the_server_quotes() -> None:
    said = {"code": "bad", "message": "no fm_live_other", "details": {"key": "fm_live_other"}}
    error = error_from_response(Response(400, Headers(), json.dumps({"error": said}).encode()))
    assert "fm_live_other" not in f"{error} {error.details} {error.body}"


def test_error_has_redacted_headers_and_body() -> None:
    sent = SecretScrubber((("X-API-Key", "fm_live_0123456789"), ("X-Session", "hunter2hunter2")))
    said = b"\xef\xbb\xbfno fm_live_0123456789 hunter2hunter2 whsec_abc " + b"x" * 9000
    headers = Headers(
        (
            ("Set-Cookie", "a=1"),
            ("SET-COOKIE", "b=2"),
            ("X-Echo", "it was hunter2hunter2"),
            ("X-Auth-Token", "t0ken"),
            ("Server", "nginx"),
        )
    )
    error = error_from_response(Response(502, headers, said), sent)
    assert error.headers.pairs == (
        ("X-Echo", "it was ***"),
        ("X-Auth-Token", "***"),
        ("Server", "nginx"),
    )
    assert error.headers["server"] == "nginx"
    assert error.body is not None
    assert error.body.startswith("no *** *** *** xxx")
    assert len(error.body) == 4000
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (copied.headers.pairs, copied.body) == (error.headers.pairs, error.body)


def test_error_without_a_response_has_no_headers_and_no_body() -> None:
    error = errors.ConnectionError("no")
    assert (dict(error.headers), error.body) == ({}, None)


def test_a_429_says_when_to_come_back() -> None:
    minute = {"limit": 60, "window": "minute", "retry_after": 12}
    body = {"error": {"code": "rate_limit_exceeded", "message": "Slow", "details": minute}}
    error = error_from_response(response(429, body, {"Retry-After": "7"}))
    assert isinstance(error, errors.RateLimitError)
    assert (error.retry_after, error.details) == (7.0, minute)
    assert not is_daily_quota_error(error)
    for headers, body_wait, expected in [
        ({}, 12, 12.0),
        ({}, "1.5", 1.5),
        ({"Retry-After": "garbage"}, 12, 12.0),
        ({}, -1, None),
        ({}, True, None),
        ({}, [5], None),
        ({}, 10**400, None),
        ({}, None, None),
    ]:
        details = {"retry_after": body_wait}
        error = error_from_response(response(429, {"error": {"details": details}}, headers))
        assert isinstance(error, errors.RateLimitError)
        assert error.retry_after == expected


def test_a_used_up_daily_quota_is_recognised() -> None:
    day = {"error": {"details": {"limit": 1000, "window": "day", "retry_after": 86400}}}
    assert is_daily_quota_error(error_from_response(response(429, day)))
    assert not is_daily_quota_error(error_from_response(response(503, day)))
    assert not is_daily_quota_error(error_from_response(response(429, {"error": "x"})))
    assert not is_daily_quota_error(ValueError("day"))


@given(status=st.integers(400, 599), body=JSON, headers=HEADERS)
def test_any_json_becomes_an_error_of_ours(status: int, body: Any, headers: Headers) -> None:
    error = error_from_response(Response(status, headers, json.dumps(body).encode()))
    assert isinstance(error, errors.FlowMaestroError)
    assert isinstance(error.message, str)
    assert error.message
    assert isinstance(error.code, str)
    assert error.code
    assert error.status_code == status
    assert error.request_id is None or isinstance(error.request_id, str)
    assert str(error)


@given(status=st.integers(400, 599), body=st.binary(), headers=HEADERS)
def test_any_bytes_become_an_error_of_ours(status: int, body: bytes, headers: Headers) -> None:
    assert isinstance(error_from_response(Response(status, headers, body)), errors.FlowMaestroError)


# JSON


@given(value=JSON)
def test_json_is_utf8_in_bytes_or_text(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:  # NaN or an infinity: `test_json_has_no_constants_beside_numbers`.
        reject()
    assert repr(decode_json(text.encode("utf-8", "surrogatepass"))) == repr(json.loads(text))
    assert repr(decode_json(text)) == repr(json.loads(text))


def test_a_byte_order_mark_before_the_json_is_ignored() -> None:
    assert decode_json(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(ValueError, match=r"."):
        decode_json(b"\xef\xbb\xbf\xef\xbb\xbf[1]")


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"\xff", "é".encode("latin-1"), b"{]", b"{} {}", b"[" * 100_000, "[" * 99_999],
)
def test_invalid_json_raises_value_error(body: Any) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        decode_json(body)
    assert not isinstance(refusal.value, RecursionError)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_json_has_no_constants_beside_numbers(constant: str) -> None:
    with pytest.raises(ValueError, match=f"^JSON has no {constant}$"):
        decode_json(b'{"data": {"score": %s}}' % constant.encode())
    assert decode_json(f'"{constant}"') == constant


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", "]"), ('{"a":', "}"), ('{"b":{},"a":[0,', "]}"), ('["[[{",', "]")],
)
def test_json_has_a_greatest_depth(opening: str, closing: str) -> None:
    levels = MAX_JSON_DEPTH // len(closing)
    decode_json(opening * levels + "1" + closing * levels)
    with pytest.raises(ValueError, match=r"nested too deep"):
        decode_json(opening * (levels + 1) + "1" + closing * (levels + 1))


def test_many_brackets_are_not_deep() -> None:
    many: Any = [{"a": []} for _ in range(MAX_JSON_DEPTH)]
    assert decode_json(json.dumps(many)) == many
    assert decode_json(json.dumps("[" * 2000)) == "[" * 2000


# Successful replies


@given(body=st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_a_success_is_read_or_refused_and_nothing_else(body: bytes) -> None:
    for enveloped in (True, False):
        call: Call[Reply[Any]] = Call("GET", "/x", enveloped=enveloped)
        try:
            reply = call.reply(Response(200, Headers({"X-Request-ID": "req_1"}), body), 2)
        except errors.ServerError as error:
            assert error.code == "invalid_response"  # noqa: PT017
            assert error.status_code == 200  # noqa: PT017
            assert error.request_id == "req_1"  # noqa: PT017
        else:
            assert (reply.status_code, reply.attempts) == (200, 2)
            assert "data" in reply or not enveloped

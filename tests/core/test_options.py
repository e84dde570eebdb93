from __future__ import annotations

import pickle
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core import __version__
from flowmaestro_core.arguments import check_seconds
from flowmaestro_core.http.messages import Headers
from flowmaestro_core.options import USER_AGENT, ClientOptions
from flowmaestro_core.timeouts import Timeout

KEY = "fm_live_0123456789"


def options(**changes: Any) -> ClientOptions:
    return ClientOptions(KEY, **changes)


def test_the_defaults_are_the_contracts() -> None:
    chosen = options()
    assert chosen.base_url == "https://api.flowmaestro.io"
    assert chosen.api_root == "https://api.flowmaestro.io/api/v1"
    assert (chosen.timeout, chosen.max_retries, dict(chosen.headers)) == (30.0, 3, {})
    assert (chosen.call_timeout, chosen.timeout_override) == (None, None)


def test_the_key_goes_out_in_both_forms_and_is_never_shown() -> None:
    chosen = options(headers={"X-Secret-Thing": "hush"})
    headers = chosen.request_headers(("Accept", "text/html"))
    assert headers["X-API-Key"] == KEY
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["User-Agent"] == USER_AGENT == f"flowmaestro-python/{__version__}"
    assert headers["Accept"] == "text/html"
    for shown in (repr(chosen), str(chosen), repr(headers)):
        assert KEY not in shown
        assert "hush" not in shown


def test_a_custom_header_replaces_ours() -> None:
    chosen = options(headers={"x-api-key": "other", "X-Custom-Header": "value", "accept": "a/b"})
    headers = chosen.request_headers(("Accept", "text/html"))
    assert headers.get_list("X-API-Key") == ["other"]
    assert headers.get_list("Accept") == ["a/b"]
    assert headers["X-Custom-Header"] == "value"


def test_header_of_one_call_replaces_custom_header() -> None:
    chosen = options(headers={"idempotency-key": "of all", "X-Custom-Header": "value"})
    headers = chosen.request_headers(("Idempotency-Key", "ours"))
    assert headers.get_list("Idempotency-Key") == ["of all"]
    headers = chosen.request_headers(call=(("Idempotency-Key", "of one"),))
    assert headers.get_list("Idempotency-Key") == ["of one"]
    assert headers["X-Custom-Header"] == "value"


def test_equal_options_compare_equal() -> None:
    assert options(timeout=5) == options(timeout=5)
    assert options(timeout=5) != options(timeout=6)
    assert pickle.loads(pickle.dumps(options(headers={"A": "1"}))) == options(headers={"a": "1"})
    with pytest.raises(AttributeError):
        options().timeout = 1.0  # type: ignore[misc]


def test_changes_make_a_copy() -> None:
    parent = options(timeout=7, headers={"A": "1", "B": "2"})
    child = parent.with_changes(timeout=2.5, max_retries=0, headers={"b": "3", "C": "4"})
    assert (child.timeout_override, child.timeout, child.max_retries) == (2.5, 7, 0)
    assert child.headers == Headers({"a": "1", "b": "3", "c": "4"})
    assert child.request_headers().get_list("b") == ["3"]
    assert child.api_key == child.request_headers()["x-api-key"] == KEY
    assert (parent.timeout_override, parent.max_retries) == (None, 3)
    assert dict(parent.headers) == {"a": "1", "b": "2"}
    assert parent.with_changes() == parent


def test_names_of_headers_keep_their_case() -> None:
    child = options(headers={"X-One": "1"}).with_changes(max_retries=1).with_changes(timeout=1)
    assert ("X-One", "1") in child.request_headers().pairs


@pytest.mark.parametrize(
    ("changes", "minimum", "expected"),
    [
        ({}, 0.0, 30.0),
        ({}, 130.0, 130.0),
        ({"timeout": 200.0}, 130.0, 200.0),
        ({"timeout_override": 5.0}, 130.0, 5.0),
        ({"timeout_override": 5.0}, 0.0, 5.0),
    ],
)
def test_a_timeout_set_for_the_call_wins(
    changes: Dict[str, Any], minimum: float, expected: float
) -> None:
    assert options(**changes).timeout_for(minimum) == expected


@pytest.mark.parametrize("key", ["", " ", "fm live", "fm_live\n", "\nfm_live", "fm_lïve", "fm\0"])
def test_a_bad_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as refusal:
        ClientOptions(key)
    assert not key.strip() or key not in str(refusal.value)


@pytest.mark.parametrize("key", [None, b"fm_live", 5])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(TypeError, match="api_key must be a str"):
        ClientOptions(key)


@pytest.mark.parametrize("seconds", [0, -1, -0.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["timeout", "call_timeout", "timeout_override"])
def test_a_timeout_is_positive_and_finite(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds"):
        options(**{name: seconds})
    with pytest.raises(ValueError, match="timeout must be"):
        options().with_changes(timeout=seconds)


@pytest.mark.parametrize("seconds", ["5", True, [1], b"1"])
def test_a_timeout_is_a_number(seconds: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        options(timeout=seconds)
    with pytest.raises(TypeError, match="poll_interval must be a number of seconds"):
        check_seconds("poll_interval", seconds)


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_no_float_holds_is_not_finite(digits: int) -> None:
    with pytest.raises(ValueError, match="poll_interval must be a positive number of seconds"):
        check_seconds("poll_interval", 10**digits)


@given(seconds=st.floats(min_value=1e-9, max_value=1e9))
def test_any_positive_number_of_seconds_will_do(seconds: float) -> None:
    check_seconds("timeout", seconds)
    assert options().with_changes(timeout=seconds).timeout_for(130.0) == seconds


def test_retries_are_counted_from_zero() -> None:
    assert options(max_retries=0).max_retries == 0
    with pytest.raises(ValueError, match="max_retries must be at least 0, not -1"):
        options(max_retries=-1)
    with pytest.raises(ValueError, match="max_retries"):
        options().with_changes(max_retries=-1)
    for value in (1.5, "3", None, True):
        with pytest.raises(TypeError, match="max_retries must be an int"):
            options(max_retries=value)


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"A B": "x"},
        {"A:": "x"},
        {"A\r\nB": "x"},
        {"Ä": "x"},
        {"A": "x\r\nB: y"},
        {"A": "x\n"},
        {"A": "\r"},
        {"A": "x\0"},
        {"A": "x\x7f"},
        {"A": "é"},
        {"A": "€"},
        {"Content-Length": "5"},
        {"transfer-encoding": "chunked"},
        {"Connection": "close"},
        {"expect": "100-continue"},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_by_name(headers: Dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers: ") as refusal:
        options(headers=headers)
    assert "B: y" not in str(refusal.value)
    with pytest.raises(ValueError, match="headers: "):
        options().with_changes(headers=headers)


@pytest.mark.parametrize("headers", [None, "A: b", [("A", "b")], {"A": 5}, {5: "a"}, {"A": None}])
def test_headers_are_a_dict_of_text(headers: Any) -> None:
    with pytest.raises(TypeError, match="headers"):
        options(headers=headers)


@given(value=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_white_space_around_a_value_is_no_part_of_it(value: str) -> None:
    """RFC 9110, 5.5."""
    assert options(headers={"A": f" \t{value}\t "}).headers["a"] == value.strip(" \t")


def test_the_limit_of_a_call_is_no_timeout_of_an_attempt() -> None:
    with pytest.raises(TypeError, match="call_timeout must be a number of seconds, not a Timeout"):
        options(call_timeout=Timeout(30, connect=5))

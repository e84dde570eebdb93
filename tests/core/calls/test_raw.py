from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.calls.raw import raw_call
from flowmaestro_core.http.messages import Request
from flowmaestro_core.options import ClientOptions


def request(method: str, path: str, params: Any = None, json: Any = None) -> Request:
    options = ClientOptions("fm_live_0123456789", base_url="https://host/flow")
    return raw_call(method, path, params, json).request(options, "token")


def test_the_request_of_an_unknown_endpoint() -> None:
    sent = request("POST", "/reports/7", {"page": "2", "all": True, "none": None}, {"a": [1]})
    assert (sent.method, sent.url) == ("POST", "https://host/flow/api/v1/reports/7?page=2&all=true")
    assert sent.body == b'{"a":[1]}'
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["Idempotency-Key"] == "token"


def test_a_request_without_input_has_no_body_and_no_content_type() -> None:
    sent = request("get", "/reports")
    assert (sent.method, sent.url) == ("GET", "https://host/flow/api/v1/reports")
    assert sent.body == b""
    assert "content-type" not in sent.headers
    assert "idempotency-key" not in sent.headers


@pytest.mark.parametrize(
    ("method", "repeatable"),
    [
        *(("GET", True), ("HEAD", True), ("OPTIONS", True), ("PUT", True), ("delete", True)),
        *(("POST", False), ("PATCH", False), ("post", False), ("PURGE", False)),
    ],
)
def test_only_idempotent_methods_are_repeatable(method: str, repeatable: bool) -> None:
    call = raw_call(method, "/x", None, None)
    assert call.repeatable is repeatable
    assert not call.enveloped


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "//a", "/a/b%20c", "/a:b@c", "/.a/..b/...", "/~"]
)
def test_a_path_below_the_root(path: str) -> None:
    assert request("GET", path).url == "https://host/flow/api/v1" + path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "https://evil/a",
        "/a?b=c",
        "/a#b",
        "/a b",
        "/é",
        "/a\n",
        "/a\\b",
        "/100%",
        "/%zz",
        "/..",
        "/a/../b",
        "/./a",
        "/%2e%2e/b",
        "/a/.%2E",
        "/%2e",
        None,
        5,
        b"/a",
    ],
)
def test_any_other_path_is_refused_by_name(path: Any) -> None:
    with pytest.raises(ValueError, match="path must begin with '/'"):
        request("GET", path)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/x?token=hush", "not '/x'"),
        ("https://user:hush@api.example/x", "not 'https://api.example/x'"),
        ("https://user:hu/sh@api.example/x", "not 'https://api.example/x'"),
        ("user:hush@api.example/x", "not 'api.example/x'"),
        ("hush:h@u//sh@api.example/x", "not 'api.example/x'"),
        ("//user:hush@api.example/x y", "not '//api.example/x y'"),
        ("/users/@me\n", r"not '/users/@me\\n'"),
        (b"/x?token=hush", "not bytes"),
        (["/x?token=hush"], "not list"),
        (None, "not NoneType"),
    ],
)
def test_errors_of_path_and_method_show_neither_query_nor_credentials(
    path: Any, shown: str
) -> None:
    with pytest.raises(ValueError, match=f"^path must .*{shown}$") as caught:
        request("GET", path)
    assert "hu" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^method must .*{shown}$") as caught:
        request(path, "/x")
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "GET ", "GET\r\n", "GE T", "G-T", None, 5, b"GET"])
def test_a_method_is_a_word(method: Any) -> None:
    with pytest.raises(ValueError, match="method must be an HTTP method"):
        request(method, "/a")


def test_other_arguments_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="params must be a dict, not list"):
        request("GET", "/a", [("a", 1)])
    with pytest.raises(TypeError, match="json is a set"):
        request("POST", "/a", None, {1})
    with pytest.raises(ValueError, match=r"json\[0\] is nan"):
        request("POST", "/a", None, [float("nan")])


@pytest.mark.parametrize("json", [{}, [], 0, False, ""])
def test_an_empty_input_is_an_input(json: Any) -> None:
    assert request("POST", "/a", None, json).headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", [{"a": 1}, b"x", [None], [[1]], object()])
def test_a_parameter_that_no_query_can_say(value: Any) -> None:
    with pytest.raises(
        TypeError, match="the query parameter 'q' must be a str, int, float or bool"
    ):
        request("GET", "/x", {"q": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_parameter_that_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="the query parameter 'q' must be finite"):
        request("GET", "/x", {"q": value})


def test_a_parameter_that_is_no_unicode() -> None:
    with pytest.raises(ValueError, match="a query parameter holds a lone surrogate"):
        request("GET", "/x", {"q": "\ud800"})


def test_the_api_root_is_not_part_of_the_path() -> None:
    with pytest.raises(ValueError, match="leave out '/api/v1'"):
        request("GET", "/api/v1/workflows")


def test_a_call_does_not_show_what_its_query_and_body_say() -> None:
    call = raw_call("POST", "/x", {"token": "hush"}, {"password": "hush"})
    assert repr(call) == "<Call POST /x?token=***>"

from __future__ import annotations

from typing import Any, Dict, List
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowmaestro_core.http.urls import DEFAULT_BASE_URL, api_root, origin, path, query, resolve

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        (DEFAULT_BASE_URL, "https://api.flowmaestro.io/api/v1"),
        ("https://api.flowmaestro.io/", "https://api.flowmaestro.io/api/v1"),
        ("https://api.flowmaestro.io///", "https://api.flowmaestro.io/api/v1"),
        ("https://api.flowmaestro.ai/v1", "https://api.flowmaestro.ai/v1"),
        ("https://api.flowmaestro.ai/v1/", "https://api.flowmaestro.ai/v1"),
        ("https://host/api/v1", "https://host/api/v1"),
        ("https://host/flow", "https://host/flow/api/v1"),
        ("https://host/flow/", "https://host/flow/api/v1"),
        ("https://host/flow/v1", "https://host/flow/v1"),
        ("https://host/xv1", "https://host/xv1/api/v1"),
        ("https://v1", "https://v1/api/v1"),
        ("http://localhost:8787", "http://localhost:8787/api/v1"),
        ("http://[::1]:8787", "http://[::1]:8787/api/v1"),
        ("HTTP://HOST", "HTTP://HOST/api/v1"),
        ("https://host.example.", "https://host.example./api/v1"),
        (f"https://{'a' * 63}.example", f"https://{'a' * 63}.example/api/v1"),
        ("https://münchen.example", "https://münchen.example/api/v1"),
    ],
)
def test_the_api_root_of_a_base_url(base_url: str, root: str) -> None:
    assert api_root(base_url) == root
    assert api_root(root) == root


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.flowmaestro.io",
        "//api.flowmaestro.io",
        "ftp://api.flowmaestro.io",
        "https://",
        "https:///path",
        "https://:80",
        "https:host",
        "https://host:0",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://host?x=1",
        "https://host?",
        "https://host#part",
        "https://host#",
        "https://a..b",
        "https://.host",
        f"https://{'a' * 64}.example",
        "https://ho st",
        "https://host\n",
        " https://host",
        "https://host/\x7f",
        "https://host\\path",
        "https://host/flöw",
    ],
)
def test_a_base_url_that_is_none_is_refused_by_name(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be"):
        api_root(base_url)


def test_credentials_and_other_types_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="base_url must not contain credentials") as refusal:
        api_root("https://user:hush@host")
    assert "hush" not in str(refusal.value)
    for value in (None, b"https://host", 5):
        with pytest.raises(TypeError, match="base_url must be a str"):
            api_root(value)  # type: ignore[arg-type]


@given(resource_id=TEXTS)
def test_any_id_is_one_segment_and_comes_back_whole(resource_id: str) -> None:
    assume(resource_id not in ("", ".", ".."))
    filled = path("/workflows/{workflow_id}/execute", workflow_id=resource_id)
    assert filled.isascii()
    before, workflows, segment, execute = filled.split("/")
    assert (before, workflows, execute) == ("", "workflows", "execute")
    assert unquote(segment) == resource_id
    parts = urlsplit("https://host" + filled)
    assert (parts.path, parts.query, parts.fragment) == (filled, "", "")


def test_path_encodes_several_ids() -> None:
    assert path("/agents/{a}/memory/{u}", a="1/2", u="3") == "/agents/1%2F2/memory/3"


@pytest.mark.parametrize("resource_id", ["", ".", "..", "\ud800"])
def test_an_id_that_is_no_segment_is_refused_by_name(resource_id: str) -> None:
    with pytest.raises(ValueError, match="thread_id"):
        path("/threads/{thread_id}", thread_id=resource_id)


@pytest.mark.parametrize("resource_id", [None, 5, b"x", ["x"]])
def test_an_id_that_is_no_string_is_refused_by_name(resource_id: Any) -> None:
    with pytest.raises(TypeError, match="thread_id must be a str"):
        path("/threads/{thread_id}", thread_id=resource_id)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ""),
        ({"page": 1, "per_page": None, "status": "failed"}, "?page=1&status=failed"),
        ({"on": True, "off": False}, "?on=true&off=false"),
        ({"n": 0, "f": 0.5}, "?n=0&f=0.5"),
        ({"flag": (True, False)}, "?flag=true&flag=false"),
        ({"id": []}, ""),
    ],
)
def test_query_encodes_parameters(params: Dict[str, Any], expected: str) -> None:
    assert query(params) == expected


@given(params=st.dictionaries(TEXTS, st.one_of(TEXTS, st.lists(TEXTS, max_size=3)), max_size=4))
def test_a_query_comes_back_whole(params: Dict[str, Any]) -> None:
    flat: List[Any] = [
        (name, item)
        for name, value in params.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    assert parse_qsl(query(params)[1:], keep_blank_values=True) == flat


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://host/a", "https://HOST:443/b?c"),
        ("http://host:80", "HTTP://host/x"),
        ("https://user@host/", "https://host"),
    ],
)
def test_equivalent_urls_have_one_origin(url: str, same: str) -> None:
    assert origin(url) == origin(same)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("https://host", "http://host"),
        ("https://host", "https://host:8443"),
        ("https://host", "https://host.evil"),
        ("https://host", "https://evil/host"),
        ("http://host:80", "http://host:0"),
        ("https://host", "ftp://host"),
    ],
)
def test_different_urls_have_different_origins(url: str, other: str) -> None:
    assert origin(url) != origin(other)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://host/x"),
        ("y", "https://host/a/y"),
        ("../y", "https://host/y"),
        ("?q=1", "https://host/a/b?q=1"),
        ("https://other/z", "https://other/z"),
        ("//other/z", "https://other/z"),
        ("/x#part", "https://host/x"),
        ("/é x", "https://host/%C3%A9%20x"),
        ("/a%20b", "https://host/a%20b"),
        ("/x?a=b&c=d%26", "https://host/x?a=b&c=d%26"),
        ("https://[::1]/", "https://[::1]/"),
    ],
)
def test_location_is_resolved_against_base_url(location: str, url: str) -> None:
    assert resolve("https://host/a/b", location) == url


@pytest.mark.parametrize(
    "location",
    [
        "https://host:port/",
        "https://host:99999/",
        "https://[::1/",
        "https://user:password@host/",
        "//user@host/",
        "/\ud800",
    ],
)
def test_a_location_that_means_nothing_good(location: str) -> None:
    assert resolve("https://host/a/b", location) == ""


@given(location=st.text())
def test_a_resolved_url_can_be_sent(location: str) -> None:
    url = resolve("https://host/a/b", location)
    assert url.isascii()
    assert not any(character in url for character in " \r\n\t#")
    if url:
        origin(url)


@pytest.mark.parametrize("more", ["", "/messages"])
def test_a_path_keeps_its_template_and_its_ids_before_a_query(more: str) -> None:
    found = path("/threads/{thread_id}", thread_id="a/b") + f"{more}?page=1"
    assert found == f"/threads/a%2Fb{more}?page=1"
    assert (found.route, found.ids) == (f"/threads/{{thread_id}}{more}", {"thread_id": "a/b"})

"""Where a URL leads, and what the origin is called on the way."""

from __future__ import annotations

import pytest

from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.routes import Routes


@pytest.mark.parametrize("host", ["[fe80::1%eth0]", "[fe80::1%25eth0]"])
def test_the_scope_of_an_address_is_ours_alone(host: str) -> None:
    """Servers refuse a Host field with a `%` in it; RFC 6874, 1 and 2."""
    route, _ = Routes(Proxies(trust_env=False)).find(f"http://{host}:8080/things")
    assert route.first_hop == ("http", "fe80::1%eth0", 8080)
    assert route.origin.authority == "[fe80::1]:8080"


def test_a_name_has_no_scope() -> None:
    """Whatever is in it, nobody is asked for another one."""
    route, _ = Routes(Proxies(trust_env=False)).find("http://good%25.example/things")
    assert route.first_hop[1] == route.origin.authority == "good%25.example"


@pytest.mark.parametrize(
    ("suffix", "target"), [("", "/"), ("?q=1", "/?q=1"), ("/x?y=/z#gone", "/x?y=/z")]
)
def test_target_of_a_request_has_path_and_query(suffix: str, target: str) -> None:
    assert Routes(Proxies(trust_env=False)).find(f"http://a.example{suffix}")[1] == target

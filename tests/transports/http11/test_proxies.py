"""Which proxy leads to an origin, by the argument and by the environment."""

from __future__ import annotations

import sys
from typing import Dict, List, Optional

import pytest

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.http11.proxies import Proxies, Proxy
from tests.harness.runners import fails

AUTHORIZATION = "Basic dXNlcjpwYSBzcw=="  # of user:pa ss
PROXY = "http://proxy.example:3128"


class TestPolicy:
    def test_the_argument_counts_for_all_origins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("HTTP_PROXY", "http://other.example")
        proxies = Proxies("https://us%65r:pa%20ss@Proxy.Example:8443/")
        expected = Proxy("https", "proxy.example", 8443, AUTHORIZATION)
        assert proxies.proxy_for("http", "api.example", 80) == expected
        assert proxies.proxy_for("https", "127.0.0.1", 443) == expected

    @pytest.mark.parametrize(
        ("url", "proxy"),
        [
            ("http://proxy.example", Proxy("http", "proxy.example", 80)),
            ("https://proxy.example", Proxy("https", "proxy.example", 443)),
            ("HTTP://proxy.example:1", Proxy("http", "proxy.example", 1)),
            ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
            ("user@proxy.example", Proxy("http", "proxy.example", 80, "Basic dXNlcjo=")),
            ("http://[::1]:3128", Proxy("http", "::1", 3128)),
            (" http://proxy.example ", Proxy("http", "proxy.example", 80)),
        ],
    )
    def test_ways_to_write_one(self, url: str, proxy: Proxy) -> None:
        assert Proxies(url).proxy_for("http", "api.example", 80) == proxy

    def test_the_url_of_a_proxy_has_brackets_around_ipv6(self) -> None:
        assert Proxy("http", "::1", 3128).url == "http://[::1]:3128"
        assert (
            Proxy("https", "proxy.example", 443, AUTHORIZATION).url == "https://proxy.example:443"
        )

    def test_its_credentials_do_not_show(self) -> None:
        assert AUTHORIZATION not in repr(Proxy("http", "proxy.example", 80, AUTHORIZATION))

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://",
            "http://:3128",
            "ftp://user:secret@proxy.example",
            "http://user:secret@proxy.example:port",
            "http://user:secret@proxy.example:0",
            "http://user:secret@proxy.example:99999",
            "http://user:secret@proxy.example/path",
            "http://user:secret@proxy.example?query",
            "http://user:secret@pro xy.example",
            "http://user:secret@proxy..example",
            "http://us%3Aer:secret@proxy.example",
            "http://user:secret@[::1",
            "http://user:secret@proxy.example:secret",
            "http://user:secret\udc80@proxy.example",
            "socks5://user:secret@proxy.example",
            "socks5h://user:secret@proxy.example",
        ],
    )
    def test_invalid_proxy_url_is_refused_without_its_password(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"^proxy") as caught:
            Proxies(url)
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None
        assert ("SOCKS" in str(caught.value)) is url.startswith("socks")
        with pytest.raises(TypeError, match="proxy must be"):
            Proxies(8080)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
    def test_a_variable_that_is_none(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "ftp://user:secret@proxy.example")
        with pytest.raises(ValueError, match=f"{name.upper()} must be the URL") as caught:
            Proxies()
        assert "secret" not in str(caught.value)
        Proxies(PROXY)
        Proxies(trust_env=False)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    def test_a_variable_that_names_a_socks_proxy_refuses_what_it_would_carry(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "socks5://user:secret@proxy.example")
        monkeypatch.setenv("HTTPS_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", "exempt.example")
        proxies = Proxies()
        assert proxies.proxy_for("https", "api.example", 443) == Proxies(PROXY).proxy_for(
            "http", "", 80
        )
        assert proxies.proxy_for("http", "exempt.example", 80) is None
        assert proxies.secrets == ()
        for _ in range(2):
            with fails(Phase.NOT_SENT, f"{name}: SOCKS is not supported") as caught:
                proxies.proxy_for("http", "api.example", 80)
            assert caught.value.permanent
            assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({"HTTP_PROXY": "http://a.test", "HTTPS_PROXY": "http://b.test"}, ["a.test", "b.test"]),
            ({"ALL_PROXY": "http://all.test"}, ["all.test", "all.test"]),
            ({"ALL_PROXY": "http://b.test", "HTTP_PROXY": "http://a.test"}, ["a.test", "b.test"]),
        ],
    )
    def test_each_scheme_has_its_variable(
        self,
        monkeypatch: pytest.MonkeyPatch,
        environment: Dict[str, str],
        expected: List[Optional[str]],
    ) -> None:
        before = Proxies()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert hosts(Proxies()) == expected
        assert hosts(Proxies(trust_env=False)) == hosts(before) == [None, None]

    @pytest.mark.skipif(sys.platform == "win32", reason="variables have no case there")
    def test_lower_case_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://upper.example")
        monkeypatch.setenv("http_proxy", "")
        assert hosts(Proxies()) == [None, None]
        monkeypatch.setenv("http_proxy", "http://lower.example")
        assert hosts(Proxies()) == ["lower.example", None]
        monkeypatch.setenv("REQUEST_METHOD", "GET")  # Then a field of a request sets HTTP_PROXY.
        assert hosts(Proxies()) == ["lower.example", None]
        monkeypatch.delenv("http_proxy")
        assert hosts(Proxies()) == [None, None]

    @pytest.mark.parametrize(
        ("exempt", "host", "port", "direct"),
        [
            ("", "api.example", 80, False),
            (" , ", "api.example", 80, False),
            ("*", "api.example", 80, True),
            ("api.example.", "api.example", 80, True),
            ("*:81", "api.example", 80, False),
            ("api.example", "api.example", 80, True),
            ("api.example", "API.Example", 80, True),
            ("API.Example", "api.example", 80, True),
            ("api.example", "api.example.", 80, True),
            ("api.example", "v1.api.example", 80, True),
            ("api.example", "myapi.example", 80, False),
            ("pi.example", "api.example", 80, False),
            (".example", "api.example", 80, True),
            (".api.example", "api.example", 80, True),
            ("*.example", "api.example", 80, True),
            ("other.example, api.example", "api.example", 80, True),
            ("other.example api.example", "api.example", 80, True),
            ("api.example:", "api.example", 80, True),
            (":", "api.example", 80, False),
            ("*:", "api.example", 80, True),
            ("[::1]:", "::1", 80, True),
            ("::", "::", 80, True),
            ("api.example:80", "api.example", 80, True),
            ("api.example:80", "api.example", 8080, False),
            ("10.0.0.1", "10.0.0.1", 80, True),
            ("10.0.0.1", "10.0.0.10", 80, False),
            ("10.0.0.1:81", "10.0.0.1", 80, False),
            ("10.0.0.0/8", "10.255.0.1", 80, True),
            ("10.0.0.1/8", "10.255.0.1", 80, True),
            ("10.0.0.0/8", "11.0.0.1", 80, False),
            ("10.0.0.0/8:80", "10.0.0.1", 80, True),
            ("10.0.0.0/8", "api.example", 80, False),
            ("::1", "::1", 80, True),
            ("[::1]", "::1", 80, True),
            ("[::1]:80", "::1", 80, True),
            ("[::1]:81", "::1", 80, False),
            ("fd00::/8", "fd12::1", 80, True),
            ("fd00::/8", "10.0.0.1", 80, False),
            ("10.0.0.0/8", "fd12::1", 80, False),
            ("localhost", "127.0.0.1", 80, False),
            ("other.example", "127.0.0.1", 80, False),
        ],
    )
    def test_no_proxy_exempts_matching_hosts(
        self, monkeypatch: pytest.MonkeyPatch, exempt: str, host: str, port: int, direct: bool
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", exempt)
        assert (Proxies().proxy_for("http", host, port) is None) is direct


def hosts(proxies: Proxies) -> List[Optional[str]]:
    found = [proxies.proxy_for(scheme, "api.example", 1) for scheme in ("http", "https")]
    return [proxy and proxy.host for proxy in found]

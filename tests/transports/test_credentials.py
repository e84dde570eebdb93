"""The key goes where it is sent, as it is: nothing that a stack knows of takes its place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Dict, List

import aiohttp
import pytest
import requests

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports import AiohttpTransport, RequestsTransport
from tests.harness.runners import Runner, fails, get, post

KEY = {"X-API-Key": "fm_live_1", "Authorization": "Bearer fm_live_1"}
OTHER = ("someone", "else")


@pytest.fixture(autouse=True)
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whose `.netrc` has credentials for every host."""
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text("default login someone password else\n")
        (tmp_path / name).chmod(0o600)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))


@pytest.fixture
def tempting(scripted: Any) -> Any:
    """A handler that sets cookies, and asks for other credentials or sends elsewhere."""

    def handler(peer: Any) -> None:
        cookie = ("Set-Cookie", "session=stolen; Path=/")
        while True:
            request = peer.read_request()
            if request is None:
                return
            if request.target == "/asks":
                asks = ("WWW-Authenticate", 'Basic realm="r"')
                peer.send(scripted.reply(status="401 Unauthorized", headers=[cookie, asks]))
            else:
                away = ("Location", "http://elsewhere.invalid/")
                peer.send(scripted.reply(status="307 Moved", headers=[cookie, away]))

    return handler


def assert_as_sent(server: Any, count: int) -> None:
    assert len(server.requests) == count
    for request in server.requests:
        for name, value in KEY.items():
            assert [v for n, v in request.headers if n.lower() == name.lower()] == [value]
        assert "cookie" not in request


def test_a_field_that_would_begin_another_is_not_sent(runner: Runner, scripted: Any) -> None:
    with (
        scripted.ScriptedServer(scripted.echo) as server,
        runner() as transport,
        fails(Phase.NOT_SENT, "header field is not valid"),
    ):
        transport.send(post(server, **{"X-A": "a\r\nX-B: b"}))
    assert not server.requests


def test_a_requests_session_has_none(scripted: Any, tempting: Any) -> None:
    called: List[requests.Response] = []

    def spy(response: requests.Response, **options: Any) -> None:
        called.append(response)

    with scripted.ScriptedServer(tempting) as server, requests.Session() as session:
        session.auth = OTHER
        session.headers["X-API-Key"] = "other"
        session.headers["Authorization"] = "other"
        session.cookies.set("session", "other")
        session.params = {"key": "other"}
        session.hooks["response"].append(spy)
        session.trust_env = True
        made = RequestsTransport(session)
        for path in ("/asks", "/moves"):
            assert made.send(get(server, path, **KEY), 5.0).status in {401, 307}
        made.close()
    assert_as_sent(server, 2)
    assert [request.target for request in server.requests] == ["/asks", "/moves"]
    assert [response.status_code for response in called] == [401, 307]


SESSIONS: Dict[str, Dict[str, Any]] = {
    "headers": {"headers": {"Authorization": "other", "X-API-Key": "other", "X-More": "other"}},
    "netrc": {"trust_env": True},
    "cookies": {"cookies": {"session": "other"}},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp 3.14 would do without auth
@pytest.mark.parametrize("source", [*SESSIONS, "auth", "middlewares"])
def test_an_aiohttp_session_has_none(scripted: Any, tempting: Any, source: str) -> None:
    async def meddle(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        request.headers["Authorization"] = "other"
        response: aiohttp.ClientResponse = await handler(request)
        return response

    async def main() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies of addresses
        options = SESSIONS.get(source, {"middlewares": (meddle,)})
        if source == "auth":
            options = {"auth": aiohttp.BasicAuth(*OTHER)}
        async with aiohttp.ClientSession(cookie_jar=jar, **options) as session:
            made = AiohttpTransport(session)
            for path in ("/asks", "/moves"):
                reply = await made.send(get(server, path, **KEY), 5.0)
                assert reply.status in {401, 307}
            await made.close()
        assert all(cookie.value == "other" for cookie in jar)

    with scripted.ScriptedServer(tempting) as server:
        asyncio.run(main())
    assert_as_sent(server, 2)
    assert not any("x-more" in request for request in server.requests)

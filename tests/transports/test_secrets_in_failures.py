"""No failure of any transport leads to a secret: not by its text, its attributes or its frames."""

from __future__ import annotations

import gzip
import socket
import threading
import traceback
from typing import Any, Callable, Dict, List, Optional

import anyio
import anyio.to_thread
import pytest
import requests

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, FlowMaestroError
from flowmaestro.testing.conformance.security import leaking_frame, path_to_secret
from flowmaestro_core.http.messages import Headers, Request, TransportFailure
from flowmaestro_transports import RequestsTransport
from tests.harness.runners import ASYNC, OURS, RUNNERS, Runner

KEY = "fm_live_" + "0123456789abCDef" * 5
"""Longer than what anybody would quote: the rest of a key that was cut is not known again."""
PART = "0123456789"
FOREIGN = {"urllib3", "requests", "aiohttp", "http", "h11"}


def saying(data: bytes, then: str = "close") -> Callable[[Any], None]:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(data)
        getattr(peer, then)()

    return handler


def repeating(before: bytes, after: bytes = b"") -> Callable[[Any], None]:
    """A server that repeats the head of the request, which bears the key."""

    def handler(peer: Any) -> None:
        said = peer.read_request().head.replace(b"\r\n", b" ")
        peer.send(before.replace(b"LENGTH", b"%d" % len(said)) + said + after)
        peer.close()

    return handler


END = b"\r\n\r\n{}"
JSON = b"\r\nContent-Type: application/json\r\nContent-Length: "
FAILURES: Dict[str, Callable[[Any], None]] = {
    "silence": saying(b"", "wait_closed"),
    "a broken status line": saying(b"HTTP/1.1 banana\r\n\r\n"),
    "half a body": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    "in an error": repeating(
        b"HTTP/1.1 500 No\r\nX-Request-ID: %s" % KEY.encode() + JSON + b"LENGTH\r\n\r\n"
    ),
    "in what is no JSON": repeating(b"HTTP/1.1 200 OK" + JSON + b"LENGTH\r\n\r\n"),
    "in a body cut off": repeating(b"HTTP/1.1 200 OK" + JSON + b"9999\r\n\r\n"),
    "in the status line": repeating(b"HTTP/1.1 ", b"\r\n\r\n"),
    "in a coding of the transfer": repeating(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ", END),
    "in a length": repeating(b"HTTP/1.1 200 OK\r\nContent-Length: ", END),
    "in a coding of the content": repeating(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: ", END
    ),
    "in a chunk's size": repeating(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"\r\n"
    ),
    "beside a length and chunks": repeating(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nX: ",
        b"\r\n\r\n",
    ),
}


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
DAMAGED = gzip.compress(b"")[:10] + b"\xff" + KEY.encode()
FAILURES["as the name of a field"] = saying(
    b"HTTP/1.1 500 No\r\n%s: x\r\nContent-Length: 0\r\n\r\n" % KEY.encode()
)
FAILURES["in other letters"] = saying(
    b"HTTP/1.1 500 No\r\n%s: x\r\nContent-Length: 2\r\nContent-Encoding: %s\r\n\r\n{}"
    % (KEY.lower().encode(), KEY.upper().encode())
)
FAILURES["in gzip that is damaged"] = saying(
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    % (len(DAMAGED), DAMAGED)
)


def traces_of_the_key(error: Optional[BaseException]) -> List[str]:
    """Where the key shows, as the kit looks for it; and frames of others, which hold requests."""
    if error is None:
        return []
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals["__name__"] == __name__:
        trace = trace.tb_next  # the test's own frames
    found = [path_to_secret(error.with_traceback(trace), PART), leaking_frame(error, PART)]
    chain: List[BaseException] = [error]
    for each in chain:  # a context counts beside a cause, too
        names = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(each.__traceback__)]
        found += [name for name in names if name.partition(".")[0] in FOREIGN]
        chain += [it for it in (each.__cause__, each.__context__) if it and it not in chain]
    return [place for place in found if place is not None]


def called(runner: Runner, url: str, timeout: float = 10.0) -> FlowMaestroError:
    """The error of a call that is made in an `except` block, whose exception is its context."""
    options: Any = {"base_url": url, "max_retries": 0, "timeout": timeout}
    caught: List[FlowMaestroError] = []
    own = ValueError("the caller's own")

    def call() -> None:
        with FlowMaestroClient(KEY, transport=runner.make(), **options) as client:
            try:
                raise own
            except ValueError:
                try:
                    client.workflows.list()
                except FlowMaestroError as error:
                    caught.append(error)

    async def call_async() -> None:
        async with AsyncFlowMaestroClient(KEY, transport=runner.make(), **options) as client:
            try:
                raise own
            except ValueError:
                try:
                    await client.workflows.list()
                except FlowMaestroError as error:
                    caught.append(error)

    if runner.backend is None:
        call()
    else:
        anyio.run(call_async, backend=runner.backend)
    assert own.__traceback__ is not None  # It is the caller's, and stays as it was.
    return caught[0]


@pytest.mark.parametrize("name", FAILURES)
def test_traceback_for_user_shows_no_secret(runner: Runner, scripted: Any, name: str) -> None:
    """With the frames of its traceback, as `pytest -l` prints them."""
    timeout = 0.2 if name == "silence" else 10.0  # The others end by themselves.
    with scripted.ScriptedServer(FAILURES[name]) as server:
        error = called(runner, server.url, timeout)
    assert traces_of_the_key(error) == []


@pytest.mark.parametrize("runner", ASYNC, ids=str, indirect=True)
def test_a_call_that_is_cancelled(runner: Runner, scripted: Any) -> None:
    asked, caught = threading.Event(), list[BaseException]()

    def handler(peer: Any) -> None:
        peer.read_request()
        asked.set()
        peer.wait_closed()

    async def call(url: str) -> None:
        transport = runner.make()
        async with AsyncFlowMaestroClient(KEY, base_url=url, transport=transport) as client:
            try:
                await client.workflows.list()
            except BaseException as error:
                caught.append(error)
                raise

    async def main(url: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, url)
            await anyio.to_thread.run_sync(asked.wait)
            tasks.cancel_scope.cancel()

    with scripted.ScriptedServer(handler) as server:
        anyio.run(main, server.url, backend=runner.backend)
    assert traces_of_the_key(caught[0]) == []


def test_failure_of_aiohttp_hides_password_of_unreachable_proxy() -> None:
    """The exception of aiohttp has the URL of the proxy; the kit looks for a key, without proxy."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens
        proxy = f"http://{KEY}:{KEY}@127.0.0.1:{unheard.getsockname()[1]}"
        with (
            RUNNERS["aiohttp"](proxy=proxy) as transport,
            pytest.raises(TransportFailure) as caught,
        ):
            transport.send(Request("GET", "http://o.example", Headers()))
    assert traces_of_the_key(caught.value) == []


def hook_raising(error: BaseException) -> Dict[str, Any]:
    def hook(*_: Any, **__: Any) -> None:
        raise error

    return {"hooks": {"response": [hook]}}


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://o.example", {"proxies": {"http": f"http://{KEY}:{KEY}@127.0.0.1:1"}}),
        ("http://o.example", {"proxies": {"http": f"https://{KEY}:{KEY}@127.0.0.1:1"}}),
        ("https://o.example", {"verify": "nowhere.pem"}),
        ("https://o.example", {"cert": "nowhere.pem"}),
        ("http://o.example", hook_raising(ValueError("no"))),
        ("http://o.example", hook_raising(KeyboardInterrupt())),
    ],
    ids=["refused", "https proxy", "no bundle", "no certificate", "hook", "interrupt"],
)
def test_frames_of_requests_hide_proxy_password(
    scripted: Any, url: str, settings: Dict[str, Any]
) -> None:
    with (
        scripted.ScriptedServer(saying(HEAD + b"123456789")) as proxy,
        requests.Session() as session,
    ):
        session.trust_env = False
        session.proxies = {"all": proxy.url.replace("//", f"//{KEY}:{KEY}@")}
        for name, value in settings.items():
            setattr(session, name, value)
        with pytest.raises((TransportFailure, KeyboardInterrupt)) as caught:
            RequestsTransport(session).send(Request("GET", url, Headers()), 60.0)
    assert traces_of_the_key(caught.value) == []


@pytest.mark.parametrize("runner", OURS, ids=str, indirect=True)
@pytest.mark.parametrize("given", [("no.pem", "no.pem", KEY), ("no.pem", "no.pem", KEY, "more")])
def test_the_password_of_a_client_certificate(runner: Runner, given: Any) -> None:
    with pytest.raises((OSError, TypeError), match="client_cert") as caught:
        runner.make(client_cert=given)
    assert traces_of_the_key(caught.value) == []

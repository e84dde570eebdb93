"""What is special about the transport on requests: the front door, and what comes in by it."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import socket
import threading
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Optional

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.util import Retry

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports import RequestsTransport
from flowmaestro_transports.requests import body as requests_body
from flowmaestro_transports.requests import send_guard
from flowmaestro_transports.requests import transport as requests_transport
from tests.harness.runners import fails, get, post

HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def to(url: str, method: str = "GET") -> Request:
    return Request(method, url, Headers())


@contextlib.contextmanager
def transport(session: Optional[requests.Session] = None) -> Iterator[Any]:
    made = RequestsTransport(session)
    try:
        yield made
    finally:
        made.close()


def test_a_failure_that_somebody_keeps_holds_no_connection(scripted: Any) -> None:
    """The connection was back in its pool when the content turned out to be no gzip."""
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"no gzip", headers=[("Content-Encoding", "gzip")]))
        peer.wait_closed()
        hung_up.set()

    with scripted.ScriptedServer(handler) as server, transport() as made:
        with pytest.raises(TransportFailure) as kept:
            made.send(post(server), 5.0)
        made.close()
        assert hung_up.wait(60)
    del kept


# A session of the caller's


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


REPEATING = [
    3,
    True,
    Retry(None),
    Retry(3, allowed_methods=None),
    Retry(3, allowed_methods={"GET"}, read=0, connect=0),
    Retry(0, other=3, read=3).new(total=1),
    Retry(total=None, connect=0, read=0, redirect=0, status=0, other=0),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("repeats", REPEATING, ids=repr)
def test_an_adapter_that_may_repeat_is_refused_before_anything_is_sent(
    scripted: Any, session: requests.Session, repeats: Any, method: str
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, transport(session) as made:
        session.mount(server.url, HTTPAdapter(max_retries=repeats))
        for call in (made.send, made.open):
            with fails(Phase.NOT_SENT, r"mount HTTPAdapter\(\)") as caught:
                call(to(server.url, method), 5.0)
            assert caught.value.permanent
        assert server.connections == 0


@pytest.mark.parametrize(
    "never", [0, False, Retry(0), Retry(False), Retry(0, allowed_methods=None)], ids=repr
)
def test_an_adapter_that_never_repeats_is_used(
    scripted: Any, session: requests.Session, never: Any
) -> None:
    """What other URLs' adapters do does not count."""
    session.mount("http://payments.example", HTTPAdapter(max_retries=3, pool_block=True))
    with scripted.ScriptedServer(scripted.echo) as server, transport(session) as made:
        session.mount(server.url, HTTPAdapter(max_retries=never))
        assert made.send(post(server), 5.0).status == 200


def test_an_adapter_whose_pool_blocks_is_refused(session: requests.Session) -> None:
    session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
    with transport(session) as made, fails(Phase.NOT_SENT, "max_connections") as caught:
        made.send(to("http://api.invalid"), 5.0)
    assert caught.value.permanent


class Resolver:
    """A name resolution during which something happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.meanwhile: Any = lambda: None
        resolve = socket.getaddrinfo

        def resolving(*args: Any, **kwargs: Any) -> Any:
            self.meanwhile()
            return resolve(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolving)
        for module in (requests_transport, send_guard):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=self.clock))

    def clock(self) -> float:
        return self.now

    def take(self, seconds: float) -> None:
        self.now += seconds


def echo_if_asked(scripted: Any) -> Any:
    """A handler whose peer may leave right after the handshake."""

    def handler(peer: Any) -> None:
        with contextlib.suppress(OSError):
            scripted.echo(peer)

    return handler


@pytest.fixture
def tls_transport(session: requests.Session, ca_file: str) -> Iterator[Any]:
    session.verify = ca_file
    with transport(session) as made:
        yield made


def test_a_request_whose_time_passed_while_it_connected_is_not_sent(
    scripted: Any, tls_transport: Any, server_tls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch)
    with scripted.ScriptedServer(echo_if_asked(scripted), tls=server_tls) as server:
        resolver.meanwhile = lambda: resolver.take(6.0)
        with fails(Phase.NOT_SENT, timed_out=True):
            tls_transport.send(post(server), 5.0)
        resolver.meanwhile = lambda: resolver.take(4.0)
        assert tls_transport.send(post(server), 5.0).status == 200
        assert len(server.requests) == 1


def test_a_request_is_not_sent_after_close(
    scripted: Any, tls_transport: Any, server_tls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch)
    resolver.meanwhile = tls_transport.close
    with scripted.ScriptedServer(echo_if_asked(scripted), tls=server_tls) as server:
        with pytest.raises(TransportClosedError):
            tls_transport.send(post(server), 5.0)
        assert server.requests == []


READS = {
    "items": lambda headers: dict(headers.items()),
    "values by name": dict,
    "lower-case items": lambda headers: dict(headers.lower_items()),
}


@pytest.mark.parametrize("write", READS.values(), ids=READS)
def test_late_read_after_another_stack_has_sent_is_maybe_processed(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    """An adapter that does not use urllib3 reads the fields in its own way, and writes them."""
    resolver = Resolver(monkeypatch)

    class Own(BaseAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            write(request.headers)
            resolver.take(6.0)
            return dict(request.headers.items())

        def close(self) -> None:
            pass

    session.mount("http://", Own())
    with transport(session) as made, fails(Phase.MAYBE_PROCESSED, timed_out=True):
        made.send(to("http://api.test", "POST"), 5.0)


def test_first_read_of_the_fields_is_not_sent_if_it_is_late(
    scripted: Any, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch)

    class Logging(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            assert "accept" in request.headers  # This reads no value.
            resolver.take(6.0)
            dict(request.headers.items())
            return super().send(request, *args, **options)

    with scripted.ScriptedServer(scripted.echo) as server, transport(session) as made:
        session.mount(server.url, Logging())
        with fails(Phase.NOT_SENT, timed_out=True):
            made.send(post(server, accept="*/*"), 5.0)
        assert server.requests == []


def test_adapters_and_hooks_of_the_session_count(scripted: Any, session: requests.Session) -> None:
    sent: List[Any] = []
    heard: List[Any] = []

    class Counting(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            sent.append((request.method, options["verify"], options["cert"]))
            return super().send(request, *args, **options)

    session.verify = False
    session.mount("http://127.0.0.1", Counting())
    hook: Any = lambda reply, **_: heard.append(reply.status_code)  # noqa: E731
    session.hooks["response"] = hook  # which requests takes as well as a list
    handler = scripted.answering(scripted.reply(b"ok"), HEAD_CHUNKED + b"1\r\nx\r\n")
    with scripted.ScriptedServer(handler) as server, transport(session) as made:
        assert made.send(post(server), 5.0).body == b"ok"
        assert made.open(get(server), 5.0).read(5.0) == b"x"
    assert sent == [("POST", False, None), ("GET", False, None)]
    assert heard == [200, 200]


def test_the_session_adds_nothing_and_is_left_open(
    scripted: Any, session: requests.Session
) -> None:
    session.headers["X-Mine"] = "session"
    session.auth = ("me", "secret")
    session.cookies.set("a", "b")
    session.params = {"c": "d"}
    with scripted.ScriptedServer(scripted.echo) as server:
        with transport(session) as made:
            assert made.send(post(server), 5.0).body == b"{}"
        (request,) = server.requests
        assert request.target == "/things"
        for name in ("cookie", "authorization", "x-mine"):
            assert name not in request
        assert session.post(server.url, data=b"still open").content == b"still open"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content", [b"", b"hello"])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_hook_may_read_the_reply(
    scripted: Any, session: requests.Session, chunked: bool, content: bytes, coding: str
) -> None:
    data = gzip.compress(content) if coding and content else content
    fields = [("Content-Encoding", coding)] if coding else []
    reply = scripted.reply(data, headers=fields)
    if chunked:
        head = scripted.reply(headers=[*fields, scripted.CHUNKED], length=False)
        reply = head + (scripted.chunk(data) if data else b"") + scripted.chunk(b"")
    read = []
    session.hooks["response"].append(lambda response, **_: read.append(response.content))
    with scripted.ScriptedServer(scripted.answering(reply)) as server, transport(session) as made:
        assert made.send(get(server), 5.0).body == content
    assert read == [content]


@pytest.mark.parametrize("to_its_end", [False, True])
def test_hook_that_reads_by_iter_content_breaks_the_reply(
    scripted: Any, session: requests.Session, to_its_end: bool
) -> None:
    def hook(response: requests.Response, **_: Any) -> None:
        content = response.iter_content(3)
        assert next(content) == b"hel"
        if to_its_end:
            assert list(content) == [b"lo"]

    session.hooks["response"] = [hook]
    with (
        scripted.ScriptedServer(scripted.answering(scripted.reply(b"hello"))) as server,
        transport(session) as made,
        fails(Phase.REPLY_BROKEN, "response.content"),
    ):
        made.send(post(server), 5.0)


@pytest.mark.parametrize("raised", [ValueError, requests.ConnectTimeout])
def test_a_hook_that_raises_breaks_the_reply(
    scripted: Any, session: requests.Session, raised: Any
) -> None:
    """However it is called: the request was sent, and must not be sent again."""

    def hook(response: requests.Response, **_: Any) -> None:
        raise raised("not sent")

    session.hooks["response"] = [hook]
    with (
        scripted.ScriptedServer(scripted.answering(scripted.reply(b"ok"))) as server,
        transport(session) as made,
        fails(Phase.REPLY_BROKEN, timed_out=raised is not ValueError),
    ):
        made.send(post(server), 5.0)


def test_an_adapter_that_raises_may_have_sent_the_request(session: requests.Session) -> None:
    class Failing(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            raise ValueError("after it was sent")

    session.mount("http://", Failing())
    with transport(session) as made, fails(Phase.MAYBE_PROCESSED):
        made.send(to("http://api.invalid", "POST"), 5.0)


def test_a_redirect_is_not_read_by_the_session(scripted: Any, session: requests.Session) -> None:
    """Which would read its body to the end, however long that takes."""
    head = b"HTTP/1.1 307 Moved\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n"
    handler = scripted.answering(head + b"1\r\nx\r\n")
    with scripted.ScriptedServer(handler) as server, transport(session) as made:
        body = made.open(get(server), 5.0)
        assert (body.status, body.headers["location"]) == (307, "/x")
        assert body.read(5.0) == b"x"
        body.close()


class Canned(BaseAdapter):
    """An adapter without a network, as test doubles are."""

    def __init__(self, raw: Any, headers: Dict[str, str], content: bytes = b"") -> None:
        super().__init__()
        self.raw, self.headers, self.content = raw, headers, content

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        response = requests.Response()
        response.status_code = 200
        response.headers.update(self.headers)
        response.raw = self.raw
        if self.raw is None:
            response._content = self.content
        return response

    def close(self) -> None:
        pass


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("kind", ["file", "within a file", "pipe", "without tell", "urllib3", None])
def test_an_adapter_without_a_socket(
    session: requests.Session, coding: str, hooked: bool, kind: Optional[str]
) -> None:
    """A hook may read its content. Its body need not have a position, or begin at that of a file:
    an adapter may have read a head from it.
    """
    content = gzip.compress(b"hello") if coding else b"hello"
    headers = {"Content-Encoding": coding} if coding else {}
    read: List[bytes] = []
    if hooked:
        session.hooks["response"].append(lambda response, **_: read.append(response.content))
    with contextlib.ExitStack() as opened:
        raw: Any = io.BytesIO(content)
        if kind == "within a file":
            raw = io.BytesIO(b"head " + content)
            raw.seek(5)
        elif kind == "pipe":
            receiving, sending = os.pipe()
            raw = opened.enter_context(open(receiving, "rb"))
            with open(sending, "wb") as pipe:
                pipe.write(content)
        elif kind == "without tell":
            raw = Positionless(content)
        elif kind == "urllib3":
            options: Any = {"status": 200, "preload_content": False}
            raw = urllib3.HTTPResponse(raw, headers=headers, **options)
        elif kind is None:
            raw = None
        session.mount("canned://", Canned(raw, headers, content))
        with transport(session) as made:
            response = made.send(to("canned://x"), 5.0)
    assert response.body == b"hello"
    assert "content-encoding" not in response.headers
    assert read == [b"hello" if kind == "urllib3" else content] * hooked


def test_hook_may_replace_the_response_of_an_adapter_without_a_socket(
    session: requests.Session,
) -> None:
    def hook(response: requests.Response, **_: Any) -> Any:
        assert response.content == b"hello"
        return Canned(Positionless(b"another"), {}).send(None)

    session.mount("canned://", Canned(io.BytesIO(b"hello"), {}))
    session.hooks["response"].append(hook)
    with transport(session) as made:
        assert made.send(to("canned://x"), 5.0).body == b"another"


class Positionless:
    """A body that has no `tell`. It raises `error` instead of returning its end, if given one."""

    def __init__(self, content: bytes, error: Optional[Exception] = None) -> None:
        self.read = io.BytesIO(content).read if error is None else self._fail
        self._error = error

    def _fail(self, size: int) -> bytes:
        assert self._error is not None
        raise self._error


def test_error_of_a_body_without_a_socket_is_not_blamed_on_a_hook(
    session: requests.Session,
) -> None:
    session.mount("canned://", Canned(Positionless(b"", RuntimeError("the cassette is bent")), {}))
    with transport(session) as made, pytest.raises(RuntimeError, match="the cassette is bent"):
        made.send(to("canned://x"), 5.0)


def test_a_broken_reply_of_an_adapter_without_a_socket(session: requests.Session) -> None:
    headers = {"Content-Length": "5"}
    raw = urllib3.HTTPResponse(
        io.BytesIO(b"hel"), headers=headers, status=200, preload_content=False
    )
    session.mount("canned://", Canned(raw, headers))
    with transport(session) as made:
        body = made.open(to("canned://x"), 5.0)
        assert body.read(5.0) == b"hel"
        with fails(Phase.REPLY_BROKEN):
            body.read(5.0)
        body.close()
        with fails(Phase.REPLY_BROKEN):
            body.read(1.0)


def test_a_refusal_says_that_it_is_the_proxys_but_not_who_goes_there(
    session: requests.Session,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    session.proxies = {"http": f"http://user:secret@127.0.0.1:{port}"}
    with transport(session) as made, fails(Phase.NOT_SENT, "by the proxy") as caught:
        made.send(to("http://x.example"), 5.0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://user:hunter22@[::1", "http://user:hunter\udc8022@proxy"])
def test_a_proxy_that_is_none_has_no_secret(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The secrets are asked for at each error, which another error must not replace."""
    session.proxies = {"http": url, "https": "http://user:password@proxy.example"}
    monkeypatch.setattr(
        "flowmaestro_transports.requests.transport.getproxies", lambda: {"all": url}
    )
    with transport(session) as made:
        assert "password" in made.secrets
        assert "hunter" not in "".join(made.secrets)


def test_end_of_a_body_that_comes_after_the_deadline_is_no_timeout(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, transport() as made:
        body = made.open(post(server, b"all"), 5.0)
        assert body.read(5.0) == b"all"
        hours = itertools.count(0.0, 3600.0)
        clock = SimpleNamespace(monotonic=lambda: next(hours))
        monkeypatch.setattr(requests_body, "time", clock)
        assert body.read(5.0) == b""


def test_connection_that_is_back_in_its_pool_is_not_shut_down(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may use it. A body goes back with its last byte, before its end is read."""
    shut_down: List[Any] = []
    monkeypatch.setattr(urllib3.HTTPResponse, "shutdown", lambda raw: shut_down.append(raw))
    with scripted.ScriptedServer(scripted.echo) as server, transport() as made:
        body = made.open(post(server, b"all"), 5.0)
        assert body.read(5.0) == b"all"
        body.close()
        assert not shut_down
        assert made.send(post(server, b"next"), 5.0).body == b"next"
        open_body = made.open(post(server, b"all"), 5.0)
        open_body.close()
        assert len(shut_down) == 1
    assert server.connections == 1


@pytest.mark.parametrize("is_closed", [False, True])
def test_forked_child_needs_no_lock_that_a_thread_of_its_parent_held(
    monkeypatch: pytest.MonkeyPatch, is_closed: bool
) -> None:
    def locked(*_: Any) -> None:
        raise AssertionError("this would block for ever")

    made: Any = RequestsTransport()
    made._closing = SimpleNamespace(is_set=lambda: is_closed, wait=locked, set=locked)
    number = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: number)
    with pytest.raises(TransportClosedError) if is_closed else contextlib.nullcontext():
        made.sleep(0.0)
    made.close()
    with pytest.raises(TransportClosedError):
        made.sleep(0.0)


class Minimal(Canned):
    close = BaseAdapter.close  # It raises NotImplementedError.


@pytest.mark.parametrize(
    "adapter",
    [Minimal(None, {}, b"hello"), SimpleNamespace(send=Canned(None, {}, b"hello").send)],
    ids=["minimal", "without close"],
)
def test_forked_child_uses_an_adapter_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch, adapter: Any
) -> None:
    unclosed = requests.Session()
    unclosed.mount("canned://", adapter)
    with transport(unclosed) as made:
        number = os.getpid() + 1
        monkeypatch.setattr(os, "getpid", lambda: number)
        for _ in range(2):
            assert made.send(to("canned://x"), 5.0).body == b"hello"


@pytest.mark.parametrize("damaged", [False, True])
def test_bundle_that_cannot_be_read_is_named_and_nothing_is_sent(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    bundle = tmp_path / "company.pem"
    if damaged:
        bundle.write_text("no certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    transport = RequestsTransport()
    with pytest.raises(
        TransportFailure, match=r"REQUESTS_CA_BUNDLE.*company\.pem' cannot"
    ) as caught:
        transport.send(to("https://o.example"), 5.0)
    assert (caught.value.phase, caught.value.permanent) == (Phase.NOT_SENT, True)
    transport.close()


def test_https_proxy_under_an_http_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "https://proxy.example:3128")
    transport = RequestsTransport()
    with pytest.raises(TransportFailure, match="does not verify the certificate") as caught:
        transport.send(to("http://o.example"), 5.0)
    assert (caught.value.phase, caught.value.permanent) == (Phase.NOT_SENT, True)
    transport.close()

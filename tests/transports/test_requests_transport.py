from __future__ import annotations

import gzip
import io
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, Optional

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports.contract import OpenResponse, Transport
from flowmaestro_transports.http11 import content_coding
from flowmaestro_transports.requests.transport import RequestsTransport

SENT = Headers(
    [("X-API-Key", "k"), ("accept", "*/*"), ("Accept-Encoding", "gzip"), ("User-Agent", "test/1")]
)
HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(url: str, path: str = "/", **headers: str) -> Request:
    return Request("GET", url + path, Headers([*SENT.pairs, *headers.items()]))


def post(url: str, body: bytes = b"{}") -> Request:
    return Request("POST", url + "/things", SENT, body)


@contextmanager
def transport(session: Optional[requests.Session] = None, **options: Any) -> Iterator[Any]:
    made = RequestsTransport(session, **options)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def serving(scripted: Any, handler: Any, tls: Any = None, **options: Any) -> Iterator[Any]:
    """A scripted server and a transport beside it."""
    with scripted.ScriptedServer(handler, tls=tls) as server:
        with transport(**options) as made:
            yield server, made
        if tls:  # the server must not shut down a TLS socket that its handler still reads
            for thread in list(server._peers.values()):
                thread.join(5.0)


@contextmanager
def fails(phase: Phase, text: str = "", timed_out: bool = False) -> Iterator[None]:
    with pytest.raises(TransportFailure, match=text or None) as caught:
        yield
    assert (caught.value.phase, caught.value.timed_out) == (phase, timed_out)


def whole(body: OpenResponse) -> bytes:
    pieces = []
    while True:
        piece = body.read(5.0)
        assert piece is not None
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def scripts(*replies: bytes, close: bool = False) -> Any:
    """A handler that answers one request after another, then waits for the client to leave."""

    def handler(peer: Any) -> None:
        for data in replies:
            if peer.read_request() is None:
                return
            peer.send(data)
        if not close:
            peer.wait_closed()

    return handler


def test_it_is_a_transport() -> None:
    with transport() as made:
        assert isinstance(made, Transport)
        begun = made.now()
        made.sleep(0.01)
        assert made.now() - begun >= 0.01


def test_the_request_goes_out_as_it_is(scripted: Any) -> None:
    received = []

    def handler(peer: Any) -> None:
        data = b""
        while b'{"a":1}' not in data:
            data += peer.sock.recv(65536)
        received.append(data)
        peer.send(scripted.reply())

    with scripted.ScriptedServer(handler) as server, transport() as made:
        headers = Headers([("X-b", "1"), ("x-A", "2"), ("Content-Type", "application/json")])
        url = f"{server.url}/a%2Fb/%C3%A9?q=%20x&y=a+b"
        made.send(Request("PUT", url, headers, b'{"a":1}'), 5.0)
    assert received == [
        b"PUT /a%2Fb/%C3%A9?q=%20x&y=a+b HTTP/1.1\r\n"
        + f"Host: 127.0.0.1:{server.port}\r\n".encode()
        + b"X-b: 1\r\nx-A: 2\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
        b'{"a":1}'
    ]


def test_a_connection_is_kept_and_used_again(scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, transport() as made:
        for number in range(5):
            assert made.send(post(server.url, b"%d" % number), 5.0).body == b"%d" % number
        assert server.connections == 1


@pytest.mark.parametrize(
    "ending",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
def test_a_connection_that_ends_with_its_reply_is_not_used_again(
    scripted: Any, ending: bytes
) -> None:
    with scripted.ScriptedServer(scripts(ending, close=True)) as server, transport() as made:
        for _ in range(2):
            assert made.send(get(server.url), 5.0).body == b"ok"
        assert server.connections == 2


def test_a_connection_closed_while_idle_is_noticed(scripted: Any) -> None:
    with (
        scripted.ScriptedServer(scripts(scripted.reply(b"ok"), close=True)) as server,
        transport() as made,
    ):
        for _ in range(3):
            assert made.send(post(server.url), 5.0).body == b"ok"
            time.sleep(0.05)  # the server's goodbye has to arrive


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, transport() as made:
        made.send(get(server.url), 5.0)
        monkeypatch.setattr("flowmaestro_transports.requests.connection.IDLE_SECONDS", 0.0)
        made.send(get(server.url), 5.0)
    assert server.connections == 2


BODIES = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "chunked": HEAD_CHUNKED + b"6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nT: x\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhello world",
}


@pytest.mark.parametrize("data", [BODIES["counted"], BODIES["chunked"]], ids=["counted", "chunked"])
def test_a_body_that_breaks_off_is_never_a_result(scripted: Any, data: bytes) -> None:
    for end in range(data.index(b"\r\n\r\n") + 4, len(data), 5):
        with (
            scripted.ScriptedServer(scripts(data[:end], close=True)) as server,
            transport() as made,
            fails(Phase.REPLY_BROKEN, "ended"),
        ):
            made.send(get(server.url), 5.0)


def test_a_head_that_breaks_off_is_never_a_result(scripted: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n"
    for end in range(1, len(head)):
        with (
            scripted.ScriptedServer(scripts(head[:end], close=True)) as server,
            transport() as made,
            fails(Phase.REPLY_BROKEN),
        ):
            made.send(get(server.url), 5.0)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 131_072 + b"\r\n\r\n",
        HEAD_CHUNKED + b"nonsense\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_garbage_is_refused(scripted: Any, data: bytes) -> None:
    with (
        scripted.ScriptedServer(scripts(data)) as server,
        transport() as made,
        fails(Phase.REPLY_BROKEN),
    ):
        made.send(get(server.url), 5.0)


def test_generous_heads(scripted: Any) -> None:
    lines = [(f"X-{number}", "x") for number in range(88)] + [("X-Long", "x" * 60_000)]
    data = scripted.reply(b"ok", headers=lines)
    with scripted.ScriptedServer(scripts(data)) as server, transport() as made:
        response = made.send(get(server.url), 5.0)
    assert response.headers.pairs[:-1] == tuple(lines)


def test_informational_replies_are_skipped(scripted: Any) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    data = early + early + scripted.reply(b"ok", status="201 Created")
    with scripted.ScriptedServer(scripts(data, data)) as server, transport() as made:
        for _ in range(2):
            response = made.send(get(server.url), 5.0)
            assert (response.status, response.body) == (201, b"ok")
            assert "Link" not in response.headers
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 x")]
)
def test_replies_without_a_body(scripted: Any, method: str, status: str) -> None:
    data = f"HTTP/1.1 {status}\r\nContent-Length: 5\r\nContent-Encoding: br\r\n\r\n".encode()
    with scripted.ScriptedServer(scripts(data, data)) as server, transport() as made:
        for _ in range(2):
            assert made.send(Request(method, server.url, SENT), 5.0).body == b""
        assert server.connections == 1


@pytest.mark.parametrize("cut", [1, 10, 10_000])
def test_gzip_is_undone(scripted: Any, cut: int) -> None:
    coded = gzip.compress(b"hello world")
    chunks = [coded[at : at + cut] for at in range(0, len(coded), cut)]
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
        + b"".join(map(scripted.chunk, [*chunks, b""]))
    )
    with scripted.ScriptedServer(scripts(data, data)) as server, transport() as made:
        response = made.send(get(server.url), 5.0)
        assert response.body == b"hello world"
        assert "content-encoding" not in response.headers
        body = made.open(get(server.url), 5.0)
        assert "content-encoding" not in body.headers
        assert whole(body) == b"hello world"


@pytest.mark.parametrize(
    ("coding", "content"),
    [("gzip", gzip.compress(b"hello")[:-3]), ("gzip", b"plain"), ("br", b"x"), ("gzip, br", b"x")],
    ids=["cut off", "not gzip", "unknown", "two"],
)
def test_what_cannot_be_inflated_is_no_result(scripted: Any, coding: str, content: bytes) -> None:
    data = scripted.reply(content, headers=[("Content-Encoding", coding)])
    with (
        scripted.ScriptedServer(scripts(data)) as server,
        transport() as made,
        fails(Phase.REPLY_BROKEN),
    ):
        made.send(get(server.url), 5.0)


def test_a_reply_is_bounded(scripted: Any) -> None:
    limit = content_coding.MAX_BODY
    data = scripted.reply(
        gzip.compress(bytes(limit + 1), 1), headers=[("Content-Encoding", "gzip")]
    )
    with (
        scripted.ScriptedServer(scripts(data)) as server,
        transport() as made,
        fails(Phase.REPLY_BROKEN, f"more than {limit} bytes"),
    ):
        made.send(get(server.url), 20.0)


def test_patience_loses_nothing(scripted: Any) -> None:
    go_on = threading.Semaphore(0)
    # It runs out within a chunk header, within a chunk, within the line end after it.
    pieces = [HEAD_CHUNKED + b"0", b"5;x", b"y\r", b"\nhe", b"llo\r", b"\n0\r\n", b"\r\n"]

    def handler(peer: Any) -> None:
        peer.read_request()
        for piece in pieces:
            peer.send(piece)
            go_on.acquire(timeout=5.0)
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server, transport() as made:
        body = made.open(get(server.url), 5.0)
        heard = []
        for _ in pieces:
            while True:
                data = body.read(0.05)
                if data is None:
                    break
                heard.append(data)
                if not data:
                    break
            go_on.release()
        assert b"".join(heard) == b"hello"
        assert heard[-1] == b""
        body.close()


def test_no_patience_at_all(scripted: Any) -> None:
    with scripted.ScriptedServer(scripts(HEAD_CHUNKED)) as server, transport() as made:
        body = made.open(get(server.url), 5.0)
        assert body.read(0.0) is None
        assert body.read(-1.0) is None
        threading.Timer(0.1, body.close).start()
        with fails(Phase.REPLY_BROKEN, "closed"):
            body.read(float("inf"))


def test_refused_is_not_sent(scripted: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with transport() as made, fails(Phase.NOT_SENT, "refused"):
        made.send(get(f"http://127.0.0.1:{port}"), 5.0)


def test_unknown_host_is_not_sent() -> None:
    with transport() as made, fails(Phase.NOT_SENT):
        made.send(get("http://no-such-host.invalid"), 5.0)


def test_no_time_is_not_sent(scripted: Any) -> None:
    with (
        scripted.ScriptedServer(scripted.echo) as server,
        transport() as made,
        fails(Phase.NOT_SENT, timed_out=True),
    ):
        made.send(get(server.url), 0.0)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_nothing_is_repeated_on_a_kept_connection(scripted: Any, method: str) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"ok"))
        peer.read_request()
        peer.reset()

    with scripted.ScriptedServer(handler) as server, transport() as made:
        made.send(get(server.url), 5.0)
        with fails(Phase.MAYBE_PROCESSED):
            made.send(Request(method, server.url, SENT), 5.0)
        assert len(server.requests) == 2


@pytest.mark.parametrize("where", ["head", "body", "chunk header"])
def test_dribbling_bytes_do_not_stretch_the_timeout(scripted: Any, where: str) -> None:
    before = {
        "head": b"HTTP/1.1 200 OK\r\nX: ",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "chunk header": HEAD_CHUNKED + b"1;",
    }

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(before[where])
        while True:
            peer.send(b"x")
            time.sleep(0.02)

    phase = Phase.MAYBE_PROCESSED if where == "head" else Phase.REPLY_BROKEN
    with scripted.ScriptedServer(handler) as server, transport() as made:
        begun = time.monotonic()
        with fails(phase, timed_out=True):
            made.send(get(server.url), 0.3)
        assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("what", ["body", "transport"])
@pytest.mark.parametrize("tls", [False, True])
def test_close_wakes_a_blocked_reader(
    scripted: Any, authority: Any, tmp_path: Any, what: str, tls: bool
) -> None:
    server_context, ca_file = tls_pair(authority, tmp_path)
    context = server_context if tls else None
    with serving(scripted, scripts(HEAD_CHUNKED), context, verify=ca_file) as (server, made):
        body = made.open(get(server.url), 5.0)
        failures = []

        def read() -> None:
            try:
                body.read(30.0)
            except TransportFailure as failure:
                failures.append((failure.phase, failure.message))

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.1)  # let it block
        (body if what == "body" else made).close()
        reader.join(5.0)
        assert failures == [(Phase.REPLY_BROKEN, "the stream was closed")]


def test_a_finished_stream_gives_its_connection_back(scripted: Any) -> None:
    data = scripted.reply(b"ok")
    with scripted.ScriptedServer(scripts(data, data)) as server, transport() as made:
        for _ in range(2):
            body = made.open(get(server.url), 5.0)
            assert whole(body) == b"ok"
            body.close()
        assert server.connections == 1


def test_bytes_beyond_the_reply_spoil_the_connection(scripted: Any) -> None:
    data = scripted.reply(b"ok") + b"HTTP/1.1 500 Not Yours\r\nContent-Length: 0\r\n\r\n"
    with scripted.ScriptedServer(scripts(data)) as server, transport() as made:
        for _ in range(2):
            assert made.send(get(server.url), 5.0).body == b"ok"


def test_calls_are_bounded_and_streams_do_not_count(scripted: Any) -> None:
    lock = threading.Lock()
    now = most = 0

    def handler(peer: Any) -> None:
        nonlocal now, most
        while True:
            request = peer.read_request()
            if request is None:
                return
            if request.target == "/stream":
                peer.send(HEAD_CHUNKED)
                continue
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            peer.send(scripted.reply(request.target.encode()))

    with scripted.ScriptedServer(handler) as server, transport(max_connections=2) as made:
        streams = [made.open(get(server.url, "/stream"), 5.0) for _ in range(5)]
        answers = {}

        def call(number: int) -> None:
            answers[number] = made.send(get(server.url, f"/{number}"), 5.0).body

        threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {number: b"/%d" % number for number in range(12)}
        assert most == 2
        assert server.connections == 5 + 2
        for stream in streams:
            stream.close()


def test_waiting_for_a_connection_counts(scripted: Any) -> None:
    begun = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        begun.set()
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server, transport(max_connections=1) as made:

        def hold() -> None:
            with fails(Phase.MAYBE_PROCESSED, timed_out=True):
                made.send(get(server.url), 1.0)

        holder = threading.Thread(target=hold)
        holder.start()
        begun.wait(5.0)
        with fails(Phase.NOT_SENT, "no connection", timed_out=True):
            made.send(get(server.url), 0.1)
        holder.join()


def test_use_after_close(scripted: Any) -> None:
    with scripted.ScriptedServer(scripts(HEAD_CHUNKED)) as server, transport() as made:
        body = made.open(get(server.url), 5.0)
        made.close()
        made.close()
        with fails(Phase.REPLY_BROKEN, "closed"):
            body.read(1.0)
        for use in (made.send, made.open):
            with pytest.raises(RuntimeError, match="closed"):
                use(get(server.url), 5.0)


def tls_pair(authority: Any, tmp_path: Any, host: str = "127.0.0.1") -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return context, str(ca_file)


def test_tls(scripted: Any, authority: Any, tmp_path: Any) -> None:
    context, ca_file = tls_pair(authority, tmp_path)

    def handler(peer: Any) -> None:
        while True:
            request = peer.read_request()
            if request is None:
                return
            peer.send(HEAD_CHUNKED + b"5\r\nhello\r\n")
            if request.method == "POST":
                peer.send(b"0\r\n\r\n")

    with serving(scripted, handler, context, verify=ca_file) as (server, made):
        for _ in range(2):
            assert made.send(post(server.url, b"x" * 100_000), 5.0).body == b"hello"
        body = made.open(get(server.url), 5.0)
        assert body.read(5.0) == b"hello"
        assert body.read(0.05) is None
        body.close()
        assert server.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "example.org"])
def test_tls_is_verified(scripted: Any, authority: Any, tmp_path: Any, host: str) -> None:
    context, ca_file = tls_pair(authority, tmp_path, host)
    verify: Any = True if host == "127.0.0.1" else ca_file
    with (
        serving(scripted, scripted.echo, context, verify=verify) as (server, made),
        fails(Phase.NOT_SENT, "(?i)certificate"),
    ):
        made.send(post(server.url), 5.0)
    assert not server.requests


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


def test_a_callers_session(scripted: Any, session: requests.Session) -> None:
    sent = []

    class Counting(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            sent.append(request.method)
            return super().send(request, *args, **options)

    session.headers["X-Mine"] = "session"
    session.auth = ("me", "secret")
    session.cookies.set("a", "b")
    session.mount("http://127.0.0.1", Counting())
    cookie = [("Set-Cookie", "c=d")]
    data = scripted.reply(b"ok", headers=cookie)
    with scripted.ScriptedServer(scripts(data, HEAD_CHUNKED + b"1\r\nx\r\n")) as server:
        with transport(session) as made:
            assert made.send(post(server.url), 5.0).body == b"ok"
            body = made.open(get(server.url), 5.0)
            assert body.read(5.0) == b"x"
            assert body.read(0.05) is None
        assert sent == ["POST", "GET"]
        assert dict(session.cookies) == {"a": "b"}
        assert "cookie" not in server.requests[0]
        assert "authorization" not in server.requests[0]
        assert "x-mine" not in server.requests[0]
    with scripted.ScriptedServer(scripted.echo) as server:
        assert session.post(server.url, data=b"still open").content == b"still open"


def test_a_callers_session_reports_phases(scripted: Any, session: requests.Session) -> None:
    with transport(session) as made:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with fails(Phase.NOT_SENT, "refused"):
            made.send(get(f"http://127.0.0.1:{port}"), 5.0)
        with fails(Phase.NOT_SENT):
            made.send(get("nothing://here"), 5.0)
        with (
            scripted.ScriptedServer(lambda peer: peer.read_request()) as server,
            fails(Phase.MAYBE_PROCESSED),
        ):
            made.send(post(server.url), 5.0)
        with (
            scripted.ScriptedServer(lambda peer: peer.wait_closed()) as server,
            fails(Phase.MAYBE_PROCESSED, timed_out=True),
        ):
            made.send(post(server.url), 0.2)
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n" + scripted.reply(b"ok")
        with (
            scripted.ScriptedServer(scripts(early)) as server,
            fails(Phase.REPLY_BROKEN, "informational"),
        ):
            made.send(post(server.url), 5.0)


class Canned(BaseAdapter):
    """An adapter without a network, as test doubles are."""

    def __init__(self, raw: Any, headers: Any = ()) -> None:
        super().__init__()
        self.raw = raw
        self.headers = dict(headers)

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        response = requests.Response()
        response.status_code = 200
        response.headers.update(self.headers)
        response.raw = self.raw
        return response

    def close(self) -> None:
        pass


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("kind", ["file", "urllib3"])
def test_an_adapter_without_a_socket(session: requests.Session, coding: str, kind: str) -> None:
    content = gzip.compress(b"hello") if coding else b"hello"
    headers = {"Content-Encoding": coding} if coding else {}
    raw: Any = io.BytesIO(content)
    if kind == "urllib3":
        raw = urllib3.HTTPResponse(raw, headers=headers, status=200, preload_content=False)
    session.mount("canned://", Canned(raw, headers))
    with transport(session) as made:
        response = made.send(get("canned://x"), 5.0)
        assert response.body == b"hello"
        assert "content-encoding" not in response.headers


def test_a_broken_reply_of_an_adapter_without_a_socket(session: requests.Session) -> None:
    raw = urllib3.HTTPResponse(
        io.BytesIO(b"hel"), headers={"Content-Length": "5"}, status=200, preload_content=False
    )
    session.mount("canned://", Canned(raw))
    with transport(session) as made:
        body = made.open(get("canned://x"), 5.0)
        with fails(Phase.REPLY_BROKEN):
            whole(body)
        body.close()
        with fails(Phase.REPLY_BROKEN, "closed"):
            body.read(1.0)


@pytest.mark.parametrize(
    "option",
    [{"verify": False}, {"client_cert": "me.pem"}, {"trust_env": False}, {"proxy": "http://p"}],
    ids=lambda option: next(iter(option)),
)
def test_what_belongs_to_a_session(session: requests.Session, option: Any) -> None:
    with pytest.raises(ValueError, match="belong to the session"):
        RequestsTransport(session, **option)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        RequestsTransport(max_connections=0)

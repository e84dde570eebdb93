"""The fake server over real sockets, asked with raw bytes and with the standard library."""

from __future__ import annotations

import errno
import hashlib
import hmac
import http.client
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest
from anyio.from_thread import start_blocking_portal

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node, running_server, serve
from flowmaestro.testing.conformance.scripted_server import ScriptedServer, reply
from flowmaestro.testing.fake.model.seeds import FAILING_WORKFLOW_ID
from flowmaestro.testing.fake.server.connection import ServerConnection
from flowmaestro.testing.fake.server.exchanges import InspectedRequest
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.serve import _Server
from flowmaestro.testing.fake.server.sockets import Peer
from flowmaestro_core.http.messages import Response
from flowmaestro_transports import AiohttpTransport, AnyioTransport

SHORT = 60.0


@pytest.fixture
def fake():
    return FakeFlowMaestro(epoch=time.time())


@pytest.fixture
def url(fake):
    with running_server(fake) as url:
        yield url


@pytest.fixture
def connection(url):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SHORT)
    yield connection
    connection.close()


def raw_connection(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=SHORT)


def ask(connection, fake, method, path, body=None):
    headers = {"X-API-Key": fake.api_key, "Content-Type": "application/json"}
    payload = None if body is None else json.dumps(body)
    connection.request(method, f"/api/v1{path}", payload, headers)
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()


def read_until(sock, mark):
    data = b""
    while mark not in data:
        piece = sock.recv(4096)
        assert piece, f"closed before {mark!r}: {data!r}"
        data += piece
    return data


def wait_for(condition):
    deadline = time.monotonic() + SHORT
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def head(method, path, key, *fields):
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: localhost", f"X-API-Key: {key}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_chunked_event_stream_and_then_keep_alive(url, fake):
    # Slow enough that the stream is open before the end, however busy the machine is.
    fake.workflow("wf_two", nodes=[Node("a", seconds=5), "b"])
    with raw_connection(url) as sock:
        sock.sendall(head("POST", "/workflows/wf_two/execute", fake.api_key, "Content-Length: 0"))
        _, _, body = read_until(sock, b'"}}').partition(b"\r\n\r\n")
        execution_id = json.loads(body)["data"]["execution_id"]
        sock.sendall(head("GET", f"/executions/{execution_id}/events", fake.api_key))
        first = read_until(sock, b"connected")
        assert b"Transfer-Encoding: chunked" in first
        assert b"Content-Length" not in first
        # Asked before the stream ends, and answered after it.
        sock.sendall(head("GET", "/workflows/wf_123", fake.api_key))
        rest = read_until(sock, b"\r\n0\r\n\r\n")
        assert rest.count(b"event: node:completed") == 2
        assert b"event: execution:completed" in rest
        if b'"Hello"' not in rest:
            read_until(sock, b'"Hello"')


def test_a_reader_that_hangs_up_is_noticed(url, fake):
    with raw_connection(url) as sock:
        sock.sendall(head("GET", "/executions/exec_xyz789/events", fake.api_key))
        read_until(sock, b"connected")
        assert fake.open_streams == 1
    wait_for(lambda: fake.open_streams == 0)


def test_head_and_no_content():
    fake = FakeFlowMaestro("documented")
    with running_server(fake) as url, raw_connection(url) as sock:
        paths = ("/workflows/wf_123", "/executions/exec_xyz789/events", "/nowhere")
        for path in paths:
            sock.sendall(head("HEAD", path, fake.api_key))
            reply = read_until(sock, b"\r\n\r\n")
            assert reply.endswith(b"\r\n\r\n")
        found = [(each.method, each.path, each.status) for each in fake.requests]
        assert found == [("HEAD", path, status) for path, status in zip(paths, (200, 200, 404))]
        assert fake.open_streams == 0
        sock.sendall(head("DELETE", "/threads/thread_xyz789", fake.api_key))
        reply = read_until(sock, b"\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 204")
        assert b"Content-Length" not in reply
        sock.sendall(head("GET", "/threads/thread_xyz789", fake.api_key))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 404")


def test_head_has_the_length_of_get_and_no_body(connection, fake):
    replies = [ask(connection, fake, method, "/workflows/wf_123") for method in ("GET", "HEAD")]
    (_, got, body), (status, headers, nothing) = replies
    assert (status, nothing) == (200, b"")
    assert headers["Content-Length"] == got["Content-Length"] == str(len(body))
    assert headers["Content-Type"] == got["Content-Type"]


def test_expect_100_continue(url, fake):
    fields = ("Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue")
    with raw_connection(url) as sock:
        sock.sendall(head("POST", "/workflows/wf_123/execute", fake.api_key, *fields))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        sock.sendall(b"{}")
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 202")


def test_a_body_that_is_too_long(connection, fake):
    status, _, _ = ask(connection, fake, "POST", "/workflows/wf_123/execute", "x" * 3_000_000)
    assert status == 413
    assert ask(connection, fake, "GET", "/workflows")[0] == 200


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n"]
)
def test_bytes_that_are_not_http_are_refused(url, sent, connection, fake):
    with raw_connection(url) as sock:
        try:
            sock.sendall(sent)
            reply = sock.recv(4096)
        except OSError:  # it may have hung up before it was told everything
            reply = b"HTTP/1.1 4"
        assert reply.startswith(b"HTTP/1.1 4")
    assert ask(connection, fake, "GET", "/workflows")[0] == 200, "others are not disturbed"


def test_other_forms_of_a_target(url, fake):
    key = fake.api_key
    for target in ("http://h/api/v1/workflows", "//api/v1/workflows", "/x//[/api/v1/workflows"):
        with raw_connection(url) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: [\r\nX-API-Key: {key}\r\n\r\n".encode())
            assert read_until(sock, b"\r\n\r\n").startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))


def test_http_1_0_and_connection_close(url, fake):
    with raw_connection(url) as sock:
        request = head("GET", "/workflows", fake.api_key, "Connection: close")
        sock.sendall(request)
        while sock.recv(65536):
            pass
    with raw_connection(url) as sock:
        sock.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_stopping_with_work_in_flight(fake):
    with running_server(fake) as url:
        stream = raw_connection(url)
        stream.sendall(head("GET", "/executions/exec_xyz789/events", fake.api_key))
        read_until(stream, b"connected")
        unfinished = raw_connection(url)
        unfinished.sendall(head("GET", "/executions", fake.api_key)[:-2])
    for sock in (stream, unfinished):
        # Closed, or reset where the server had not read everything.
        with sock, suppress(ConnectionResetError):
            while sock.recv(65536):
                pass
    assert fake.open_streams == 0
    with pytest.raises(OSError, match="refused"):
        raw_connection(url)


def test_an_address_that_is_taken(url):
    taken = running_server(FakeFlowMaestro(), port=urlsplit(url).port)
    with pytest.raises(OSError, match="in use"), taken:
        pass


def receiving(*statuses):
    """A subscriber that answers with `statuses`, one after the other, then 200."""
    left = list(statuses)

    def answer(peer):
        while peer.read_request() is not None:
            peer.send(reply(status=f"{left.pop(0) if left else 200} Heard"))

    return ScriptedServer(answer)


def subscribe(connection, fake, url, event="execution.completed"):
    body = {"name": "Mine", "url": url, "events": [event]}
    return json.loads(ask(connection, fake, "POST", "/webhooks", body)[2])["data"]


def test_webhooks_are_really_delivered_and_repeated(fake):
    with receiving(503) as receiver, running_server(fake, speed=1000.0) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SHORT)
        hook = subscribe(connection, fake, f"{receiver.url}/hook", "execution.failed")
        ask(connection, fake, "POST", f"/workflows/{FAILING_WORKFLOW_ID}/execute", {})
        wait_for(lambda: len(receiver.requests) >= 2)
        first, second = receiver.requests[:2]
        connection.close()
        assert first.body != second.body
        assert json.loads(first.body) == json.loads(second.body)
        for request in (first, second):
            signature = hmac.new(hook["secret"].encode(), request.body, hashlib.sha256).hexdigest()
            assert request["X-FlowMaestro-Signature"] == f"v1={signature}"
            assert request["X-FlowMaestro-Delivery-ID"] == first["X-FlowMaestro-Delivery-ID"]
        error = 'Workflow completed with 1 failed nodes: {"call":"Activity task failed"}'
        assert json.loads(first.body)["data"]["error"] == error
        wait_for(lambda: any(d.webhook_id == hook["id"] for d in fake.deliveries))


def test_test_webhook_reports_the_receivers_answer(connection, fake):
    def outcome(webhook_id):
        status, _, body = ask(connection, fake, "POST", f"/webhooks/{webhook_id}/test", {})
        assert status == 200
        return json.loads(body)["data"]

    with receiving(500) as receiver:
        hook = subscribe(connection, fake, f"{receiver.url}/hook")
        assert outcome(hook["id"])["status_code"] == 500
    assert outcome(hook["id"])["success"] is False
    assert outcome("wh_abc123")["success"] is True, "documentation's hosts accept everything"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_serving_as_a_task(backend):
    async def main():
        fake = FakeFlowMaestro()
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(serve, fake)
            parts = urlsplit(url)
            async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
                await stream.send(head("GET", "/workflows", fake.api_key))
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
                await stream.send(head("GET", "/executions/exec_xyz789/events", fake.api_key))
                while b"connected" not in await stream.receive():
                    pass
                assert fake.open_streams == 1
                tasks.cancel_scope.cancel()
        assert fake.open_streams == 0

    anyio.run(main, backend=backend)


class TestTheHost:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:8787", "app.localhost:1", "localhost.", "127.0.0.1", "[::1]:8787"],
    )
    def test_a_loopback_name_is_answered(self, url, fake, host):
        assert self.status(url, fake, host) == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example:8787", "10.0.0.1", "localhost.evil.example", "notlocalhost", "[", "0.0.0.0",
         "127.0.0.1.evil.example", "evil@127.0.0.1.nip.io", "[::ffff:10.0.0.1]", ""],
    )  # fmt: skip
    def test_any_other_name_is_refused(self, url, fake, host):
        assert self.status(url, fake, host) == 400
        assert fake.requests == [], "the model never hears of it"

    def test_the_refusal_names_the_host(self, url, fake):
        with raw_connection(url) as sock:
            sock.sendall(self.request(fake, "evil.example"))
            reply = read_until(sock, b"}}")
        assert b"Host is 'evil.example'" in reply

    def test_on_another_address_any_name_is_answered(self, fake):
        with running_server(fake, "0.0.0.0") as url:
            local = url.replace("0.0.0.0", "127.0.0.1")
            assert self.status(local, fake, "flowmaestro.test") == 200

    def test_a_loopback_address_in_other_words_is_the_only_other_name(self, fake):
        with running_server(fake, "127.1") as url:
            assert self.status(url, fake, "127.1") == self.status(url, fake, "localhost") == 200
            assert self.status(url, fake, "evil.example") == 400

    def test_the_inspector_answers_to_no_other_name(self, fake):
        async def served(*, task_status):
            await serve(fake, inspector=Inspector(fake), task_status=task_status)

        fault = b'{"kind": "drop"}'
        with start_blocking_portal() as portal:
            task, url = portal.start_task(served)
            for host, status in (("evil.example", 400), ("localhost", 200)):
                for line in ("GET /", "GET /_inspect/requests", "POST /_inspect/faults"):
                    fields = f"Host: {host}\r\nContent-Length: {len(fault)}\r\n\r\n"
                    with raw_connection(url) as sock:
                        sock.sendall(f"{line} HTTP/1.1\r\n{fields}".encode() + fault)
                        assert int(read_until(sock, b"\r\n\r\n").split()[1]) == status, line
                assert len(fake.armed_faults) == (status == 200)
            task.cancel()

    def request(self, fake, host):
        return head("GET", "/workflows", fake.api_key).replace(
            b"Host: localhost", f"Host: {host}".encode()
        )

    def status(self, url, fake, host):
        with raw_connection(url) as sock:
            sock.sendall(self.request(fake, host))
            return int(read_until(sock, b"\r\n\r\n").split()[1])


class TestWebhooksThatMayNotLeave:
    def outcome(self, target, allowed):
        """What a test delivery to `target` says, and what the log says."""

        async def main():
            async with anyio.create_task_group() as tasks:
                fake = FakeFlowMaestro()
                url = await tasks.start(partial(serve, fake, allow_webhooks_to=allowed))
                async with AsyncFlowMaestroClient(
                    fake.api_key, base_url=url, transport=AiohttpTransport()
                ) as client:
                    hook = await client.webhooks.create(
                        name="Mine", url=target, events=["execution.completed"]
                    )
                    outcome = await client.webhooks.test(hook["data"]["id"])
                tasks.cancel_scope.cancel()
            return outcome["data"]

        return anyio.run(main)

    def test_a_delivery_to_loopback_is_sent(self, caplog):
        with receiving() as receiver:
            assert self.outcome(f"{receiver.url}/hook", [])["success"] is True
        assert len(receiver.requests) == 1
        assert caplog.messages == []

    @pytest.mark.parametrize("target", ["http://192.0.2.1/hook", "http://[2001:db8::1]/hook"])
    def test_a_delivery_to_another_host_fails_with_a_warning(self, target, caplog):
        assert self.outcome(target, [])["success"] is False
        (message,) = caplog.messages
        assert message.startswith("webhook not sent to ")

    def test_go_where_they_are_allowed_to(self, monkeypatch, caplog):
        sent = []

        async def send(transport, request, timeout):
            sent.append(request.url)
            return Response(200, {})

        monkeypatch.setattr(AnyioTransport, "send", send)
        assert self.outcome("http://Receiver.test/hook", ["receiver.TEST"])["success"] is True
        assert sent == ["http://Receiver.test/hook"]
        assert caplog.messages == []

    def test_the_hosts_are_a_list(self):
        with pytest.raises(TypeError, match="allow_webhooks_to must be a list of hosts"):
            anyio.run(partial(serve, FakeFlowMaestro(), allow_webhooks_to="receiver.test"))


@pytest.mark.parametrize("target", [b"/", b"api.example.com:443", b"*"])
def test_connect_is_not_allowed_and_the_server_goes_on(url, connection, fake, target):
    with raw_connection(url) as sock:
        sock.sendall(b"CONNECT " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        refusal = read_until(sock, b"\r\n\r\n")
        assert refusal.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nallow: delete, get, head, patch, post, put\r\n" in refusal.lower()
        assert sock.recv(1) == b""
    assert ask(connection, fake, "GET", "/workflows")[0] == 200


def test_an_error_of_the_fake_is_a_500_and_the_server_goes_on(url, connection, fake, caplog):
    def fail(request, now):
        raise RuntimeError("a bug")

    working, fake.handle = fake.handle, fail
    assert ask(connection, fake, "GET", "/workflows")[0] == 500
    fake.handle = working
    connection.close()
    assert ask(connection, fake, "GET", "/workflows")[0] == 200
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]


def test_a_client_that_sends_too_much_during_a_stream_is_left(url, connection, fake):
    fake.workflow("wf_long", nodes=["a"], hangs_at="a")
    body = ask(connection, fake, "POST", "/workflows/wf_long/execute", {})[2]
    execution_id = json.loads(body)["data"]["execution_id"]
    with raw_connection(url) as sock:
        sock.sendall(head("GET", f"/executions/{execution_id}/events", fake.api_key))
        read_until(sock, b"connected")
        sent = 0
        with suppress(OSError):
            while sent < 64 * 1024 * 1024:  # what the sockets buffer on the way is far less
                sent += sock.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        assert sent < 64 * 1024 * 1024
    wait_for(lambda: fake.open_streams == 0)


def test_a_delivery_to_loopback_asks_no_proxy(fake, monkeypatch):
    with receiving(200) as proxy, receiving(200) as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with running_server(fake) as url:
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SHORT)
            hook = subscribe(connection, fake, f"{receiver.url}/hook", "execution.failed")
            assert ask(connection, fake, "POST", f"/webhooks/{hook['id']}/test")[0] == 200
            away = subscribe(connection, fake, "http://receiver.invalid/hook", "execution.failed")
            assert ask(connection, fake, "POST", f"/webhooks/{away['id']}/test")[0] == 200
            connection.close()
    assert [len(receiver.requests), len(proxy.requests)] == [1, 1], "the other one needs the proxy"


def test_the_model_s_clock_is_the_wall_clock(fake):
    """It does not drift from the clock that clients compare its timestamps with."""
    times = [1000.0, 1600.65, 1500.0, 1501.0]
    server = _Server(fake, None, None, None, 1.0, clock=iter(times).__next__)
    now = [server.now() - fake.now for _ in range(3)]
    assert now == pytest.approx([600.65, 600.65, 601.65]), "goes on where the clock is set back"
    began = fake.unix_time(fake.now)
    late = _Server(fake, None, None, None, 1.0, clock=iter([began + 0.5, began + 2.0]).__next__)
    assert late.now() - fake.now == pytest.approx(2.0), "keeps to the clock that is its epoch"
    fast = _Server(fake, None, None, None, 10.0, clock=iter(times).__next__)
    assert fast.now() - fake.now == pytest.approx(10 * 600.65)


class TestSpeed:
    @pytest.mark.parametrize("speed", [0, -1.0, float("nan"), float("inf")])
    def test_a_speed_that_is_not_above_zero_and_finite_is_refused(self, fake, speed):
        message = "speed must be a finite number above 0, not "
        with pytest.raises(ValueError, match=message), running_server(fake, speed=speed):
            pass

    @pytest.mark.parametrize("speed", ["2", None, True])
    def test_a_speed_that_is_not_a_number_is_refused(self, fake, speed):
        message = "speed must be a number, not "
        with pytest.raises(TypeError, match=message), running_server(fake, speed=speed):
            pass


def test_a_connection_whose_client_has_left_is_closed_at_once():
    class Left(socket.socket):
        def setsockopt(self, *args):
            raise OSError(errno.EINVAL, "Invalid argument")

    sock = Left()
    with pytest.raises(OSError, match="Invalid argument"):
        Peer(sock)
    assert sock.fileno() == -1


def test_the_inspector_redacts_in_another_thread(fake, monkeypatch):
    threads = {}
    for owner, name in ((InspectedRequest, "details"), (Inspector, "arrived")):
        real = getattr(owner, name)

        def noting(self, *args, name=name, real=real):
            threads[name] = threading.get_ident()
            return real(self, *args)

        monkeypatch.setattr(owner, name, noting)
    with start_blocking_portal() as portal:
        serving = partial(serve, inspector=Inspector(fake))
        server, url = portal.start_task(serving, fake, "127.0.0.1", 0)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SHORT)
        ask(connection, fake, "GET", "/workflows")
        connection.request("GET", "/_inspect/requests/1")
        assert json.loads(connection.getresponse().read())["path"] == "/api/v1/workflows"
        monkeypatch.setattr(InspectedRequest, "details", lambda self: 1 / 0)
        connection.request("GET", "/_inspect/requests/1")
        assert connection.getresponse().status == 500
        connection.close()
        server.cancel()
    assert threads["details"] != threads["arrived"]


async def turns_during(job):
    """How often another task has its turn until `job` is done."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await job()
        tasks.cancel_scope.cancel()
    return turns


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pairs of sockets")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_others_have_their_turn_while_a_client_sends_without_a_pause(backend):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for _ in range(50):
        theirs.send(b"x")
    peer = Peer.__new__(Peer)  # TCP_NODELAY is not for this kind of socket.
    peer._sock, peer._came_at_once = ours, False
    ours.setblocking(False)

    async def receive():
        for _ in range(50):
            assert await peer.receive() == b"x"

    assert anyio.run(turns_during, receive, backend=backend) >= 40
    ours.close()
    theirs.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_others_have_their_turn_between_requests_that_came_together(fake, backend):
    class Sending:
        data = b"GET /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50

        async def receive(self):
            data, self.data = self.data, b""
            return data

        async def send(self, data):
            pass

        def close(self):
            pass

    connection = ServerConnection(Sending(), lambda request: fake.handle(request, 0.0), float)
    assert anyio.run(turns_during, connection.run, backend=backend) >= 40
    assert len(fake.requests) == 50

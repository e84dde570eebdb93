"""The inspector: what it keeps, what it tells, and whom it answers."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tracemalloc
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote, urlsplit

import anyio
import pytest

from flowmaestro import FlowMaestroClient, ServerError
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.fake.model import dispatch
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.service import MAX_MISSED
from flowmaestro.testing.fake.server import exchanges
from flowmaestro.testing.fake.server.exchanges import MAX_BODY_BYTES, MAX_EXCHANGES, MAX_KEPT_BYTES
from flowmaestro.testing.fake.server.inspector import (
    MAX_OUTBOX,
    MORE_REQUESTS,
    Inspector,
    _work_now,
)
from flowmaestro.testing.fake.server.serve import _Server, serve
from flowmaestro_core.http.messages import Request, Response


class World:
    """A fake behind an inspector, as a server drives them; time stands still."""

    def __init__(self):
        self.fake = FakeFlowMaestro()
        self.time = 0.0
        self.inspector = Inspector(self.fake, now=lambda: self.time)

    def send(self, method, path, body=b"", **headers) -> FakeReply:
        fields = {**self.fields, **headers}
        request = Request(method, f"http://localhost{path}", fields, body)
        exchange = self.inspector.arrived(request)
        reply = self.inspector.answer(request) or self.fake.handle(request, 0.0)
        if exchange is not None:
            self.inspector.responded(exchange, reply)
        return reply

    def sends_again(self, send):
        """Attach a server that carries out requests again with `send`."""
        self.inspector.attach(
            has_page=True,
            send=send,
            model_time=lambda: 0.0,
            changed=lambda: None,
            work=_work_now,
        )

    def look(self, path):
        return json.loads(self.send("GET", f"/_inspect/{path}").body)

    def state(self):
        """Return the first message that a page gets."""
        return told(self.send("GET", "/_inspect/feed").stream)[0]

    def execute(self, id, **options):
        """Start an execution. Return its id."""
        with self.client() as client:
            return client.workflows.execute(id, **options)["data"]["execution_id"]

    def execute_with_webhook(self, url="https://a.test/", **options):
        """Start an execution whose end, 10 s later at most, is told to a webhook. Return its id."""
        with self.client() as client:
            client.webhooks.create(name="Mine", url=url, events=["execution.completed"])
        execution_id = self.execute("wf_123", **options)
        self.fake.advance(10.0)
        return execution_id

    def deliver(self, status):
        """Answer the deliveries that are due at 10 s. Return them."""
        due = self.fake.due(10.0)
        for each in due:
            self.fake.delivered(each, status, 10.0)
            self.inspector.delivered(each)
        return due

    @property
    def fields(self):
        return {"Host": "localhost:8787", "X-API-Key": self.fake.api_key}

    def client(self):
        def send(request):
            path = request.url.partition("//")[2].partition("/")[2]
            reply = self.send(
                request.method,
                f"/{path}",
                request.body,
                **{**dict(request.headers.pairs), "Host": "localhost:8787"},
            )
            return Response(reply.status, reply.headers, reply.body)

        return FlowMaestroClient(self.fake.api_key, transport=send, max_retries=0)


@pytest.fixture
def world():
    return World()


def told(feed):
    """Return the messages that a feed has for its page."""
    lines = (feed.poll(0.0) or b"").split(b"\n\n")
    return [json.loads(line.partition(b": ")[2]) for line in lines if line]


def test_requests_and_their_replies_are_kept_without_credentials(world):
    world.execute("wf_123", inputs={"name": "Ada", "password": "swordfish"})
    (row,) = world.look("requests")
    assert (row["method"], row["path"]) == ("POST", "/api/v1/workflows/wf_123/execute")
    kept = world.look("requests/1")
    assert "Ada" in kept["request_body"]
    assert json.loads(kept["body"])["data"]["status"] == "pending"
    assert world.fake.api_key not in json.dumps(kept)
    assert "swordfish" not in json.dumps(kept)
    assert world.look("requests?before=1") == []


def test_at_most_10000_requests_are_kept(world):
    for _ in range(MAX_EXCHANGES + 1):
        world.inspector.arrived(Request("GET", "http://localhost/api/v1/workflows", {}, b""))
    assert [row["id"] for row in world.look("requests?before=4")] == [2, 3]
    rows = world.look("requests")
    assert len(rows) == MORE_REQUESTS, "to write all of them would hold the server up"
    assert rows[-1]["id"] == MAX_EXCHANGES + 1
    assert world.state()["kept_bytes"] == 0


def test_the_oldest_bodies_are_dropped_beyond_the_cap(world):
    body = b'{"inputs": {"text": "%s"}}' % (b"x" * 900_000)
    for _ in range(2 + MAX_KEPT_BYTES // len(body)):
        world.inspector.arrived(Request("POST", "http://localhost/api/v1/x", {}, body))
    assert world.state()["kept_bytes"] <= MAX_KEPT_BYTES
    first, last = world.look("requests/1"), world.look(f"requests/{len(world.look('requests'))}")
    assert (first["body_dropped"], first["request_body"]) == (True, "")
    assert (last["body_dropped"], len(last["request_body"])) == (False, len(body))
    assert world.send("POST", "/_inspect/requests/1/send").status == 400


def test_attempts_of_one_call_are_linked(world):
    world.fake.fail_next(2, 429)
    execute = ("POST", "/api/v1/workflows/wf_123/execute")
    for _ in range(3):
        world.send(*execute, **{"Idempotency-Key": "one"})
    (fault,) = world.state()["faults"]
    assert (fault["times"], fault["left"]) == (2, 0)
    world.send(*execute, **{"Idempotency-Key": "another"})
    world.fake.fail_next(path="/workflows")
    for _ in range(2):
        world.send("GET", "/api/v1/workflows")
    world.send("GET", "/api/v1/workflows", **{"X-FlowMaestro-Attempt": "2"})
    rows = world.look("requests")
    assert [row["retry_of"] for row in rows] == [None, 1, 1, None, None, None, None]
    world.fake.fail_next(path="/workflows")
    world.send("GET", "/api/v1/workflows")
    world.send("GET", "/api/v1/workflows", **{"X-FlowMaestro-Attempt": "2"})
    assert [row["retry_of"] for row in world.look("requests")[7:]] == [None, 8]
    assert [row["code"] for row in rows[:3]] == ["rate_limit_exceeded"] * 2 + [None]


def test_attempts_are_linked_before_the_server_knows_that_the_first_has_failed(world):
    for path, attempt in (("workflows", 1), ("workflows", 1), ("agents", 1), ("workflows", 2)):
        fields = {"X-FlowMaestro-Attempt": str(attempt)} if attempt > 1 else {}
        world.inspector.arrived(Request("GET", f"http://localhost/api/v1/{path}", fields))
    assert [row["retry_of"] for row in world.look("requests")] == [None, None, None, 2]


def test_a_client_that_leaves_before_the_response_is_said_to_have_left(world):
    lines = []
    world.fake.delay_next(600.0)

    async def main():
        started, left = anyio.Event(), anyio.Event()
        world.fake.note_changes(lambda *_: started.set())

        def log(line):
            lines.append(line)
            left.set()

        world.inspector = Inspector(world.fake, now=lambda: world.time, log=log)
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(partial(serve, inspector=world.inspector), world.fake)
            target = urlsplit(url)
            async with await anyio.connect_tcp(target.hostname, target.port) as client:
                fields = f"Host: localhost\r\nX-API-Key: {world.fake.api_key}\r\nContent-Length: 0"
                execute = "POST /api/v1/workflows/wf_123/execute HTTP/1.1"
                await client.send(f"{execute}\r\n{fields}\r\n\r\n".encode())
                await started.wait()
                world.time = 1.0
            await left.wait()
            world.time = 4.0
            world.fake.advance(world.fake.now + 600.0)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(main)
    (row,), (execution,) = world.look("requests"), world.fake.executions
    assert (row["status"], row["ended"], row["ms"]) == (None, "left", 1000.0)
    assert row["execution"] == execution.id
    assert lines == ["POST /api/v1/workflows/wf_123/execute left by the client 1000 ms"]


def test_a_retry_after_an_attempt_that_the_client_has_left_is_linked(world):
    get = Request("GET", "http://localhost/api/v1/workflows", world.fields)
    world.inspector.left(world.inspector.arrived(get))
    world.send("GET", "/api/v1/workflows", **{"X-FlowMaestro-Attempt": "2"})
    assert [row["retry_of"] for row in world.look("requests")] == [None, 1]


def test_a_request_is_linked_with_its_execution(world):
    with world.client() as client:
        execution_id = client.workflows.execute("wf_123")["data"]["execution_id"]
        client.executions.get(execution_id)
        client.workflows.list()
    assert [row["execution"] for row in world.look("requests")] == [execution_id] * 2 + [None]
    assert [row["poll"] for row in world.look("requests")] == [False, True, False]


@pytest.mark.parametrize("how", ["complete", "cut", "left"])
def test_the_row_of_a_stream_says_how_it_ended(world, how):
    request = Request("GET", "http://localhost/api/v1/executions/exec_123/events", world.fields)
    exchange = world.inspector.arrived(request)
    world.inspector.responded(exchange, world.fake.handle(request, 0.0))
    world.time = 9.0
    world.inspector.streamed(exchange, b"event: connected\ndata: {}\n\n: keepalive\n\n")
    world.inspector.stream_ended(exchange, how)
    (row,) = world.look("requests")
    assert (row["events"], row["ended"], row["ms"]) == (1, how, 9000.0)


def test_a_copied_command_has_the_variable_in_place_of_the_key(world):
    world.execute("wf_123", inputs={"name": "Ada"})
    kept = world.look("requests/1")
    assert '"X-API-Key: $FLOWMAESTRO_API_KEY"' in kept["curl"]
    assert "http://localhost:8787/api/v1/workflows/wf_123/execute" in kept["curl"]
    arguments = "'POST', '/workflows/wf_123/execute', json={'inputs': {'name': 'Ada'}}"
    assert f"client.request({arguments})" in kept["python"]
    compile(kept["python"], "copied", "exec")
    assert world.fake.api_key not in kept["curl"] + kept["python"]


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("[::1]:8787", "http://[::1]:8787"),
        ("api.localhost", "http://api.localhost"),
        ("evil.example", "http://localhost"),  # The copied command would send the key there.
        ("localhost.evil.example", "http://localhost"),
        ("evil.example\\@localhost", "http://localhost"),
        ('localhost:1")+__import__("os").system("id")#', "http://localhost"),
    ],
)
def test_a_copied_program_has_no_code_and_no_server_of_the_client(world, host, server):
    method, fields = "`id`|id", {"Host": host, "`id`$(id)|id": "IDEMPOTENCY_KEY"}
    world.send(method, "/api/v1/workflows", b'{"a": "\'`id`"}', **fields)
    kept = world.look("requests/1")
    calls = [each for each in ast.walk(ast.parse(kept["python"])) if isinstance(each, ast.Call)]
    called = {ast.unparse(each.func): each for each in calls}
    assert set(called) == {"FlowMaestroClient", "client.request", "print"}
    assert ast.literal_eval(called["FlowMaestroClient"].keywords[0].value) == server
    command = kept["curl"].replace("\\\n", "")
    assert shlex.split(command)[:4] == ["curl", "--request", method, f"{server}/api/v1/workflows"]
    # A shell replaces nothing between single quotes. A single quote itself is between double ones.
    outside = re.sub("'[^']*'", "", command.replace("""'"'"'""", ""))
    assert "`" not in outside
    assert "$(" not in outside


def test_only_a_request_that_is_stored_whole_is_copied(world, monkeypatch):
    monkeypatch.setattr(exchanges, "MAX_KEPT_BYTES", MAX_BODY_BYTES)
    path = "/api/v1/workflows/none/execute"
    world.send("POST", path, b'{"a": 1}')  # Its body is dropped.
    world.send("GET", path)  # Only the body of its response is dropped.
    world.send("GET", path, **{"X-Request-ID": "x" * 5000})  # Its header fields are dropped.
    world.send("POST", path, b"[%s]" % (b"1," * MAX_BODY_BYTES))  # Its body is truncated.
    world.send("POST", path, b"[1]")
    seen = [world.look(f"requests/{number}") for number in (1, 2, 3, 4, 5)]
    assert [kept["body_dropped"] for kept in seen] == [True, True, True, True, False]
    comment = "# only a part of this request is kept, so it cannot be copied"
    for part, start in (("curl", "curl --request "), ("python", "import os")):
        whole = [kept[part].startswith(start) for kept in seen]
        assert whole == [False, True, False, False, True]
        assert {kept[part] for kept, it in zip(seen, whole) if not it} == {comment}


def test_an_execution_is_shown_with_its_data_events_requests_and_deliveries(world):
    execution_id = world.execute_with_webhook(inputs={"name": "Ada"})
    world.deliver(200)
    shown = world.look(f"executions/{execution_id}")
    assert (shown["inputs"], shown["outputs"]) == ({"name": "Ada"}, {"message": "Hello, Ada!"})
    assert [event["type"] for event in shown["events"]][-1] == "execution:completed"
    assert [row["status"] for row in shown["requests"]] == [202]
    assert {row["event"] for row in shown["deliveries"]} == {"execution.completed"}
    assert world.send("GET", "/_inspect/executions/none").status == 404


def test_a_running_execution_is_cancelled_and_an_ended_one_is_not(world):
    world.fake.workflow("wf_slow", nodes=[Node("a", seconds=60)])
    execution_id = world.execute("wf_slow")
    world.fake.advance(1.0)
    path = f"/_inspect/executions/{execution_id}/cancel"
    assert json.loads(world.send("POST", path).body)["status"] == "cancelled"
    assert world.send("POST", path).status == 400
    assert world.send("POST", "/_inspect/executions/none/cancel").status == 404


def test_a_request_is_sent_again_with_the_key_that_it_had(world):
    world.execute("wf_123", inputs={"name": "Ada"})
    assert world.send("POST", "/_inspect/requests/1/send").status == 400  # no server
    sent = []
    world.sends_again(sent.append)
    assert json.loads(world.send("POST", "/_inspect/requests/1/send").body) == {"id": 2}
    (again,) = sent
    assert again.request.headers.get("x-api-key") == world.fake.api_key
    assert world.look("requests")[1]["sent_again"] == 1


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_request_whose_stored_body_is_truncated_is_not_sent_again(world, beyond):
    sent = []
    world.sends_again(sent.append)
    body = b'{"a": "%s"}' % (b"x" * (MAX_BODY_BYTES - 9 + beyond))
    world.send("POST", "/api/v1/workflows/wf_123/execute", body)
    kept = world.look("requests/1")
    assert (kept["request_truncated"], len(kept["request_body"])) == (beyond == 1, MAX_BODY_BYTES)
    assert not kept["body_truncated"]
    reply = world.send("POST", "/_inspect/requests/1/send")
    assert (reply.status, len(sent)) == ((400, 0) if beyond else (200, 1))
    assert not beyond or b"only the beginning of the body of this request is kept" in reply.body


def test_the_fault_of_a_request_that_is_sent_again_is_not_shown_at_another_one(world):
    """The request is sent by a task, which begins after another request has arrived."""
    begun = []

    async def main():
        server = _Server(world.fake, None, None, None, 1.0)
        world.sends_again(lambda it: begun.append(server._send_again(world.inspector, it)))
        world.send("GET", "/api/v1/workflows")
        world.send("POST", "/_inspect/requests/1/send")
        world.send("GET", "/api/v1/agents")
        world.fake.fail_next(503, path="/workflows")
        await begun[0]

    anyio.run(main)
    rows = world.look("requests")
    assert [(row["path"], row["status"], row["fault"]) for row in rows] == [
        ("/api/v1/workflows", 200, None),
        ("/api/v1/workflows", 503, "status 503"),
        ("/api/v1/agents", 200, None),
    ]


def test_a_delivery_is_sent_again_once_it_has_ended(world):
    world.execute_with_webhook()
    delivery = world.deliver(200)[0]
    assert world.send("POST", f"/_inspect/deliveries/{delivery.id}/send").status == 200
    assert world.send("POST", f"/_inspect/deliveries/{delivery.id}/send").status == 400
    assert [each.id for each in world.deliver(503)] == [delivery.id]
    kept = world.look(f"deliveries/{delivery.id}")
    assert [attempt["status"] for attempt in kept["attempts"]] == [200, 503]


def test_a_fault_says_what_it_hit_and_can_be_disarmed(world):
    armed = json.loads(
        world.send(
            "POST",
            "/_inspect/faults",
            b'{"kind": "fail", "status": 503, "times": 3, "path": "/workflows"}',
        ).body
    )
    with world.client() as client:
        client.agents.list()
        with pytest.raises(ServerError):
            client.workflows.list()
    (fault,) = world.state()["faults"]
    assert (fault["left"], fault["hits"]) == (2, [2])
    assert (fault["method"], fault["path"], fault["by"]) == (None, "/workflows", "inspector")
    assert [row["fault"] for row in world.look("requests")] == [None, "status 503"]
    disarmed = json.loads(world.send("POST", f"/_inspect/faults/{armed['id']}/disarm").body)
    assert disarmed["left"] == 0
    with world.client() as client:
        client.workflows.list()
    assert world.fake.armed_faults == []
    assert world.send("POST", "/_inspect/faults/none/disarm").status == 404


def test_a_fault_that_a_test_armed_is_shown_too(world):
    world.fake.drop_connection(path="/agents")
    (fault,) = world.state()["faults"]
    assert (fault["effect"], fault["left"]) == ("a dropped connection", 1)
    assert (fault["by"], fault["at"]) == ("program", 0.0)


def test_a_feed_sends_new_requests_until_it_is_closed(world):
    feed = world.send("GET", "/_inspect/feed").stream
    with world.client() as client:
        client.workflows.list()
    assert [(each["kind"], each["status"]) for each in told(feed) if each["kind"] == "request"] == [
        ("request", None),
        ("request", 200),
    ]
    feed.close()
    world.send("GET", "/api/v1/workflows")
    assert feed.poll(0.0) == b""


def test_an_attempted_delivery_is_sent_to_open_and_later_pages(world):
    world.execute_with_webhook("https://me:pw@host.test/whsec_0123456789?token=hush")
    feed = world.send("GET", "/_inspect/feed").stream
    world.deliver(503)
    assert b'"state": "pending", "status": 503, "attempts": [{' in feed.poll(0.0)
    kept = world.state()["deliveries"][-1]
    assert kept["event"] == "execution.completed"
    assert kept["url"] == "https://host.test/***?token=***"
    assert "hush" not in json.dumps(kept)


def test_the_fake_keeps_no_more_than_the_inspector_needs(world):
    world.fake.keep_last(3)
    for _ in range(5):
        world.execute("wf_123")
    with world.client() as client:
        assert len(client.executions.list()["data"]) > 5
    assert [it.json for it in world.fake.requests] == [{"inputs": {}}] * 2 + [None]
    assert len(world.fake.executions) == 3
    with pytest.raises(ValueError, match="most must be at least 1, not 0"):
        world.fake.keep_last(0)


@pytest.mark.parametrize("name", ["body", "query", "id", "Idempotency-Key", "X-Request-ID"])
def test_many_large_requests_that_fail_take_little_memory(world, monkeypatch, name):
    monkeypatch.setattr(exchanges, "MAX_KEPT_BYTES", 2_000_000)
    monkeypatch.setattr(dispatch, "MAX_LOGGED_BYTES", 2_000_000)
    tracemalloc.start()
    try:
        for number in range(30):
            text = f"{number}".ljust(1_100_000, ".")
            large = {"body": json.dumps(text).encode()} if name == "body" else {name: text}
            status = 413 if name == "body" else 500
            path = "/api/v1/workflows/none/execute"
            if name in ("query", "id"):
                path = f"{path}?{text}" if name == "query" else path.replace("none", text)
                large = {}
            assert world.send("POST", path, **large).status == status
        for number in range(1000):  # `urlsplit` stores the URLs of its last calls.
            urlsplit(f"/{number}")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 8_000_000
    assert len(world.fake.requests) == 1


def test_header_fields_of_at_most_4_kib_are_kept_without_limit(world, monkeypatch):
    monkeypatch.setattr(exchanges, "MAX_KEPT_BYTES", 10_000)
    for size in (3000, 9000, 9000):
        world.send("GET", "/api/v1/workflows/none", **{"X-Request-ID": "x" * size})
    found = []
    for number in (1, 2, 3):
        kept = world.look(f"requests/{number}")
        fields = [dict(kept[each]) for each in ("request_headers", "headers")]
        found.append([len(each.get("X-Request-ID", "")) for each in fields])
    assert found == [[3000, 3000], [0, 0], [9000, 9000]]
    assert world.look("requests/2")["path"] == "/api/v1/workflows/none"


def test_a_long_url_is_redacted_before_it_is_truncated(world, monkeypatch):
    monkeypatch.setattr(exchanges, "MAX_KEPT_BYTES", 10_000)
    # Only the beginning of the key is within the part of the URL that is kept.
    path = f"{'/api/v1/'.ljust(4060, '.')}/{world.fake.api_key}/"
    for size in (5000, 9000):
        world.send("GET", path.ljust(size, "."))
    first, last = world.look("requests/1"), world.look("requests/2")
    assert (first["body_dropped"], last["body_dropped"]) == (True, False)
    assert (len(first["path"]), first["path"][4058:4067]) == (4096, "../***/..")
    assert first["curl"].startswith("# only a part of this request is kept")
    assert last["curl"].startswith("curl ")


def test_many_ids_that_do_not_exist_take_little_memory(world):
    for number in range(MAX_MISSED + 1):
        world.fake.workflow(f"wf_{number}")
        world.send("GET", f"/api/v1/workflows/none_{number}")
    shown = world.fake.report().partition("Not there")[2]
    assert f"({MAX_MISSED - 20} before)" in shown
    assert shown.count(", wf_") <= 20 * 20


def test_the_timeline_of_a_running_execution_grows(world):
    world.fake.workflow("wf_slow", nodes=[Node("a", seconds=60)])
    execution_id = world.execute("wf_slow")
    world.fake.advance(1.0)
    began = world.send("GET", f"/_inspect/timelines/{execution_id}").body.decode()
    assert ">total ≥ 0.95 s, running<" in began
    world.fake.advance(3.5)
    grown = world.send("GET", f"/_inspect/timelines/{execution_id}").body.decode()
    assert ">total ≥ 3.45 s, running<" in grown


def test_a_timeline_is_drawn_of_events_that_were_read_under_the_lock_of_the_fake(world):
    locked = []

    class Events(deque):
        def __iter__(self):
            with ThreadPoolExecutor(1) as another:
                taken = another.submit(world.fake.lock.acquire, blocking=False).result()
            locked.append(not taken)
            return super().__iter__()

    execution_id = world.execute("wf_123")
    world.inspector._events[execution_id] = Events(world.inspector._events[execution_id])
    world.send("GET", f"/_inspect/timelines/{execution_id}")
    assert locked == [True]


def test_nonsense_arms_no_fault(world):
    bodies = [b"{", b'{"kind": "x"}', b'{"kind": "fail", "status": 200}', b"[]", b"7", b'"x"']
    for nonsense in (*bodies, b"[" * 100_000, b"\xff", b'{"kind": "fail", "x": 1}'):
        assert world.send("POST", "/_inspect/faults", nonsense).status == 400
    assert world.fake.armed_faults == []


def test_a_request_number_with_letters_or_too_many_digits_is_refused(world):
    assert world.look("requests?before=" + 12 * "9") == []
    assert world.send("GET", "/_inspect/requests?before=x").status == 400
    assert world.send("GET", "/_inspect/requests?before=" + 13 * "9").status == 400


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/_inspect/requests"), ("POST", "/_inspect/faults")],
)
def test_no_other_page_can_read_or_drive_it(headers, method, path):
    assert World().send(method, path, b'{"kind": "drop"}', **headers).status == 403


def test_malformed_inspector_request_is_refused(world):
    assert world.send("GET", "/_inspect/requests", Origin="http://[").status == 400
    assert world.look("requests") == []


def test_the_page_is_served_to_itself_and_loads_nothing_from_elsewhere():
    own = {"Origin": "http://localhost:8787", "Sec-Fetch-Site": "same-origin"}
    for path in ("/", "/_inspect/requests"):
        assert World().send("HEAD", path, **own).status == 200
    page = World().send("GET", "/", **own)
    assert page.status == 200
    assert b"https://" not in page.body
    assert "default-src 'none'" in page.headers.get("content-security-policy")


def test_routes_are_listed_and_unknown_paths_are_not_found(world):
    assert "POST /workflows/{id}/execute" in world.look("routes")
    assert world.send("GET", "/_inspect/nothing").status == 404
    assert world.send("GET", "/_inspect/requests/7").status == 404
    assert world.send("DELETE", "/_inspect/requests").status == 405


def test_a_secret_in_a_path_or_a_form_is_neither_kept_nor_logged(world):
    log = []
    world.inspector = Inspector(world.fake, now=lambda: world.time, log=log.append)
    own = "no-usual-look/of a key"
    key = world.fake.add_key(own)
    path = "/api/v1/workflows/fm_live_0123456789/no-usual-look%2Fof%20a%20key"
    form = b"name=Ada&password=sword%20fish&api_key=whatever1&accessToken=t0ken&note=x"
    world.send("POST", path, form, **{"X-API-Key": key})
    (row,) = world.look("requests")
    assert row["path"] == "/api/v1/workflows/***/***"
    assert log[0].startswith("POST /api/v1/workflows/***/*** ")
    kept = world.look("requests/1")["request_body"]
    assert kept == "name=Ada&password=***&api_key=***&accessToken=***&note=x"


def search(world, text):
    found = world.look(f"search?text={quote(text)}")
    return found["found"], found["back_to"]


def test_a_search_finds_text_in_bodies_as_they_are_shown(world):
    world.execute("wf_123", inputs={"name": "Zwölf", "password": "swordfish"})
    world.execute("wf_123", inputs={"name": "Ada"})
    assert search(world, "ZWÖLF") == ([1], None)
    assert search(world, "execution_id") == ([2, 1], None)
    for hidden in ("swordfish", "dfish", world.fake.api_key, "nothing"):
        assert search(world, hidden) == ([], None)


def test_a_search_tells_where_it_stopped(world):
    body = b'{"inputs": {"text": "needle %s"}}' % (b"x" * 400_000)
    for _ in range(5):
        world.send("POST", "/api/v1/workflows/wf_123/execute", body)
    assert search(world, "needle") == ([5, 4, 3], 3)


def test_the_events_of_a_stream_have_times(world):
    request = Request("GET", "http://localhost/api/v1/executions/exec_123/events", world.fields)
    exchange = world.inspector.arrived(request)
    world.inspector.responded(exchange, world.fake.handle(request, 0.0))
    for seconds, data in ((0.5, b"data: {}\n\nevent: x\ndata: {}\n\n"), (2.0, b"data: {}\n\n")):
        world.time = seconds
        world.inspector.streamed(exchange, data)
    assert world.look("requests/1")["event_ms"] == [500.0, 500.0, 2000.0]


def test_a_page_that_does_not_read_loses_its_feed_and_opens_another_one(world):
    feed = world.send("GET", "/_inspect/feed").stream
    woken = []
    feed.wake = lambda: woken.append(feed.poll(0.0))
    feed.publish({"text": "x" * MAX_OUTBOX})
    assert woken == [b""]


def test_all_times_are_of_one_clock(world):
    world.time = 1_000.0
    world.fake.workflow("wf_slow", nodes=[Node("a", seconds=60)])
    execution_id = world.execute("wf_slow")
    world.time = 1_004.5
    world.fake.fail_next()
    world.send("POST", f"/_inspect/executions/{execution_id}/cancel")
    state = world.state()
    (execution,) = [each for each in state["executions"] if each["id"] == execution_id]
    assert (state["requests"][0]["at"], state["requests"][0]["ms"]) == (1_000.0, 0.0)
    assert (execution["at"], execution["ended_at"]) == (1_000.0, 1_004.5)
    assert (state["now"], state["faults"][0]["at"]) == (1_004.5, 1_004.5)
    assert state["model_time"] == world.fake.unix_time(0.0)


def test_a_clock_that_is_set_back_makes_no_duration_negative(world):
    world.time = 1_000.0
    request = Request("GET", "http://localhost/api/v1/workflows", world.fields)
    exchange = world.inspector.arrived(request)
    world.time = 900.0
    world.inspector.responded(exchange, world.fake.handle(request, 0.0))
    assert exchange.seconds == 0.0


def test_requests_with_their_own_secrets_compile_no_expressions_as_they_come(world, monkeypatch):
    """To compile one takes 5 ms, in which the server answers nobody. What a page asks for may."""
    compiled = []
    real = re.compile
    monkeypatch.setattr(re, "compile", lambda *args: compiled.append(args) or real(*args))
    for number in range(100):
        secret = f'own-session-{number}/"quoted"'
        body = json.dumps({"said": secret, "needle": True}).encode()
        headers = {"X-Session-Id": secret}
        world.send("POST", "/api/v1/x", body, **headers)
    assert compiled == []
    assert len(world.look("search?text=needle")["found"]) == 100
    shown = world.look("requests/100")
    assert json.loads(shown["request_body"]) == {"said": "***", "needle": True}


def test_times_of_events_of_a_dropped_body_are_dropped(monkeypatch):
    monkeypatch.setattr(exchanges, "MAX_KEPT_BYTES", 100)
    kept = exchanges.Exchanges()
    get = Request("GET", "http://localhost/api/v1/executions/e/events", {}, b"")
    streaming, other = kept.add(get, 0.0), kept.add(get, 0.0)
    for exchange in (streaming, other):
        exchange.streams = True
        kept.received(exchange, b"event: a\ndata: {}\n\n" * 5, 1.0)
    kept.received(streaming, b"event: a\ndata: {}\n\n", 2.0)
    assert (streaming.body_dropped, streaming.events) == (True, 6)
    assert streaming.event_seconds == []
    assert len(other.event_seconds) == 5


def test_a_lost_response_says_which_execution_it_started(world):
    world.fake.drop_connection(path="/workflows/*/execute")
    world.send(
        "POST", "/api/v1/workflows/wf_123/execute", b"{}", **{"Content-Type": "application/json"}
    )
    (row,) = world.look("requests")
    (execution,) = world.fake.executions
    assert (row["status"], row["execution"]) == (None, execution.id)
    assert world.look(f"executions/{execution.id}")["workflow_id"] == "wf_123"


def test_a_refusal_is_explained_to_the_person_and_not_to_the_client(world):
    lines = []
    world.inspector._log = lines.append
    reply = world.send("GET", "/api/v1/workflows/wf_12")
    assert b"wf_123" not in reply.body
    hint = world.look("requests/1")["hint"]
    assert hint.startswith("there is no workflow wf_12; there are wf_123, wf_abc123")
    assert lines[1] == f"  {hint}"
    world.send("GET", "/api/v1/workflows", **{"X-API-Key": "fm_live_other"})
    assert world.look("requests/2")["hint"] == "another key was sent than this server has printed"
    world.send("GET", "/api/v1/nothing")
    world.send("GET", "/api/v1/workflows")
    assert [world.look(f"requests/{number}")["hint"] for number in (3, 4)] == ["", ""]


def test_a_name_in_place_of_an_id_is_said_to_be_a_name(world):
    lines = []
    world.inspector._log = lines.append
    world.fake.workflow("wf_report", name="Nightly report")
    for path in ("workflows/Nightly%20report/execute", "agents/Nightly%20report"):
        world.send("POST" if "execute" in path else "GET", f"/api/v1/{path}")
    hint = "there is no workflow Nightly report; that is the name of wf_report"
    assert (world.look("requests/1")["hint"], lines[1]) == (hint, f"  {hint}")
    assert world.look("requests/2")["hint"].startswith("there is no agent Nightly report; there ")


def test_only_the_latest_of_many_ids_are_told_as_such(world):
    for number in range(9):
        world.fake.workflow(f"wf_{number}", outputs={})
    world.send("GET", "/api/v1/workflows/wf_12")
    hint = world.look("requests/1")["hint"]
    assert hint.endswith("; the latest are wf_3, wf_4, wf_5, wf_6, wf_7, wf_8")


def test_an_id_that_two_kinds_lack_is_explained_by_the_kind_that_was_asked_for(world):
    id = "00000000-0000-4000-8000-000000000009"
    hints = []
    for path in (f"/threads/{id}", f"/executions/{id}", f"/workflows/{id}", f"/threads/{id}"):
        world.send("GET", f"/api/v1{path}")
        hints.append(world.look(f"requests/{len(hints) + 1}")["hint"].partition(" 0")[0])
    kinds = ("thread", "execution", "workflow", "thread")
    assert hints == [f"there is no {kind}" for kind in kinds]


def test_a_spent_fault_is_not_armed(world):
    world.fake.fail_next()
    world.fake.drop_connection(path="/agents")
    assert [fault["state"] for fault in world.state()["faults"]] == ["armed", "armed"]
    world.send("GET", "/api/v1/workflows")
    name = world.state()["faults"][1]["id"]
    world.send("POST", f"/_inspect/faults/{name}/disarm")
    assert [fault["state"] for fault in world.state()["faults"]] == ["spent", "disarmed"]

"""The inspector: what it keeps, what it tells, and whom it answers."""

from __future__ import annotations

import json

import pytest

from flowmaestro import FlowMaestroClient, ServerError
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.model.replies import FakeReply
from flowmaestro.testing.server.inspector import LONGEST_BODY, MOST_EXCHANGES, Inspector
from flowmaestro_core.http.messages import Request, Response


class World:
    """A fake behind an inspector, as a server drives them; time stands still."""

    def __init__(self):
        self.fake = FakeFlowMaestro()
        self.time = 0.0
        self.inspector = Inspector(self.fake, now=lambda: self.time)

    def send(self, method, path, body=b"", **headers) -> FakeReply:
        fields = {"Host": "localhost:8787", "X-API-Key": self.fake.api_key, **headers}
        request = Request(method, f"http://localhost{path}", fields, body)
        exchange = self.inspector.asked(request)
        reply = self.inspector.answer(request) or self.fake.handle(request, 0.0)
        if exchange is not None:
            self.inspector.answered(exchange, reply)
        return reply

    def look(self, path):
        return json.loads(self.send("GET", f"/_inspect/{path}").body)

    def client(self):
        def send(request):
            path = request.url.partition("//")[2].partition("/")[2]
            reply = self.send(
                request.method, f"/{path}", request.body, **dict(request.headers.pairs)
            )
            return Response(reply.status, reply.headers, reply.body)

        return FlowMaestroClient(self.fake.api_key, transport=send, max_retries=0)


def test_requests_and_their_replies_are_kept_without_credentials():
    world = World()
    with world.client() as client:
        client.workflows.execute("wf_123", inputs={"name": "Ada", "password": "swordfish"})
    (row,) = world.look("requests")
    assert (row["method"], row["path"]) == ("POST", "/api/v1/workflows/wf_123/execute")
    kept = world.look("requests/1")
    assert "Ada" in kept["request_body"]
    assert json.loads(kept["body"])["data"]["status"] == "pending"
    assert world.fake.api_key not in json.dumps(kept)
    assert "swordfish" not in json.dumps(kept)
    assert world.look("requests?after=1") == []


def test_it_keeps_a_bounded_number_of_requests_and_of_bytes():
    world = World()
    body = b'{"inputs": {"text": "%s"}}' % (b"x" * 2 * LONGEST_BODY)
    json_type = {"Content-Type": "application/json"}
    world.send("POST", "/api/v1/workflows/wf_123/execute", body, **json_type)
    kept = world.look("requests/1")
    assert len(kept["request_body"]) == len(kept["body"]) == LONGEST_BODY
    for _ in range(MOST_EXCHANGES):
        world.inspector.asked(Request("GET", "http://localhost/api/v1/workflows", {}, b""))
    rows = world.look("requests")
    assert len(rows) == MOST_EXCHANGES
    assert rows[0]["id"] == 2


def test_a_feed_tells_of_what_is_new():
    world = World()
    feed = world.send("GET", "/_inspect/feed").stream
    with world.client() as client:
        client.workflows.list()
    told = [
        json.loads(line.partition(b": ")[2])
        for line in feed.poll(0.0).split(b"\n\n")
        if line.startswith(b"data")
    ]
    assert [(each["kind"], each["status"]) for each in told if each["kind"] == "request"] == [
        ("request", None),
        ("request", 200),
    ]
    feed.close()
    world.send("GET", "/api/v1/workflows")
    assert feed.poll(0.0) is None


def test_a_delivery_is_told_when_it_is_attempted_and_kept_for_pages_that_open_later():
    world = World()
    with world.client() as client:
        client.webhooks.create(
            name="Mine", url="https://me:pw@host.test/?token=hush", events=["execution.completed"]
        )
        client.workflows.execute("wf_123")
    world.fake.advance(10.0)
    feed = world.send("GET", "/_inspect/feed").stream
    for delivery in world.fake.due(10.0):
        world.fake.delivered(delivery, 503, 10.0)
        world.inspector.delivered(delivery)
    assert b'"state": "pending", "status": 503, "attempts": 1' in feed.poll(0.0)
    kept = world.look("state")["deliveries"][-1]
    assert kept["event"] == "execution.completed"
    assert "hush" not in json.dumps(kept)


def test_the_fake_keeps_no_more_than_the_inspector_needs():
    world = World()
    world.fake.keep_last(3)
    with world.client() as client:
        for _ in range(5):
            client.workflows.execute("wf_123")
        assert len(client.executions.list()["data"]) > 5
    assert [it.json for it in world.fake.requests] == [{"inputs": {}}] * 2 + [None]
    assert len(world.fake.executions) == 3
    with pytest.raises(ValueError, match="most must be at least 1, not 0"):
        world.fake.keep_last(0)


def test_an_execution_has_a_timeline_even_on_a_silent_server():
    world = World()
    with world.client() as client:
        execution_id = client.workflows.execute("wf_123")["data"]["execution_id"]
    world.fake.advance(10.0)
    svg = world.send("GET", f"/_inspect/timelines/{execution_id}").body.decode()
    assert "Compose greeting" in svg
    (ended,) = [each for each in world.look("state")["executions"] if each["id"] == execution_id]
    assert ended["status"] == "completed"


def test_the_timeline_of_what_runs_grows():
    world = World()
    world.fake.workflow("wf_slow", nodes=[Node("a", seconds=60)])
    with world.client() as client:
        execution_id = client.workflows.execute("wf_slow")["data"]["execution_id"]
    world.time = 1.0
    world.fake.advance(1.0)
    began = world.send("GET", f"/_inspect/timelines/{execution_id}").body.decode()
    assert ">total 0.75 s<" in began
    world.time = 3.5
    grown = world.send("GET", f"/_inspect/timelines/{execution_id}").body.decode()
    assert ">total 3.25 s<" in grown


def test_the_next_request_is_broken_on_demand():
    world = World()
    fault = b'{"kind": "fail", "status": 503}'
    assert world.send("POST", "/_inspect/faults", fault).status == 200
    with world.client() as client:
        with pytest.raises(ServerError):
            client.workflows.list()
        client.workflows.list()
    bodies = [b"{", b'{"kind": "x"}', b'{"kind": "fail", "status": 200}', b"[]", b"7", b'"x"']
    for nonsense in (*bodies, b"[" * 100_000, b"\xff", b'{"kind": "fail", "x": 1}'):
        assert world.send("POST", "/_inspect/faults", nonsense).status == 400


def test_requests_are_asked_for_by_number_only():
    world = World()
    assert world.look("requests?after=0") == []
    assert world.send("GET", "/_inspect/requests?after=x").status == 400


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
@pytest.mark.parametrize("path", ["/", "/_inspect/requests", "/_inspect/faults"])
def test_no_other_page_can_read_or_drive_it(headers, path):
    method = "POST" if path.endswith("faults") else "GET"
    assert World().send(method, path, b'{"kind": "drop"}', **headers).status == 403


def test_what_cannot_be_read_is_refused_and_ends_nothing():
    world = World()
    assert world.send("GET", "/_inspect/requests?after=x").status == 400
    assert world.send("GET", "/_inspect/requests", Origin="http://[").status == 400
    assert world.look("requests") == []


def test_its_own_page_can_and_the_page_loads_nothing_from_elsewhere():
    own = {"Origin": "http://localhost:8787", "Sec-Fetch-Site": "same-origin"}
    page = World().send("GET", "/", **own)
    assert page.status == 200
    assert b"https://" not in page.body
    assert "default-src 'none'" in page.headers.get("content-security-policy")


def test_routes_are_listed_and_unknown_paths_are_not_found():
    world = World()
    assert "POST /workflows/{id}/execute" in world.look("routes")
    assert world.send("GET", "/_inspect/nothing").status == 404
    assert world.send("GET", "/_inspect/requests/7").status == 404
    assert world.send("DELETE", "/_inspect/requests").status == 405


def test_a_secret_in_a_path_or_a_form_is_neither_kept_nor_logged():
    world, log = World(), []
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


def test_the_url_of_a_delivery_shows_no_key():
    world = World()
    url = "https://example.com/hooks/whsec_0123456789?token=swordfish"
    with world.client() as client:
        hook = client.webhooks.create(name="n", url=url, events=["execution.completed"])
    started = world.fake.handle(
        Request(
            "POST",
            f"http://localhost/api/v1/webhooks/{hook['data']['id']}/test",
            {"X-API-Key": world.fake.api_key},
            b"",
        ),
        0.0,
    )
    (delivery,) = world.fake.due(0.0)
    world.fake.delivered(delivery, 200, 0.0)
    world.inspector.delivered(delivery)
    assert started.ready
    (shown,) = world.look("state")["deliveries"]
    assert shown["url"] == "https://example.com/hooks/***?token=***"

from __future__ import annotations

import json

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro_core.http.messages import Headers, Request

ROOT = "https://api.flowmaestro.io/api/v1"
UNKNOWN_UUID = "11111111-2222-4333-8444-555555555555"


class Caller:
    """Asks a fake by hand, on a clock of its own."""

    def __init__(self, fake):
        self.fake = fake
        self.now = 0.0
        self.key = fake.api_key

    def request(self, method, path, body=None, headers=()):
        pairs = [("X-API-Key", self.key), *headers]
        if body is not None:
            pairs.append(("Content-Type", "application/json"))
        payload = b"" if body is None else json.dumps(body).encode()
        return Request(method, ROOT + path, Headers(pairs), payload)

    def start_call(self, method, path, body=None, headers=()):
        return self.fake.handle(self.request(method, path, body, headers), self.now)

    def call(self, method, path, body=None, headers=()):
        """A whole reply, letting time pass and accepting every webhook delivery."""
        reply = self.start_call(method, path, body, headers)
        self.answer_deliveries()
        while not reply.ready:
            self.now = self.fake.next_time()
            self.answer_deliveries()
        return reply

    def json(self, method, path, body=None, headers=()):
        return json.loads(self.call(method, path, body, headers).body)

    def data(self, method, path, body=None):
        return self.json(method, path, body)["data"]

    def answer_deliveries(self, status=200):
        due = self.fake.due(self.now)
        for delivery in due:
            self.fake.delivered(delivery, status, self.now)
        return due

    def pass_time(self, seconds):
        self.now += seconds
        self.fake.advance(self.now)

    def events(self, reply, until=float("inf")):
        """`(seconds since the start, name, data)` of each event up to the stream's end."""
        seen = []
        while True:
            data = reply.stream.poll(self.now)
            for block in (data or b"").decode().split("\n\n")[:-1]:
                lines = block.split("\n")
                if lines[0].startswith(":"):
                    seen.append((round(self.now, 3), lines[0], None))
                else:
                    name, value = lines[0][len("event: ") :], lines[1][len("data: ") :]
                    seen.append((round(self.now, 3), name, json.loads(value)))
            if data is None:
                self.now = self.fake.next_time()
            if data == b"" or self.now > until:
                return seen


@pytest.fixture
def fake():
    return FakeFlowMaestro()


@pytest.fixture
def client(fake):
    return FlowMaestroClient(fake.api_key, transport=fake.transport())


@pytest.fixture
def make_caller():
    def make(*args, **kwargs):
        return Caller(FakeFlowMaestro(*args, **kwargs))

    return make


@pytest.fixture(params=["deployed", "documented"])
def shapes(request):
    return request.param


@pytest.fixture
def caller(shapes, make_caller):
    return make_caller(shapes)


@pytest.fixture
def unknown_uuid():
    return UNKNOWN_UUID

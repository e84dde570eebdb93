"""The server of `examples/webhook_receiver.py` against clients that mean no good."""

from __future__ import annotations

import importlib
import json
import socket
import sys
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flowmaestro.webhooks import DELIVERY_ID_HEADER, SIGNATURE_HEADER
from flowmaestro_core.webhooks import sign

EVENT = {"id": "1", "event": "test", "created_at": "2026-01-01T00:00:00Z", "data": {}}


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    module = importlib.import_module("webhook_receiver")
    server = ThreadingHTTPServer(("127.0.0.1", 0), module.Receiver)
    module.Receiver.secret = "whsec_x"
    Thread(target=server.serve_forever, daemon=True).start()
    yield module.Receiver, server.server_port
    server.shutdown()
    server.server_close()
    for name in ("webhook_receiver", "service"):
        del sys.modules[name]


def deliver(port, event, delivery_id):
    body = json.dumps(event).encode()
    headers = {SIGNATURE_HEADER: sign(body, "whsec_x"), DELIVERY_ID_HEADER: delivery_id}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=30).status


def test_a_replay_under_another_delivery_id_is_not_handed_on(receiver):
    taken, port = receiver
    assert [deliver(port, EVENT, delivery_id) for delivery_id in "123"] == [204] * 3
    assert deliver(port, {**EVENT, "id": "2"}, "1") == 204
    assert [taken.events.get(timeout=30)["id"] for _ in range(2)] == ["1", "2"]
    assert taken.events.empty()


def test_a_client_that_never_ends_its_body_does_not_keep_others_out(receiver):
    taken, port = receiver
    with socket.create_connection(("127.0.0.1", port)) as held:
        held.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert deliver(port, EVENT, "1") == 204
    assert taken.events.get(timeout=30)["id"] == "1"


@pytest.mark.parametrize("length", [b"99999999", b"-1", b"x"])
def test_a_body_of_an_odd_length_is_refused(receiver, length):
    _, port = receiver
    with socket.create_connection(("127.0.0.1", port)) as sent:
        sent.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % length)
        assert b" 413 " in sent.recv(100)

"""Every command against a server that puts control characters into every string it sends."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from flowmaestro.__main__ import main
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro_core.http.messages import Headers
from tests.harness.terminal import Terminal

EVIL = "\x1b]52;c;RVZJTA==\x07\x1b[7771m\x9b7771m\x9d8;;x\x9c\x7f\x85\u202e\u2066\u2028\r"
"""OSC 52 (the clipboard), CSI, the same as C1, DEL, NEL, bidi marks, a line separator."""
FORBIDDEN = ["\x1b]", "\x1b[7771", "\x9b", "\x9d", "\x9c", "\x07", "\x7f", "\x85"]
FORBIDDEN += ["\u202e", "\u2066", "\u2028"]
ID = "0fa11000-0000-4000-8000-000000000001"


def evil(value, *, keep=()):
    """Return the document with `EVIL` in each string, but for those of the keys `keep`."""
    if isinstance(value, dict):
        return {k: v if k in keep else evil(v, keep=keep) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(each, keep=keep) for each in value]
    return f"{EVIL}{value}{EVIL}" if isinstance(value, str) else value


EXECUTION = {
    "id": ID, "workflow_id": ID, "status": "failed", "inputs": {"a": "b"},
    "outputs": {"text": "x"}, "error": "why", "started_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
ROW = {
    "id": "r", "name": "n", "description": "d", "status": "s", "started_at": "t",
    "workflow_id": "w", "model": "m", "document_count": 1, "type": "t", "enabled": True, "url": "u",
    "headers": {"X-Note": "x"}, "system_prompt": "p",
}  # fmt: skip
EVENTS = [
    {"type": "connected", "execution_id": ID, "status": "running"},
    {"type": "node:started", "node_id": "n", "node_name": "Fetch"},
    {"type": "node:failed", "node_id": "n", "node_name": "Fetch", "error": "declined"},
    {"type": "x:unknown", "error": "odd"},
    {"type": "execution:failed", "failed_node_id": "n", "error": "declined", "status": "failed"},
]


def events():
    for event in EVENTS:
        data = json.dumps(evil(event, keep=("type", "status")))
        name = event["type"].replace("unknown", f"{EVIL.strip()}x")
        yield f"event: {name}\ndata: {data}\n\n"


def data_of(method, path):
    """Return what the server sends as the `data` of its response."""
    if path.endswith("/messages") and method == "GET":
        return {"messages": []}
    if method == "GET" and re.search(r"/executions/[^/]+$", path):
        return evil(EXECUTION, keep=("status", "started_at"))
    if method == "GET" and re.search(r"/(workflows|agents|threads|webhooks)/[^/]+$", path):
        return evil(ROW, keep=("id",) if "workflows" in path else ())
    if method == "GET":
        return [evil(ROW)]
    if path.endswith("/query"):
        found = [{"content": "text", "document_name": "doc", "score": 0.5}]
        return evil({"results": found, "query": "q"})
    if path.endswith("/threads"):
        return {"id": "thread_1"}
    if path.endswith("/messages"):
        message = {"role": "assistant", "content": f"Hello {EVIL} world"}
        return {"message": message, "status": "completed", "thread_id": "thread_1"}
    return evil({"id": ID, "execution_id": ID, "status": "cancelled", "message": "m"})


@pytest.fixture
def serve(fake, monkeypatch):
    """Has the fake send such strings; it refuses what is not a stream, if so wanted."""

    def arrange(*, refuses=False):
        def handle(request, now):
            path, reply = urlsplit(request.url).path, FakeReply()
            if path.endswith("/events"):
                headers = Headers([("Content-Type", "text/event-stream")])
                reply.complete(200, headers, body="".join(events()).encode())
                return reply
            page = {"page": 1, "has_next": False, "has_more": False}
            sent = {"data": data_of(request.method, path), "pagination": page}
            if refuses:
                sent = {"error": {"code": f"bad{EVIL}", "message": f"no{EVIL}"}}
                sent["error"]["details"] = {"a": EVIL}
            sent["meta"] = {"request_id": f"req{EVIL}"}
            reply.complete(400 if refuses else 200, Headers(), body=json.dumps(sent).encode())
            return reply

        monkeypatch.setattr(fake, "handle", handle)

    return arrange


COMMANDS = [
    ["run", ID, "--no-check"],
    ["run", ID, "--detach"],
    ["run", "some name that is not there"],
    ["watch", ID],
    ["map", ID, "rows.csv", "--out", "out.jsonl", "--timeout", "5", "-o", "table"],
    ["chat", "agent_1", "--thread", "thread_1"],
    *(["list", kind] for kind in ("workflows", "executions", "agents", "knowledge-bases")),
    *(["list", kind] for kind in ("triggers", "webhooks")),
    *(["get", kind, ID] for kind in ("workflows", "executions", "agents", "threads", "webhooks")),
    ["cancel", ID],
    ["cancel", ID, ID],
    ["query", "kb_1", "what"],
    ["fire", "trigger_1"],
    ["doctor"],
]
JSON = [
    [*words, "--json"]
    for words in COMMANDS
    if words[0] in ("run", "watch", "list", "get", "cancel", "query", "fire", "doctor")
]
CSV = [
    ["map", ID, "rows.csv", "--out", "out.jsonl", "--timeout", "5", "-o", "csv"],
    *([*words, "-o", "csv"] for words in COMMANDS if words[0] == "list"),
]


@pytest.mark.parametrize("refuses", [False, True])
def test_no_control_character_of_a_server_reaches_a_terminal(
    serve, here, monkeypatch, tmp_path, refuses
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    serve(refuses=refuses)
    found, seen = [], ""
    for words in (*COMMANDS, *JSON, *CSV):
        (tmp_path / "rows.csv").write_text("name\nAda\n")
        for left in tmp_path.glob("out*"):
            left.unlink()
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            patch.setattr("sys.stdin", io.StringIO("Hello\n"))
            with suppress(SystemExit):
                main([*words, "--debug"])
        written = out.getvalue() + err.getvalue()
        seen += written
        found += [(words, repr(bad)) for bad in FORBIDDEN if bad in written]
        assert '"internal"' not in err.getvalue(), err.getvalue()
        assert "--debug shows where" not in err.getvalue(), err.getvalue()
    assert found == []
    assert "RVZJTA==" in seen  # The strings came, without what surrounds them.


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_valid_and_keeps_every_character(serve, here, form):
    serve()
    found = json.loads(here("get", "agents", ID, "-o", form).out)
    assert found["name"] == f"{EVIL}n{EVIL}"

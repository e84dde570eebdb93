"""Every command against a server that puts control characters into every string it sends."""

from __future__ import annotations

import io
import json
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flowmaestro.__main__ import main

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


def execution(status):
    return {
        "id": ID, "workflow_id": ID, "status": status, "inputs": {"a": "b"},
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


class Handler(BaseHTTPRequestHandler):
    status = "failed"
    refuses = False

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in EVENTS:
                data = json.dumps(evil(event, keep=("type", "status")))
                name = event["type"].replace("unknown", f"{EVIL.strip()}x")
                self.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())
            return
        if path.endswith("/messages"):
            self.reply({"messages": []})
        elif re.search(r"/executions/[^/]+$", path):
            self.reply(evil(execution(self.status), keep=("status", "started_at")))
        elif re.search(r"/(workflows|agents|threads|webhooks|knowledge-bases)/[^/]+$", path):
            self.reply(evil(ROW, keep=("id",) if "workflows" in path else ()))
        else:
            self.reply([evil(ROW)], pagination={"page": 1, "has_next": False, "has_more": False})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path
        if path.endswith("/query"):
            found = [{"content": "text", "document_name": "doc", "score": 0.5}]
            self.reply(evil({"results": found, "query": "q"}))
        elif path.endswith("/threads"):
            self.reply({"id": "thread_1"}, status=201)
        elif path.endswith("/messages"):
            message = {"role": "assistant", "content": f"Hello {EVIL} world"}
            self.reply({"message": message, "status": "completed", "thread_id": "thread_1"})
        else:  # execute, fire, cancel
            self.reply(evil({"id": ID, "execution_id": ID, "status": "cancelled", "message": "m"}))

    def reply(self, data, status=200, **more):
        body = {"data": data, "meta": {"request_id": f"req{EVIL}"}, **more}
        if self.refuses:
            error = {"code": f"bad{EVIL}", "message": f"no{EVIL}", "details": {"a": EVIL}}
            status, body = 400, {"error": error, "meta": {"request_id": f"req{EVIL}"}}
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


@pytest.fixture(scope="module")
def handler():
    class Mine(Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Mine.url = f"http://127.0.0.1:{server.server_port}"
    yield Mine
    server.shutdown()
    server.server_close()
    thread.join()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


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
    handler, here, monkeypatch, tmp_path, refuses
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", handler.url)
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_x")
    handler.refuses = refuses
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
def test_json_is_valid_and_keeps_every_character(handler, here, monkeypatch, form):
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", handler.url)
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_x")
    handler.refuses = False
    found = json.loads(here("get", "agents", ID, "-o", form).out)
    assert found["name"] == f"{EVIL}n{EVIL}"

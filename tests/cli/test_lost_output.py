"""Data on standard output while a live view is drawn on a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from flowmaestro.testing import FakeFlowMaestro, Node, running_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def server():
    fake = FakeFlowMaestro()
    fake.workflow("wf_1", name="Nightly", nodes=[Node("a", seconds=0.3)], outputs={"größe": "日本"})
    with running_server(fake) as url:
        yield fake, url


def in_terminal(flowmaestro, server, *arguments, to_pipe=True, is_ready=None):
    """Run a command with standard error on a terminal. Return its status, data and screen.

    If there is `is_ready`, the command gets SIGTERM when this is True for its screen.
    """
    import fcntl
    import pty
    import struct
    import termios

    fake, url = server
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    process = subprocess.Popen(
        [*flowmaestro.command, *arguments, "--base-url", url, "--api-key", fake.api_key],
        env={**flowmaestro.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=subprocess.PIPE if to_pipe else theirs,
        stderr=theirs,
    )
    os.close(theirs)
    screen, data = b"", b""
    while is_ready is not None and not is_ready(screen):
        screen += os.read(ours, 65536)
    if is_ready is not None:
        process.send_signal(signal.SIGTERM)
    if to_pipe:
        with process.stdout:
            data = process.stdout.read()
    with suppress(OSError):  # Linux says so when no process can write any more.
        while piece := os.read(ours, 65536):
            screen += piece
    os.close(ours)
    return process.wait(60), data.decode(), screen.decode()


def test_map_and_watch_write_json_to_the_pipe_under_a_live_view_that_fits(
    flowmaestro, server, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("name\nAda\nGrace\n")
    which = ["map", "wf_1", "rows.csv", "--out", "out.jsonl", "--json"]
    status, data, screen = in_terminal(flowmaestro, server, *which)
    assert status == 0
    assert [json.loads(line)["outputs"] for line in data.splitlines()] == [{"größe": "日本"}] * 2
    assert "2/2" in screen
    assert "index" not in screen

    execution_id = server[0].executions[-1].id
    status, data, screen = in_terminal(flowmaestro, server, "watch", execution_id, "--json")
    assert status == 0
    assert json.loads(data.splitlines()[-1])["type"] == "execution:completed"
    assert "Nightly" in screen
    assert "execution:completed" not in screen
    lines = ESCAPE.sub("", screen).replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= 38


def test_json_is_whole_on_a_narrow_terminal(flowmaestro, server):
    long = "x y " * 40
    server[0].workflow("wf_long", nodes=[Node("a")], outputs={"text": long, "größe": "日本"})
    _, _, screen = in_terminal(flowmaestro, server, "run", "wf_long", to_pipe=False)
    text = ESCAPE.sub("", screen).replace("\r\n", "\n")
    document = json.loads(text[text.index("\n{\n") : text.rindex("}") + 1])
    assert document == {"text": long, "größe": "日本"}
    assert f'"text": "{long}"' in text


@pytest.mark.parametrize("words", [["run", "wf_o"], ["list", "workflows", "-o", "jsonl"]])
def test_json_in_another_encoding_than_utf_8_is_ascii(here, monkeypatch, words):
    fake = FakeFlowMaestro()
    fake.workflow("wf_o", name="ü", outputs={"größe": "ü"})
    out = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr("sys.stdout", out)
    with fake, fake.installed():
        assert here(*words).status == 0
    data = out.buffer.getvalue()
    assert data.isascii()
    assert b"\\u00fc" in data


@pytest.mark.parametrize("command", ["run", "map"])
def test_a_signal_shows_the_cursor_again(flowmaestro, server, tmp_path, command):
    fake, _ = server
    fake.workflow("wf_slow", name="Slow", nodes=[Node("wait", seconds=3600)])
    count = len(fake.executions)
    words = ["run", "wf_slow"]
    if command == "map":
        (tmp_path / "rows.csv").write_text("name\nAda\n")
        words = ["map", "wf_slow", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out.csv")]
    status, data, screen = in_terminal(
        flowmaestro,
        server,
        *words,
        is_ready=lambda screen: b"?25l" in screen and len(fake.executions) > count,
    )
    assert (status, data) == (143, "")
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")
    assert "still running" in screen


@pytest.mark.parametrize(
    ("errors", "words"),
    [("full", ["run", "wf_1"]), ("closed by its reader", ["run", "wf_1", "-o", "json", "--debug"])],
)
def test_outputs_survive_a_standard_error_that_cannot_be_written(
    flowmaestro, server, tmp_path, errors, words
):
    fake, url = server
    if errors == "full":
        broken = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, broken = os.pipe()
        os.close(reader)
    done = subprocess.run(
        [*flowmaestro.command, *words, "--base-url", url, "--api-key", fake.api_key],
        env=flowmaestro.environment,
        stdout=subprocess.PIPE,
        stderr=broken,
        timeout=60,
    )
    os.close(broken)
    document = json.loads(done.stdout)
    assert (done.returncode, document.get("outputs", document)) == (0, {"größe": "日本"})

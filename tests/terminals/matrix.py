"""Every command with its outputs on a terminal, a pipe, a file, a full disk, or closed.

What comes out is compared whole with a run in pipes. `nox -s terminals` runs it; it is not part of
the suite, for it starts several hundred processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node, running_server

COMMANDS: Dict[str, List[str]] = {
    "run": ["run", "Nightly report", "-i", "name=Ada"],
    "run-json": ["run", "Nightly report", "--json"],
    "run-table": ["run", "wf_1", "-o", "table"],
    "run-fails": ["run", "wf_bad", "-o", "jsonl"],
    "detach": ["run", "wf_1", "--detach"],
    "watch": ["watch", "{id}"],
    "watch-json": ["watch", "{id}", "--json"],
    "map": ["map", "wf_1", "rows.csv", "--out", "out.jsonl"],
    "map-json": ["map", "wf_1", "rows.csv", "--out", "out.csv", "--concurrency", "1", "--json"],
    "map-table": ["map", "wf_bad", "rows.csv", "--out", "out.csv", "-o", "table"],
    "list": ["list", "workflows"],
    "list-json": ["list", "workflows", "--json"],
    "list-csv": ["list", "agents", "-o", "csv"],
    "list-executions": ["list", "executions", "--workflow", "wf_1", "--limit", "1"],
    "get": ["get", "workflows", "wf_1"],
    "get-json": ["get", "executions", "{id}", "--json"],
    "cancel": ["cancel", "{id}"],
    "query": ["query", "kb_123", "How do I reset my password?"],
    "fire": ["fire", "trigger_123"],
    "chat": ["chat", "agent_parrot"],
    "chat-json": ["chat", "agent_parrot", "-m", "Größe 日本", "--json"],
    "doctor": ["doctor"],
    "doctor-json": ["doctor", "--json"],
    "doctor-fails": ["doctor", "--base-url", "http://127.0.0.1:9"],
    "login": ["login", "--file", "--profile", "new"],
    "login-fails": ["login", "--file", "--base-url", "http://127.0.0.1:9"],
    "logout": ["logout"],
    "logout-fails": ["logout", "--profile", "none"],
    "profiles": ["profiles"],
    "completion-bash": ["completion", "bash"],
    "mcp": ["mcp", "--workflow", "Nightly report"],
    "mcp-config": ["mcp", "--workflow", "wf_1", "--config", "vscode"],
    "serve": ["serve", "--port", "{port}", "--api-key", "fm_live_served"],
    "demo": ["demo", "--transport", "memory"],
    "unknown": ["run", "no such workflow", "--json"],
    "usage": ["lits"],
    "help": ["help"],
    "help-map": ["map", "--help"],
    "version": ["version"],
}
"""The commands; `{id}` is an execution that has ended, `{port}` a free port."""
STDIN = {
    "login": "{key}\n",
    "mcp": '{{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {{"protocolVersion": '
    '"2025-06-18", "capabilities": {{}}, "clientInfo": {{"name": "test", "version": "1"}}}}}}\n',
}
"""What is typed into a command; `Hello` into the others."""
DOCUMENTS = ("run", "run-json", "run-fails", "watch", "watch-json", "map-json")
DOCUMENTS += ("list-json", "get-json", "chat-json", "doctor-json")
DOCUMENTS += ("mcp", "mcp-config")
"""Commands whose standard output is JSON."""
UNWRAPPED = ("list-csv", "detach", "fire", "cancel", "serve", "completion-bash")
UNWRAPPED += ("help", "help-map")
"""Commands whose lines may be longer than the terminal is wide: they are copied, or sourced."""
SAME = ("query", "chat", "detach", "fire", "cancel", "list-csv", "logout", "version", "doctor")
SAME += ("doctor-fails", "completion-bash")
"""Commands that write the same words to a terminal as to a pipe."""
KINDS = ("terminal", "pipe", "file", "full", "closed")
"""What an output may be."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Case(NamedTuple):
    command: str
    out: str
    err: str
    columns: int
    color: str
    encoding: str
    unbuffered: str


def cases(seed: int = 7) -> Iterator[Case]:
    """Yield each command with each kind of each output; the rest is random."""
    dice = random.Random(seed)
    for (number, command), (shift, out) in itertools.product(enumerate(COMMANDS), enumerate(KINDS)):
        err = KINDS[(number + shift) % len(KINDS)]
        columns, color = dice.choice((80, 40, 200)), dice.choice(("", "NO_COLOR", "FORCE_COLOR"))
        rest = dice.choice(("utf-8", "cp1252")), dice.choice(("", "1"))
        yield Case(command, out, err, columns, color, *rest)


@pytest.fixture(scope="module")
def server():
    fake = FakeFlowMaestro()
    fake.workflow("wf_1", name="Nightly report", nodes=[Node("a", name="Größe 日本", seconds=0.5)],
                  outputs={"größe": "日本", "long": "x y " * 60})  # fmt: skip
    fake.workflow("wf_bad", nodes=[Node("a", seconds=0.5, error="declined")])
    fake.agent("agent_parrot", lambda text: f"You said: {text}", name="Parrot")
    with running_server(fake) as url, FlowMaestroClient(fake.api_key, base_url=url) as client:
        done = client.workflows.run("wf_1")
        yield url, fake.api_key, done["id"]


class Done(NamedTuple):
    status: int
    out: str
    err: str


def run(server, case: Case, folder: Path) -> Done:
    """Run the command of a case in a process of its own."""
    url, key, execution_id = server
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.format(id=execution_id, port=port) for word in COMMANDS[case.command]]
    for name, content in {
        "config": {"default": {"base_url": url, "api_key": "fm_live_kept"}},
        "state": {f"{url}/api/v1": execution_id},
    }.items():
        (folder / name / "flowmaestro").mkdir(parents=True)
        file = "profiles.json" if name == "config" else "executions.json"
        (folder / name / "flowmaestro" / file).write_text(json.dumps(content))
    (folder / "rows.csv").write_text("name\nAda\nGrace\n")
    environment = {
        name: value for name, value in os.environ.items()
        if not name.startswith("FLOWMAESTRO_")
        and name not in ("NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED", "COLUMNS", "LINES")
    }  # fmt: skip
    environment.update(
        FLOWMAESTRO_BASE_URL=url, FLOWMAESTRO_API_KEY=key, TERM="xterm",
        PYTHONIOENCODING=case.encoding,
        XDG_STATE_HOME=str(folder / "state"), XDG_CONFIG_HOME=str(folder / "config"),
        PYTHONUNBUFFERED=case.unbuffered,
    )  # fmt: skip
    if case.color:
        environment[case.color] = "1"
    files = {
        "out": Output(case.out, folder / "o", case),
        "err": Output(case.err, folder / "e", case),
    }
    command = [sys.executable, "-W", "error", "-m", "flowmaestro", *words]
    shut = "".join(
        f" {number}>&-" for number, kind in ((1, case.out), (2, case.err)) if kind == "closed"
    )
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@"{shut}', "sh", *command],
        cwd=folder, env=environment, stdin=subprocess.PIPE,
        stdout=files["out"].descriptor, stderr=files["err"].descriptor,
    )  # fmt: skip
    for file in files.values():
        file.opened()
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It has ended, or reads nothing.
        typed = STDIN.get(case.command, "Hello\n").format(key=key).encode()
        process.stdin.write(typed)
        process.stdin.close()
    if case.command == "serve":
        interrupt_when_it_listens(process, port)
    status = process.wait(300)  # `mcp` loads for long on a busy machine.
    out, err = (files[name].text().replace(str(folder), "FOLDER") for name in ("out", "err"))
    return Done(status, out, err)


def interrupt_when_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Send Ctrl-C to a server that accepts connections, unless it has ended by itself."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.5)  # Its lines are written right after it has begun to listen.
            process.send_signal(signal.SIGINT)
            return


class Output:
    """One output of a process."""

    def __init__(self, kind: str, path: Path, case: Case) -> None:
        self._kind, self._path, self._encoding = kind, path, case.encoding
        self._read: Optional[int] = None
        self._pieces: List[bytes] = []
        if kind == "terminal":
            self._read, self.descriptor = pty.openpty()
            size = struct.pack("HHHH", 24, case.columns, 0, 0)
            fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)
        elif kind == "pipe":
            self._read, self.descriptor = os.pipe()
        else:
            where = "/dev/full" if kind == "full" else "/dev/null" if kind == "closed" else path
            self.descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def opened(self) -> None:
        """Read what the process writes, in a thread."""
        os.close(self.descriptor)
        self._reader = threading.Thread(target=self._read_all)
        self._reader.start()

    def _read_all(self) -> None:
        while self._read is not None:
            try:
                piece = os.read(self._read, 65536)
            except OSError:  # Linux says so when no process can write any more.
                return
            if not piece:
                return
            self._pieces.append(piece)

    def text(self) -> str:
        """Return what was written; of a terminal, what stands on its screen."""
        self._reader.join()
        if self._read is not None:
            os.close(self._read)
        data = self._path.read_bytes() if self._kind == "file" else b"".join(self._pieces)
        text = data.decode(self._encoding)
        return screen(text) if self._kind == "terminal" else text


def screen(written: str) -> str:
    """Return what stands on a terminal after all this was written to it."""
    rows, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", written):
        if part == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b[") and part.endswith("A"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            rows[row] = ""
        elif not part.startswith("\x1b["):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    return "\n".join(line.rstrip() for line in rows)


def normal(text: str) -> str:
    """Return a text without what differs from run to run: ids, times and colors."""
    text = UUID.sub("ID", CONTROL.sub("", text))
    return re.sub(r"\d+", "0", re.sub(r"\d+(\.\d+)+", "0", text))


def told(text: str) -> List[str]:
    """Return the lines that are not events, of which a slow machine misses some."""
    lines = normal(text).splitlines()
    is_progress = re.compile(r"\s+0 s  |0 of 0, ")
    return [line for line in lines if line.strip() and not is_progress.match(line)]


def documents(text: str) -> List[Any]:
    """Return the JSON documents in a text, one after another."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        if text[at] in "{[":
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        else:
            at += 1
    return found


@pytest.fixture(scope="module")
def baseline(server, tmp_path_factory):
    """Runs a command in pipes, without colors, once."""
    known: Dict[Tuple[str, str], Done] = {}

    def run_once(case: Case) -> Done:
        which = (case.command, case.encoding)
        if which not in known:
            plain = case._replace(out="pipe", err="pipe", columns=80, color="", unbuffered="")
            known[which] = run(server, plain, tmp_path_factory.mktemp("baseline"))
        return known[which]

    return run_once


@pytest.mark.parametrize("case", [*cases()], ids=lambda case: "-".join(map(str, case)))
def test_what_comes_out_is_whole(server, baseline, case, tmp_path):
    plain, done = baseline(case), run(server, case, tmp_path)
    for text in (done.out, done.err):
        assert "Traceback" not in text
        assert all(sign.isprintable() or sign in "\n\r" for sign in CONTROL.sub("", text))
    for text, color in ((done.out, case.out), (done.err, case.err)):
        if case.color != "FORCE_COLOR":
            assert color == "terminal" or "\x1b" not in text
    if case.out == "full" and plain.out:
        assert done.status == 1
        return
    assert done.status == plain.status
    if case.out in ("pipe", "file"):
        assert normal(done.out) == normal(plain.out)
    elif case.out == "terminal":
        check_screen(case, done.out, plain.out)
    if case.err in ("pipe", "file"):
        assert told(done.err) == told(plain.err)
    elif case.err == "terminal" and plain.err:
        last = told(plain.err)[-1:] or [""]
        # The live view says at its top how long the execution took. A narrow one has the id alone.
        said = last[0].partition("; the execution took")[0].replace("execution ID", "ID")
        words = "".join(re.split(r"[\s{}]+", said))
        assert words in "".join(re.split(r"[\s{}]+", normal(done.err)))


def check_screen(case: Case, shown: str, plain: str) -> None:
    """What a terminal shows is the same data: JSON indented, tables and sentences within it."""
    if case.command in DOCUMENTS:
        assert normal(json.dumps(documents(shown))) == normal(json.dumps(documents(plain)))
        return
    if case.command not in UNWRAPPED:
        assert max(map(len, shown.splitlines()), default=0) <= case.columns
    if case.command in SAME:
        assert normal(shown).split() == normal(plain).split()

"""Writes `docs/cli.md` from sessions of the command line in a terminal of 80 columns.

python docs/sessions.py            # write the page
python docs/sessions.py --check    # exit with status 1 if a command says something that is
                                   # not on the page

Each command runs in a pseudo-terminal against `flowmaestro serve`, once with rich and once as if
rich were not installed. A line that a terminal would break within a word is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, TextIO, Tuple, cast

import flowmaestro.cli.chat
import flowmaestro.cli.demo
import flowmaestro.cli.doctor
import flowmaestro.cli.map
import flowmaestro.cli.resources
import flowmaestro.cli.runs  # noqa: F401  (what is imported here, no session waits for)
from flowmaestro import FlowMaestroClient
from flowmaestro.__main__ import main as flowmaestro_main

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 80
KINDS = ("rich", "plain")
SHOWN_URL, SHOWN_KEY = "http://127.0.0.1:8787", "fm_live_" + "0" * 40
SEEDS = """\
from flowmaestro.testing import Node


def seed(fake):
    fetch = Node("fetch", name="Fetch orders", seconds=0.4)
    send = Node("send", name="Send report", seconds=0.5)
    fake.workflow("wf_report", name="Nightly report", nodes=[fetch, send], outputs={"orders": 42})
    pay = Node("pay", name="Charge cards", seconds=0.3, error="Card declined")
    fake.workflow("wf_broken", name="Monthly bill", nodes=[fetch, pay])
    fetch = Node("fetch", name="Fetch a year", seconds=1.5)
    fake.workflow("wf_audit", name="Tax audit", nodes=[fetch, send], outputs={"errors": 0})
    endless = [Node("open", name="Open books"), Node("all", name="Count", seconds=3600)]
    fake.workflow("wf_slow", name="Yearly audit", nodes=endless)
    fake.agent("agent_parrot", lambda text: f"You said: {text}", name="Parrot")
    fake.drop_connection(2, path="/executions/*/events")
"""
ASK = """\
import os

import anyio
import mcp

OURS = mcp.StdioServerParameters(
    command="flowmaestro", args=["mcp", "--workflow", "wf_report"], env=dict(os.environ)
)


async def show(progress, total, message):
    print(f"{progress:.0f}  {message}")


async def main():
    async with mcp.Client(OURS) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name, tool.input_schema)
        result = await client.call_tool(tool.name, {"name": "Ada"}, progress_callback=show)
        print(result.content[0].text)


anyio.run(main)
"""
FILES = {
    "my_flows.py": SEEDS,
    "rows.csv": "name,age\nAda,36\nGrace,85\n",
    "bad.csv": "name,age\nAda,36\nGrace\n",
    "ask.py": ASK,
    "schema.json": '{"properties": {"name": {"type": "string"}}, "required": ["name"]}\n',
}


class Command(NamedTuple):
    """What is typed after `flowmaestro`, or a `.py` file; `{id}` is the last line before.

    `typed` are pairs: when the first is on the screen, the second is typed.
    """

    words: str
    typed: Tuple[Tuple[str, str], ...] = ()


class Session(NamedTuple):
    """A section of the page."""

    title: str
    text: str
    commands: Tuple[Command, ...]
    shows_plain: bool = False

    @property
    def has_streams(self) -> bool:
        """Whether one of the commands opens an event stream."""
        first = {command.words.partition(" ")[0] for command in self.commands}
        return not first.isdisjoint({"run", "watch", "ask.py"})


class Shown(NamedTuple):
    """A command as it was typed, what stood on the screen in the end, and its exit status."""

    words: str
    screen: str
    status: int


CUT = Session(
    "Watch an execution",
    "`run --detach` starts an execution and leaves. `watch` follows an execution that somebody\n"
    "started, and outlives a cut connection: the server of this page drops its first stream after\n"
    "two events, and `watch` says that it went on.",
    (Command("run wf_audit --detach"), Command("watch {id}")),
    shows_plain=True,
)
SESSIONS = (
    Session(
        "Check the connection",
        "`doctor` looks at Python, the key, the server, the proxy, TLS, the clock, the rate limit\n"
        "and the scopes, and says what to do. Without a key it checks all that needs none.",
        (Command("doctor"), Command("doctor --api-key fm_test_123")),
    ),
    Session(
        "See what there is",
        "`list` and `get` show workflows, executions, agents, threads, knowledge-bases, triggers\n"
        "and webhooks. The API has no list of threads: `get threads` shows one that you know.\n"
        "With `--json`, both print JSON.",
        (
            Command("list workflows"),
            Command("get agents agent_parrot"),
            Command("get triggers trigger_abc123"),
            Command("list threads"),
        ),
    ),
    CUT,
    Session(
        "Run a workflow",
        "Outputs go to stdout, everything else to stderr. `-i name=Ada` is text, `-i count:=3` is\n"
        "JSON. A run that fails exits with 1 and names the node.",
        (
            Command("run wf_report -i name=Ada"),
            Command("run wf_broken"),
            Command("run wf_report --schema schema.json"),
        ),
        shows_plain=True,
    ),
    Session(
        "Leave an execution running",
        "`--detach` prints the id and leaves. Ctrl-C and `--timeout` leave it running, too.",
        (
            Command("run wf_slow --timeout 1"),
            Command("run wf_slow", (("Count", "\x03"),)),
            Command("run wf_slow --detach"),
            Command("cancel {id}"),
        ),
    ),
    Session(
        "Run a workflow for each row of a file",
        "Rows are a `.csv` file, whose cells are text, or a `.jsonl` file. The journal is\n"
        "`OUT.journal` unless `--journal` names another. After a crash, the same command goes on,\n"
        "and no row is started twice ([batches](batches.md)). `--rerun` starts the rows again\n"
        "whose execution failed or was cancelled. If rows may have been started without a reply,\n"
        "it says so, and looks for them at the end, when `--settle-after` (60 seconds) has passed.",
        (
            Command("map wf_report rows.csv --out results.jsonl"),
            Command("map wf_report bad.csv --out more.jsonl"),
        ),
    ),
    Session(
        "Talk to an agent",
        "Ctrl-C stops an answer, Ctrl-D ends the conversation.",
        (Command("chat agent_parrot", (("you  ", "Good morning\n"), ("said: ", "\x04"))),),
    ),
    Session(
        "Search, and fire a trigger",
        "",
        (
            Command('query kb_123 "How do I reset my password?" --top-k 1'),
            Command("fire trigger_123 -i name=Ada"),
        ),
    ),
    Session(
        "When something is wrong",
        "An error is one line that says what to do. Nothing is started. With `--json`, stdout is\n"
        'JSON then, too: `{"error": ..., "exit_status": ...}`, but for `watch` and `map`.',
        (
            Command("run wf_report -i name"),
            Command("run wf_unknown"),
            Command("lits workflows"),
            Command("run wf_report -i name --json"),
            Command("doctor --base-url http://127.0.0.1:9"),
        ),
    ),
)
OFFER = Session(
    "Offer workflows to an AI assistant",
    "`flowmaestro mcp --workflow wf_report` serves the named workflows as tools over the Model\n"
    "Context Protocol, on stdin and stdout. It needs the extra `mcp` and Python 3.10. Only\n"
    "workflows that you name are offered: running one has side effects. The first progress\n"
    "message has the execution's id; a run that is cancelled, or takes longer than\n"
    "`--timeout`, goes on at the server. A client, `ask.py`:\n\n"
    f"```text\n{ASK}```",
    (Command("ask.py"), Command("mcp --workflow wf_unknown")),
)
"""Needs the package `mcp`, which takes long to load: recorded for the page, and not checked."""
INTRODUCTION = f"""\
# Command line

`flowmaestro`, or `python -m flowmaestro`, runs workflows and talks to agents. The extra `cli`
(`pip install 'flowmaestro[cli]'`) brings colors, live progress and shell completion; without it
everything works in plain lines. The key and the server are `FLOWMAESTRO_API_KEY` and
`FLOWMAESTRO_BASE_URL`, or `--api-key` and `--base-url`. No file on disk holds a key.

`docs/sessions.py` recorded the sessions on this page in a terminal of {WIDTH} columns, with the
extra `cli`. [Watch](#watch-an-execution) and [run](#run-a-workflow) show the plain lines, too.

Exit status: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 key refused, 5 rate limit,
6 network, 124 `--timeout` was over, 130 Ctrl-C. In a pipe, and with `NO_COLOR`, there are no
colors and no control codes. `--debug` shows tracebacks.

`demo` does the main job on a server of its own ([a picture](pictures/demo.svg)): over a real socket
with a transport of your choice, or with `--transport memory`, where no time passes.

## Start a server to try it on

`serve` starts a fake FlowMaestro; `--seed` adds resources of yours. `seed` may use the fake, and
clients of it, in the thread that calls it. A thread that `seed` starts waits at its first call of
the fake until `seed` has ended: do not `join` it in `seed`. With this `my_flows.py`

```text
{SEEDS}```

the server of this page is

"""


def terminal(argv: List[str], kind: str, environment: Dict[str, str], command: Command) -> Shown:
    """Run one command in a pseudo-terminal of its own."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(60)  # what hangs is ended
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        os.environ.update(environment, PATH=path, TERM="xterm", COLUMNS=str(WIDTH))
        if kind == "plain":
            for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
                del sys.modules[name]
            sys.modules["rich"] = None  # type: ignore[assignment]
        status = 70
        try:
            if argv[0].endswith(".py"):
                runpy.run_path(argv[0])
                status = 0
            else:
                status = flowmaestro_main(argv)
        except SystemExit as exit:
            status = int(exit.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    output, seen, typed = "", 0, list(command.typed)
    while True:
        if typed and typed[0][0] in output[seen:]:
            seen = len(output)
            time.sleep(0.3)  # a person is no faster; and rich is not in the midst of a picture
            os.write(screen, typed.pop(0)[1].encode())
        try:
            output += os.read(screen, 65536).decode("utf-8", "replace")
        except OSError:  # Linux says so when nobody can write any more
            break
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(screen)
    return Shown(command.words, shown(output), status)


def shown(output: str) -> str:
    """What stands on the screen after all this was written to it."""
    rows, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", output):
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
    for line in rows:
        if len(line.rstrip()) > WIDTH:
            raise AssertionError(f"the terminal breaks this line within a word: {line}")
    return "\n".join(line.rstrip() for line in rows).strip("\n")


def record(session: Session, kind: str, environment: Dict[str, str]) -> List[Shown]:
    """Run the commands of one session in a folder of their own."""
    done: List[Shown] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in FILES.items():
            Path(name).write_text(text, "utf-8")
        for command in session.commands:
            last = done[-1].screen.rpartition("\n")[2] if done else ""
            words = command.words.replace("{id}", last)
            argv = [each.strip('"') for each in re.findall(r'".*?"|\S+', words)]
            done.append(terminal(argv, kind, environment, command)._replace(words=words))
        os.chdir("/")
    return done


def beside(session: Session, kind: str, environment: Dict[str, str]) -> int:
    """Record a session in another process; the file descriptor to read it from."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        try:
            with os.fdopen(theirs, "w", encoding="utf-8") as out:
                json.dump(record(session, kind, environment), out)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    return ours


Recorded = Dict[Tuple[str, str], List[Shown]]
"""What was done in each session, by its kind and its title."""


def record_all(every: Tuple[Session, ...]) -> Tuple[str, Recorded]:
    """What `serve` printed, and every session with rich, and some without."""
    FlowMaestroClient("fm_live_any").close()  # imports its transport
    import rich.live
    import rich.progress
    import rich.table
    import rich.tree  # noqa: F401

    for name in [name for name in os.environ if name.startswith("FLOWMAESTRO_")]:
        del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)
    printed: Dict[str, str] = {}
    environments: Dict[str, Dict[str, str]] = {}
    recorded: Recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # `run` remembers what it started.
        seeds = Path(folder) / "my_flows.py"
        seeds.write_text(SEEDS, "utf-8")
        serve = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0", "--seed", str(seeds)]
        servers = [
            subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in KINDS
        ]
        try:
            for kind, server in zip(KINDS, servers):
                lines = cast("TextIO", server.stdout)
                printed[kind] = "".join(iter(lines.readline, "Press Ctrl-C to stop.\n"))
                environments[kind] = dict(re.findall(r"export (\S+)=(\S+)", printed[kind]))
            # The first stream is the one that is cut: the others have to wait.
            waiting = [each for each in every if each is not CUT and each.has_streams]
            for sessions in ([each for each in every if each not in waiting], waiting):
                pipes = {
                    (kind, session.title): beside(session, kind, environments[kind])
                    for session in sessions
                    for kind in (KINDS if session.shows_plain else KINDS[:1])
                }
                for (kind, title), pipe in pipes.items():
                    recorded[kind, title] = _received(pipe, environments[kind])
        finally:
            for server in servers:
                server.kill()
                server.communicate()
    return _masked(printed["rich"], environments["rich"]) + "Press Ctrl-C to stop.", recorded


def _received(pipe: int, environment: Dict[str, str]) -> List[Shown]:
    with os.fdopen(pipe, encoding="utf-8") as file:
        text = file.read()
    os.wait()
    return [Shown(*each) for each in json.loads(_masked(text, environment))]


def _masked(text: str, environment: Dict[str, str]) -> str:
    """The text with the address and the key of the page."""
    shown_as = {"FLOWMAESTRO_BASE_URL": SHOWN_URL, "FLOWMAESTRO_API_KEY": SHOWN_KEY}
    for name, value in shown_as.items():
        text = text.replace(environment[name], value)
    return text


def page(printed: str, recorded: Recorded) -> str:
    """The whole page, of the sessions that were recorded."""
    parts = [INTRODUCTION, _block(f"$ flowmaestro serve --seed my_flows.py\n{printed}")]
    for session in (*SESSIONS, OFFER):
        if ("rich", session.title) in recorded:
            text = f"\n{session.text}\n" if session.text else ""
            done = _block(_session(recorded["rich", session.title]))
            parts.append(f"\n## {session.title}\n{text}\n{done}")
        if session.shows_plain:
            done = _block(_session(recorded["plain", session.title]))
            parts.append(f"\nWithout the extra `cli`:\n\n{done}")
    return "".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _session(done: List[Shown]) -> str:
    texts = []
    for words, screen, status in done:
        said = f"\n[exit status {status}]" if status else ""
        shown_as = f"python {words}" if words.endswith(".py") else f"flowmaestro {words}"
        texts.append(f"$ {shown_as}\n{screen}{said}")
    return "\n\n".join(texts)


def normal(text: object) -> str:
    """A text without what differs from run to run: ids, times, and what is under way."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(text))
    text = re.sub(r"\d+(\.\w+)+", "0", text)
    text = re.sub(r", \d+ running|, about \d+ s left|\d+ ms", "", text)
    return re.sub(r"\d+", "0", re.sub(r"\s+", " ", text))


def differences(old: str, new: str) -> List[str]:
    """The lines of the new page that the old one does not have, and commands that are gone."""
    known, seen = ({normal(line) for line in text.splitlines()} for text in (old, new))
    gone = [line for line in known - seen if line.startswith(("$ ", "[exit", "## "))]
    return [normal(line) for line in new.splitlines() if normal(line) not in known] + gone


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the page, or check it."""
    if "--check" not in (sys.argv[1:] if arguments is None else arguments):
        PAGE.write_text(page(*record_all((*SESSIONS, OFFER))), "utf-8")
        return 0
    known = PAGE.read_text("utf-8").partition(f"\n## {OFFER.title}")[0]
    found = differences(known, page(*record_all(SESSIONS)))
    print("\n".join(found) or f"{PAGE.name} is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes `docs/cli.md` from sessions of the command line in a terminal of 80 columns.

python docs/sessions.py            # write the page
python docs/sessions.py --check    # exit with status 1 if a command says something that is
                                   # not on the page

Each command runs in a pseudo-terminal against `flowmaestro serve`. A line that a terminal would break
within a word is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
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
SHOWN_URL, SHOWN_KEY = "http://127.0.0.1:8787", "fm_live_" + "0" * 40
SEEDS = """\
from flowmaestro.testing import Node


def seed(fake):
    fetch = Node("fetch", name="Fetch orders", seconds=0.4)
    send = Node("send", name="Send report", seconds=0.5)
    fake.workflow("wf_report", name="Nightly report", nodes=[fetch, send], outputs={"orders": 42})
    pay = Node("pay", name="Charge cards", seconds=0.3)
    fake.workflow("wf_broken", name="Monthly bill", nodes=[fetch, pay], fails_at="pay")
    fetch = Node("fetch", name="Fetch a year", seconds=1.5)
    fake.workflow("wf_audit", name="Tax audit", nodes=[fetch, send], outputs={"errors": 0})
    books = Node("open", name="Open books", seconds=0.5)
    fake.workflow("wf_slow", name="Yearly audit", nodes=[books, Node("all", name="Count", seconds=3600)])
    fake.workflow("wf_charge", name="Charge a card", outputs=charge)
    fake.agent("agent_parrot", lambda text: f"You said: {text}", name="Parrot")


def charge(inputs):
    if inputs["card"] == "expired":
        raise ValueError("the card has expired")
    return {"paid": inputs["amount"]}
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
        tool, wait = (await client.list_tools()).tools
        print(tool.name, tool.input_schema)
        result = await client.call_tool(tool.name, {"name": "Ada"}, progress_callback=show)
        print(result.content[0].text)


anyio.run(main)
"""
FILES = {
    "my_flows.py": SEEDS,
    "cards.csv": "card,amount:=\nvisa,20\nexpired,35\namex,12.5\nexpired,8\n",
    "bad.csv": "card,amount:=\nvisa,20\namex\n",
    "ask.py": ASK,
    "schema.json": '{"properties": {"count": {"type": "integer"}}, "required": ["count"]}\n',
}


PROMPT = "\x1b[?2004h"
"""Bracketed paste, which a prompt switches on when it is ready."""


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


class Shown(NamedTuple):
    """A command as it was typed, what stood on the screen in the end, and its exit status."""

    words: str
    screen: str
    status: int


SESSIONS = (
    Session(
        "Run a workflow",
        "Name a workflow by its id, by its name, or by the beginning of either: six characters or more, if\n"
        "only one workflow fits. `-i` gives an input: `-i name=Ada` is text, `-i count:=3` is JSON. The\n"
        "outputs go to stdout, everything else to stderr. While the workflow runs, a live view shows each\n"
        "node. If the terminal has too few lines for all nodes, the view shows how many are done.\n\n"
        "![A run in a terminal](pictures/run.svg)",
        (Command('run "Nightly report" -i name=Ada'), Command("run wf_broken")),
    ),
    Session(
        "Give inputs",
        "| argument | the input |\n|---|---|\n"
        "| `-i name=Ada` | the text `Ada` |\n"
        "| `-i count:=3` | the number 3 (any JSON may follow `:=`) |\n"
        "| `-i text=@FILE` | the text of a file |\n"
        "| `-i data:=@FILE` | the JSON of a file |\n"
        "| `-i name=@@ada` | the text `@ada` |\n"
        "| `--input-file FILE` | all inputs, from a file with a JSON object |\n"
        "| `--input-file -` | all inputs, from stdin |\n\n"
        "If an input is in `--input-file` and also given with `-i`, the one of `-i` counts.\n\n"
        "Before anything starts, inputs are checked with the JSON Schema in the file of `--schema`, or with the\n"
        "schema that the server declares: which inputs are required, which are allowed\n"
        "(`additionalProperties: false`), and the `type` and `enum` of each. `--no-check` leaves this out.",
        (
            Command("run wf_report -i count=3 --schema schema.json"),
            Command("run wf_report -i count:=3 --schema schema.json -o json"),
        ),
    ),
    Session(
        "Run a workflow for each row of a file",
        "`flowmaestro map WORKFLOW FILE --out RESULTS` runs the workflow once for each row of the file. To\n"
        "resume after a crash or Ctrl-C, run the same command again. It records each start in a journal: the\n"
        "file `RESULTS.journal`, or that of `--journal`. So it never starts a row twice, on two conditions:\n"
        "an execution is in the server's list of executions within 60 seconds of its start (for another\n"
        "time, pass `--settle-after`), and nobody else starts the same inputs ([rows in\n"
        "doubt](batches.md#rows-in-doubt)). `--rerun` and `--redo` start rows again on purpose.\n\n"
        "**Rows** are a `.csv`, `.tsv`, `.jsonl` or `.json` file, or `-` for stdin (JSON lines, a JSON array\n"
        "or CSV), in UTF-8. `--delimiter` names another separator. Cells of CSV are text. For another type,\n"
        "use a schema (`--schema`, or that of the server), or end the name of the column in `:=`, which makes\n"
        "its cells JSON: `cards.csv` has the columns `card` and `amount:=`. In a column of text, an empty\n"
        "cell is an empty text. In other columns, an empty cell gives no input.\n\n"
        "**Results** go to `--out`. A `.csv` file is for a spreadsheet. It has the columns of the rows, and then\n"
        "`execution_id`, `status`, `error` and `outputs` (JSON); `--columns total,name` makes columns of these\n"
        "outputs instead. A name that the rows have, too, gets the prefix `flowmaestro.`. The separator is that of\n"
        "the rows. The file begins with a byte-order mark, without which Excel would not read UTF-8; in Python\n"
        'open it with `encoding="utf-8-sig"`. A text that a spreadsheet could take for a formula begins with an\n'
        "added `'`; otherwise texts are unchanged. A `.jsonl` file is for programs: an object for each row, with\n"
        "its number `row` (from 1, as in `--redo`) and its `inputs`.\n\n"
        "A row with the status `refused` was not started, because the server rejected its inputs: correct\n"
        "it, and the same command starts it. A row that is `running` or `paused` did not end within\n"
        "`--timeout`: the same command continues to wait for it. At the end, failures are grouped by cause.\n\n"
        "**Order**: a result is written to the file when its row ends, so a killed command leaves those that it\n"
        "had. When the last row has ended, the command puts the results into the order of the rows. On standard\n"
        "output (`-o json`, `jsonl`, `csv`), they stay in the order in which rows ended.\n\n"
        "**The exit status** is 0 if every row completed, 124 if some rows are still `running` or `paused` and\n"
        "all others completed, and 1 otherwise.\n\n"
        "**Again**: `--rerun` starts failed and cancelled rows again. `--redo 3,17` starts rows 3 and 17 again\n"
        "if their inputs have changed. `--redo all` starts every row again whose inputs have changed.\n\n"
        "**A lost response**: if the response to a start was lost, the command does not know whether the row\n"
        "was started. At its end it waits until 60 seconds (`--settle-after`) have passed since the loss, and\n"
        "then looks for the execution on the server.\n\n"
        "![A batch in a terminal](pictures/map.svg)",
        (
            Command('map "Charge a card" cards.csv --out results.csv'),
            Command("map wf_charge bad.csv --out more.jsonl"),
        ),
    ),
    Session(
        "See what there is",
        "`list` and `get` show workflows, executions, agents, threads, knowledge-bases, triggers and\n"
        "webhooks. The API has no list of threads, but `get threads ID` shows one. `list executions` has the\n"
        "filters `--workflow`, `--status` (one status) and `--since` (`90s`, `15m`, `2h`, `3d`). Columns are\n"
        "shortened until they fit the terminal, but ids are not, so that you can copy them: if the terminal\n"
        "is too narrow, an id has a line of its own. On a terminal, `list executions` names the workflows, where\n"
        "the key may read them. In a pipe, nothing is shortened.\n\n"
        "![A list in a terminal](pictures/list.svg)",
        (
            Command("list workflows"),
            Command("list executions --workflow wf_abc123 --since 2h"),
            Command("get agents agent_parrot"),
            Command("list threads"),
        ),
    ),
    Session(
        "Leave an execution running, watch it, cancel it",
        "`run --detach` prints the id of the execution and returns at once. Ctrl-C and `--timeout` leave the\n"
        "execution running, too. `--timeline run.svg` draws the [timeline](streaming.md#draw-a-timeline). It is\n"
        "written last: if that fails, the outputs have been printed, and the command exits with status 1.\n\n"
        "With `--checkpoint FILE`, you can run the same command again: it starts the workflow only the first\n"
        "time. Later, it follows the execution that it has started, or prints the outputs if that has ended.\n"
        "With `--rerun` as well, it starts the workflow again if the execution failed or was cancelled.\n"
        "[More on checkpoints in a file](durable.md#a-file).\n"
        "\n"
        "`watch` follows an execution to its end, also through a lost connection: `watch ID`,\n"
        "`watch --last` (the last one that you started from this machine), or `watch --workflow NAME`\n"
        "(the newest of a workflow). While no events come, it polls the execution at least every 5 s, and the\n"
        "view says how old the last poll is.",
        (
            Command("run wf_slow --timeout 1"),
            Command("run wf_slow", (("Count", "\x03"),)),
            Command("run wf_audit --detach"),
            Command("watch --last"),
            Command("run wf_slow --detach"),
            Command("cancel {id}"),
        ),
    ),
    Session(
        "Use it in scripts",
        "`-o json` prints one JSON document: indented on a terminal, compact elsewhere. `-o jsonl` prints one\n"
        "document on each line, `-o csv` is for `list` and `map`, `-o table` for people. `--json` means `-o json`,\n"
        "except for `map` and `watch`, whose results come one at a time: there it means `-o jsonl`. If stdout\n"
        "is not UTF-8, JSON is written in ASCII with `\\u` escapes. In other output, characters that the\n"
        "encoding of stdout lacks are escaped. The fields of events are named in snake_case, such as\n"
        "`node_id`, also where the server sends `nodeId`.\n\n"
        "With JSON, an error is an object on stderr, as in the session below. In a pipe, this object is the last\n"
        "line of stderr. Its `status` is the HTTP status of the response, and its `request_id` the id of the\n"
        "request. Both are `null` if the command itself found the error. In the session below, for example,\n"
        "the request for the list of workflows succeeded, and the command did not find the name in it.\n\n"
        "| exit status | meaning |\n|---|---|\n| 0 | done |\n| 1 | failed |\n| 2 | wrong arguments |\n"
        "| 3 | not found |\n| 4 | key refused |\n| 5 | rate limit |\n| 6 | network |\n"
        "| 124 | `--timeout` was reached; the execution goes on |\n"
        "| 129 | SIGHUP, as when the terminal is closed |\n| 130 | Ctrl-C |\n| 143 | SIGTERM |\n\n"
        "SIGTERM and SIGHUP end `run`, `map` and `watch` as Ctrl-C does: the executions go on, and the command\n"
        "says how to watch them. A signal that the shell ignores, as `nohup` does, stays ignored. If stderr\n"
        "cannot be written, its texts are dropped, and the results are complete.\n\n"
        "In a pipe, the command writes no colors and no control codes of its own. `NO_COLOR` takes the\n"
        "colors away on a terminal, too, and `FORCE_COLOR` keeps them in a pipe. `--debug` shows tracebacks.",
        (Command("run nosuchthing --json"),),
    ),
    Session(
        "When something is wrong",
        "If the arguments are wrong, the command starts nothing, and says in one line what to write. If the\n"
        "connection fails, the error names the host. If the error asks whether this is the base\n"
        "URL of a FlowMaestro server, check the base URL.",
        (
            Command("run wf_report -i name"),
            Command("list executions --status done"),
            Command("lits workflows"),
        ),
    ),
    Session(
        "Check the connection",
        "`doctor` checks Python, the key, the server, the proxy, TLS, the clock and the rate limit, and says\n"
        "what to do. It says which commands work with the scopes of the key, and which do not. Without a key,\n"
        "it makes the checks that need no key.\n\n"
        "![A check of the connection in a terminal](pictures/doctor.svg)",
        (
            Command("doctor"),
            Command("doctor --base-url http://127.0.0.1:9"),
        ),
    ),
    Session(
        "Talk to an agent",
        "Name an agent as you name a workflow. Until its answer begins, a line shows how long the agent has been\n"
        "working. Ctrl-C stops showing an answer, but does not stop the agent.\n"
        "Ctrl-D leaves, and prints the command that continues the thread. Answers are shown as Markdown. Pasted\n"
        "lines are one message, and Alt-Enter begins a new line. The arrow keys bring back what you typed, in\n"
        "earlier conversations, too (`--no-history` keeps nothing). `/save FILE` writes the whole conversation to\n"
        "a file. If you continued a thread with `--thread`, that includes its earlier messages.\n\n"
        "`-m TEXT` sends one message and prints only the answer. In a pipe or a file, the answer is unchanged,\n"
        "followed by the end of a line. You can also pipe a text in: it is sent as one message. With both, the\n"
        "text of the pipe is appended to the message. So if you call the command in a shell loop that itself\n"
        "reads lines from a pipe, add `</dev/null` to the command.\n\n"
        "![A conversation in a terminal](pictures/chat.svg)",
        (
            Command("chat agent_parrot", ((PROMPT, "Good morning\r"), (PROMPT, "\x04"))),
            Command('chat agent_parrot -m "Good night"'),
        ),
    ),
    Session(
        "Search, and fire a trigger",
        "Name a knowledge base and a trigger as you name a workflow.",
        (
            Command('query kb_123 "How do I reset my password?" --top-k 1'),
            Command("fire trigger_123 -i name=Ada"),
        ),
    ),
)
KEEPING = """
## Keep a key

`flowmaestro login` asks for a key, checks it at the server, and keeps it: in the keyring of the
system (with the extra `keyring`), or else in a file that only you can read, in your folder for
settings. `--file` always uses the file. If the file is a symbolic link, the file that it leads to is
changed. On a terminal, `login` asks again after a wrong key. You can also pipe the key in: `pass show
flowmaestro | flowmaestro login`. Before it sends the key, it says to which server. `logout` deletes the
key from this machine, and `profiles` lists the profiles. `logout`, and `login --file`, which keeps the
key in the file, delete any key that the keyring still has for the profile. If the keyring is locked,
they cannot: they do everything else, and name the entry that you have to delete yourself.

A profile is a pair of a key and a server: `login --profile work --base-url https://...` makes
another one, and `--profile work` or `FLOWMAESTRO_PROFILE=work` uses it. For a new key of the same
profile, `login --profile work` is enough: it goes to the server of the profile. A command uses the
first of these keys that is set:

1. `--api-key`,
2. the key of the profile that `--profile` names,
3. `FLOWMAESTRO_API_KEY`,
4. the key of the profile that `FLOWMAESTRO_PROFILE` names,
5. the key of the profile `default`.

It sends the key to the first of these servers that is set:

1. `--base-url`,
2. the server of the profile that `--profile` names,
3. `FLOWMAESTRO_BASE_URL`,
4. the server of the profile that the key comes from,
5. `https://api.flowmaestro.io`.

The key of a profile is for the server of this profile only. If the command would send it to another
one, for example because of `--base-url`, it sends nothing and exits with status 4.

An empty `FLOWMAESTRO_API_KEY` counts as none, and white space around the key, such as the end of a
line, is left out. `flowmaestro doctor` says where the key came from. Only the command line reads
profiles: a client in your program does not.

## Complete words with TAB

`flowmaestro completion` prints a script that completes commands, options, choices, files, and ids of
workflows and executions. The ids are those that `run`, `fire` and `list` have shown, for the server
and the profile that a command without options uses. They are in a file that only you can read.

| shell | once |
|---|---|
| bash | add `source <(flowmaestro completion bash)` to `~/.bashrc` |
| zsh | add `source <(flowmaestro completion zsh)` to `~/.zshrc`, after `compinit` |
| fish | `flowmaestro completion fish > ~/.config/fish/completions/flowmaestro.fish` |
"""
SETTINGS = """\
{
  "mcpServers": {
    "flowmaestro": {
      "command": "/path/to/python",
      "args": ["-m", "flowmaestro", "mcp", "--workflow", "wf_report", "--profile", "work"]
    }
  }
}
"""
OFFER = Session(
    "Offer workflows to an AI assistant",
    "`flowmaestro mcp --workflow wf_report` serves the named workflows as tools over the Model\n"
    "Context Protocol. You do not start this command yourself: an assistant does. To print the settings that\n"
    "the assistant needs, add `--config claude`, `--config cursor` or `--config vscode`. That sends nothing\n"
    "to a server, so a `--workflow` that does not exist is reported only when the assistant starts the\n"
    "command. The command needs the extra `mcp` and Python 3.10.\n\n"
    "| assistant | the settings belong in |\n|---|---|\n"
    "| `claude` | `claude_desktop_config.json` (Settings, Developer, Edit Config), or `.mcp.json` |\n"
    "| `cursor` | `~/.cursor/mcp.json`, or `.cursor/mcp.json` of a project |\n"
    "| `vscode` | `.vscode/mcp.json` |\n\n"
    "If you use a [profile](#keep-a-key), the settings hold no key. For Claude and Cursor they look like\n"
    "this:\n\n"
    f"```text\n{SETTINGS}```\n\n"
    "The assistant sees only the workflows that you name, because running one can have side effects. The\n"
    "first progress message has the id of the execution. If the assistant cancels a run, or a run takes\n"
    "longer than `--timeout`, the execution goes on at the server. If it waits for a person, the assistant\n"
    "is told at once. The tool `wait_for_execution` waits for it again; it starts nothing, and knows only\n"
    "executions of the workflows that you name. If the server declares no inputs for a workflow, describe\n"
    "them with `--schema wf_report=schema.json`. A workflow whose schema is not one of an object is not\n"
    "offered; stderr says so. A lone surrogate, such as half an emoji in the outputs, becomes `?`.\n\n"
    "A client, `ask.py`:\n\n"
    f"```text\n{ASK}```",
    (Command("ask.py"), Command("mcp --workflow wf_unknown")),
)
"""Needs the package `mcp`, which takes long to load: recorded for the page, and not checked."""
INTRODUCTION = """\
# Command line

`flowmaestro`, or `python -m flowmaestro`, runs workflows and talks to agents.

```text
pip install 'flowmaestro[cli]'
flowmaestro login
flowmaestro run "Nightly report" -i name=Ada
```

`flowmaestro COMMAND --help` begins with examples. Without a key, [try it on a fake
server](#try-it-without-a-key). `login` keeps your key in [a profile](#keep-a-key). In scripts, set
`FLOWMAESTRO_API_KEY` instead, and `FLOWMAESTRO_BASE_URL` for another server. The options `--api-key`
and `--base-url` replace these two for one command. Commands need the extra `cli`; only `--help`,
`version`, `doctor`, `serve` and `mcp` work without it.

The examples on this page use the workflows of [`my_flows.py`](#try-it-without-a-key). To follow them,
run `flowmaestro serve --seed my_flows.py`, and set the two variables that it prints.
"""
SERVER = f"""\

## Try it without a key

`serve` starts a fake FlowMaestro on a port, with [a page that shows its requests and
executions](testing.md#watch-it-in-a-browser). `demo` starts one, too, and shows the main tasks on it ([a
picture](pictures/demo.svg)). The option `--transport` of `demo` chooses how it connects; with
`--transport memory`, it opens no socket, and the runs that it shows take no real time. `serve --seed
FILE` calls the function `seed(fake)` of a Python file, which adds resources of yours. Do not use the
fake in a thread that `seed` starts and waits for: the thread cannot reach the fake before `seed` has
returned.

The examples on this page were recorded by `docs/sessions.py` in a terminal of {WIDTH} columns. This is
their `my_flows.py`:

```text
{SEEDS}```

"""
SHAPES = """
*Deployed shapes*: this fake answers as the deployed server does (the real FlowMaestro, at
`https://api.flowmaestro.io`). With `--shapes documented`, it answers as FlowMaestro's own
documentation describes the API. *Live events*: event streams bring each event when it happens. With
`--events silent`, they bring only `connected` and keepalives, as the deployed server does in some
setups.
"""


def terminal(argv: List[str], environment: Dict[str, str], command: Command) -> Shown:
    """Run one command in a pseudo-terminal of its own."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(300)  # what hangs is ended; a busy machine may need more than a minute
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        os.environ.update(
            environment, PATH=path, PROMPT_TOOLKIT_NO_CPR="1", TERM="xterm", COLUMNS=str(WIDTH)
        )
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
        elif re.fullmatch(r"\x1b\[\d*[CD]", part):
            column += int(part[2:-1] or 1) * (1 if part.endswith("C") else -1)
        elif part in ("\x1b[K", "\x1b[0K", "\x1b[J", "\x1b[0J"):
            rows[row] = rows[row][:column]
            if part.endswith("J"):
                del rows[row + 1 :]
        elif part == "\x1b[2K":
            rows[row] = ""
        elif not part.startswith("\x1b["):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    for line in rows:
        if len(line.rstrip()) > WIDTH:
            raise AssertionError(f"the terminal breaks this line within a word: {line}")
    return "\n".join(line.rstrip() for line in rows).strip("\n")


def record(session: Session, environment: Dict[str, str]) -> List[Shown]:
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
            done.append(terminal(argv, environment, command)._replace(words=words))
        os.chdir("/")
    return done


def beside(session: Session, environment: Dict[str, str]) -> int:
    """Record a session in another process; the file descriptor to read it from."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        try:
            with os.fdopen(theirs, "w", encoding="utf-8") as out:
                json.dump(record(session, environment), out)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    return ours


Recorded = Dict[str, List[Shown]]
"""What was done in each session, by its title."""


def record_all(every: Tuple[Session, ...]) -> Tuple[str, Recorded]:
    """What `serve` printed, and every session."""
    FlowMaestroClient("fm_live_any").close()  # imports its transport
    import rich.live
    import rich.progress
    import rich.table
    import rich.tree  # noqa: F401

    for name in [name for name in os.environ if name.startswith("FLOWMAESTRO_")]:
        del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)
    recorded: Recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # `run` remembers what it started.
        os.environ["XDG_CONFIG_HOME"] = folder
        seeds = Path(folder) / "my_flows.py"
        seeds.write_text(SEEDS, "utf-8")
        serve = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0", "--seed", str(seeds)]
        server = subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            lines = cast("TextIO", server.stdout)
            printed = "".join(iter(lines.readline, "Press Ctrl-C to stop.\n"))
            environment = dict(re.findall(r"export (\S+)=(\S+)", printed))
            pipes = {session.title: beside(session, environment) for session in every}
            for title, pipe in pipes.items():
                recorded[title] = _received(pipe, environment)
        finally:
            server.kill()
            server.communicate()
    return _masked(printed, environment) + "Press Ctrl-C to stop.", recorded


def _received(pipe: int, environment: Dict[str, str]) -> List[Shown]:
    with os.fdopen(pipe, encoding="utf-8") as file:
        text = file.read()
    os.wait()
    return [Shown(*each) for each in json.loads(_masked(text, environment))]


def _masked(text: str, environment: Dict[str, str]) -> str:
    """The text with the address and the key of the page."""
    text = text.replace(f"{platform.release()}, {platform.machine()}", "6.12.0, x86_64")
    shown_as = {"FLOWMAESTRO_BASE_URL": SHOWN_URL, "FLOWMAESTRO_API_KEY": SHOWN_KEY}
    for name, value in shown_as.items():
        text = text.replace(environment[name], value)
    return text


def page(printed: str, recorded: Recorded) -> str:
    """The whole page, of the sessions that were recorded."""
    parts = [INTRODUCTION]
    serve = _block(f"$ flowmaestro serve --seed my_flows.py\n{printed}")
    for session in (*SESSIONS, OFFER):
        if session is OFFER:
            parts += [KEEPING, SERVER, serve, SHAPES]
        if session.title in recorded:
            done = _block(_session(recorded[session.title]))
            parts.append(f"\n## {session.title}\n\n{session.text}\n\n{done}")
    return "".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _session(done: List[Shown]) -> str:
    texts = []
    for words, screen, status in done:
        why = "Ctrl-C: " if status == 130 else ""
        said = f"\n[{why}exit status {status}]" if status else ""
        shown_as = f"python {words}" if words.endswith(".py") else f"flowmaestro {words}"
        texts.append(f"$ {shown_as}\n{screen}{said}")
    return "\n\n".join(texts)


def normal(text: object) -> str:
    """A text without what differs from run to run: ids, times, and what is under way."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(text))
    text = re.sub(r"\d+(\.\w+)+", "0", text)
    text = re.sub(r"^(  [✓✗] .*\S) +[\d.]+ s$", r"\1", text)  # Whose start was missed has no time.
    text = re.sub(r", \d+ running|, (\d+ m )?\d+ s left|\d+ ms|\d+ %", "", text)
    text = re.sub(r"just now|\d+ (s|min) ago", "AGO", text)
    return re.sub(r"\d+", "0", re.sub(r"\s+", " ", text))


def differences(old: str, new: str) -> List[str]:
    """The lines of the new page that the old one does not have, and commands that are gone."""
    known, seen = ({normal(line) for line in text.splitlines()} for text in (old, new))
    gone = [line for line in known - seen if line.startswith(("$ ", "[exit", "## "))]
    lines = map(normal, new.splitlines())
    # A busy machine misses other events than the one that recorded the page.
    return [line for line in lines if line not in known and not line.startswith(" 0 s ")] + gone


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the page, or check it."""
    if "--check" not in (sys.argv[1:] if arguments is None else arguments):
        PAGE.write_text(page(*record_all((*SESSIONS, OFFER))), "utf-8")
        return 0
    known = PAGE.read_text("utf-8").partition(f"\n## {OFFER.title}")[0]
    found = differences(known, page(*record_all(SESSIONS)))
    if found:  # A busy machine may miss an event, or a time limit.
        again = differences(known, page(*record_all(SESSIONS)))
        found = [line for line in found if line in again]
    print("\n".join(found) or f"{PAGE.name} is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

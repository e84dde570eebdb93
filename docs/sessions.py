"""Records the sessions of `docs/cli.md` again, in a terminal of 80 columns.

python docs/sessions.py            # write what the commands of the page say now
python docs/sessions.py --check    # exit with status 1 if a command says something that is
                                   # not on the page

A session is a block of the page that begins with `$ flowmaestro` or `$ python`. Each command of it
runs in a pseudo-terminal against `flowmaestro serve`, with the page's `my_flows.py`. An id that a
command names is the one at the same place in what was said before. A line that a terminal would
break within a word is an error.
"""

from __future__ import annotations

import fcntl
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
from typing import Dict, List, NamedTuple, Optional, TextIO, cast

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
FILES = {
    "cards.csv": "card,amount:=\nvisa,20\nexpired,35\namex,12.5\nexpired,8\n",
    "bad.csv": "card,amount:=\nvisa,20\namex\n",
    "schema.json": '{"properties": {"count": {"type": "integer"}}, "required": ["count"]}\n',
}
"""Files that the commands read, beside those that the page shows."""
PROMPT = "\x1b[?2004h"
"""Bracketed paste, which a prompt switches on when it is ready."""
TYPED = {
    "flowmaestro run wf_slow": (("Count", "\x03"),),
    "flowmaestro chat agent_parrot": ((PROMPT, "Good morning\r"), (PROMPT, "\x04")),
}
"""What is typed while a command runs, in pairs: when the first is on the screen, the second."""
NOT_CHECKED = "ask.py"
"""Its session needs the package `mcp`, which takes long to load: recorded, and not checked."""
SERVE = "$ flowmaestro serve --seed my_flows.py\n"

_BLOCK = re.compile(
    r"(?<=```text\n)\$ (?:flowmaestro|python) .*?(?=\n```$)", re.MULTILINE | re.DOTALL
)
_SHOWN_FILE = re.compile(r"`(\w+\.py)`:\n\n```text\n(.*?)```", re.DOTALL)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class Shown(NamedTuple):
    """A command as it was typed, what stood on the screen in the end, and its exit status."""

    words: str
    screen: str
    status: int


def terminal(words: str, environment: Dict[str, str]) -> Shown:
    """Run one command in a pseudo-terminal of its own."""
    program, *argv = [each.strip('"') for each in re.findall(r'".*?"|\S+', words)]
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
            if program == "python":
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
    output, seen, typed = "", 0, list(TYPED.get(words, ()))
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
    return Shown(words, shown(output), status)


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


def record(block: str, files: Dict[str, str], environment: Dict[str, str]) -> str:
    """Run the commands of one session in a folder of their own; return the block anew."""
    done: List[str] = []
    ids: Dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in files.items():
            Path(name).write_text(text, "utf-8")
        for before in block.split("\n\n$ "):
            line, _, said = before.partition("\n")
            words = _ID.sub(lambda found: ids.get(found[0], found[0]), line.removeprefix("$ "))
            command = terminal(words, environment)
            ids.update(zip(_ID.findall(said), _ID.findall(command.screen)))
            done.append(_as_shown(command))
        os.chdir("/")
    return "\n\n".join(done)


def _as_shown(command: Shown) -> str:
    why = "Ctrl-C: " if command.status == 130 else ""
    said = f"\n[{why}exit status {command.status}]" if command.status else ""
    return f"$ {command.words}\n{command.screen}{said}"


def beside(block: str, files: Dict[str, str], environment: Dict[str, str]) -> int:
    """Record a session in another process; the file descriptor to read it from."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        try:
            with os.fdopen(theirs, "w", encoding="utf-8") as out:
                out.write(record(block, files, environment))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    return ours


def recorded(page: str, checked: bool = False) -> str:
    """Return the page with every session recorded anew; those that are `checked`, if so."""
    FlowMaestroClient("fm_live_any").close()  # imports its transport
    import rich.live
    import rich.progress
    import rich.table
    import rich.tree  # noqa: F401

    for name in [name for name in os.environ if name.startswith("FLOWMAESTRO_")]:
        del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)
    files = {**FILES, **dict(_SHOWN_FILE.findall(page))}
    blocks = [it for it in _BLOCK.findall(page) if not (checked and NOT_CHECKED in it)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # `run` remembers what it started.
        os.environ["XDG_CONFIG_HOME"] = folder
        seeds = Path(folder) / "my_flows.py"
        seeds.write_text(files["my_flows.py"], "utf-8")
        serve = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0", "--seed", str(seeds)]
        server = subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            lines = cast("TextIO", server.stdout)
            printed = "".join(iter(lines.readline, "Press Ctrl-C to stop.\n"))
            environment = dict(re.findall(r"export (\S+)=(\S+)", printed))
            pipes = {
                it: beside(it, files, environment) for it in blocks if not it.startswith(SERVE)
            }
            for block, pipe in pipes.items():
                with os.fdopen(pipe, encoding="utf-8") as file:
                    page = page.replace(block, _masked(file.read(), environment))
                os.wait()
        finally:
            server.kill()
            server.communicate()
    (block,) = (it for it in blocks if it.startswith(SERVE))
    return page.replace(block, SERVE + _masked(printed, environment) + "Press Ctrl-C to stop.")


def _masked(text: str, environment: Dict[str, str]) -> str:
    """The text with the address and the key of the page."""
    text = text.replace(f"{platform.release()}, {platform.machine()}", "6.12.0, x86_64")
    shown_as = {"FLOWMAESTRO_BASE_URL": SHOWN_URL, "FLOWMAESTRO_API_KEY": SHOWN_KEY}
    for name, value in shown_as.items():
        text = text.replace(environment[name], value)
    return text


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
    page = PAGE.read_text("utf-8")
    if "--check" not in (sys.argv[1:] if arguments is None else arguments):
        PAGE.write_text(recorded(page), "utf-8")
        return 0
    found = differences(page, recorded(page, checked=True))
    if found:  # A busy machine may miss an event, or a time limit.
        again = differences(page, recorded(page, checked=True))
        found = [line for line in found if line in again]
    print("\n".join(found) or f"{PAGE.name} is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Draws `docs/pictures/`: commands in a terminal, and the timeline of a run.

python docs/pictures.py
"""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import platform
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.timeline import timeline_of

FOLDER = Path(__file__).with_name("pictures")
COLUMNS, LINES = 104, 31
COMMAND = "python -m flowmaestro demo"
PROMPT = b"\x1b[?2004h"
"""Bracketed paste, which a prompt switches on when it is ready."""
ANSWER = """\
Open **Settings**, then **Data**:

1. Choose **Export**.
2. Pick `CSV` or `JSON`.

The file is sent to *your* address within an hour.
"""


def demo() -> str:
    """Return the first lines of the demo in a terminal."""
    command = ["demo", "--transport", "memory"]
    lines = on_screen(command, {}, COLUMNS, seconds=60).splitlines()
    return picture(COMMAND, lines[:LINES], COLUMNS, "demo")


def sessions() -> Dict[str, str]:
    """Return a run that goes on, a batch with failures, a list, a chat and a diagnosis, by name."""
    fake = FakeFlowMaestro(epoch=time.time())
    steps = [Node(f"n{number}", name=f"Check region {number}", seconds=0.2) for number in range(40)]
    fake.workflow("0fa22000-0000-4000-8000-000000000001", name="Nightly report", nodes=steps)
    fake.workflow("0fa22000-0000-4000-8000-000000000002", name="Charge a card", outputs=charge)
    fake.agent("agent_support", ANSWER, name="Support")
    rows = "".join(f"{number}\n" for number in range(60))
    commands = {
        "run": (["run", "Nightly report"], 9.0),
        "map": (["map", "Charge a card", "cards.csv", "--out", "results.csv"], 60.0),
        "list": (["list", "executions", "--limit", "6"], 60.0),
        "chat": (["chat", "agent_support"], 60.0),
        "doctor": (["doctor", "--api-key", "fm_test_123"], 60.0),
    }
    typed = {"chat": ("How do I get my data out?\r", "/save talk.md\r", "\x04")}
    shown = {platform.release(): "6.12.0", platform.machine(): "x86_64"}
    drawn: Dict[str, str] = {}
    with running_server(fake) as url, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cards.csv").write_text(f"card:=\n{rows}")
        environment = {
            "FLOWMAESTRO_BASE_URL": url,
            "FLOWMAESTRO_API_KEY": fake.api_key,
            "XDG_STATE_HOME": folder,
        }
        for name, (command, seconds) in commands.items():
            told = typed.get(name, ())
            lines = on_screen(command, environment, 80, seconds, folder, told).splitlines()
            for text, other in {url: "https://api.flowmaestro.io", **shown}.items():
                lines = [line.replace(text, other) for line in lines]
            drawn[name] = picture(f"flowmaestro {shlex.join(command)}", lines, 80, name)
    return drawn


def charge(inputs: Dict[str, Any]) -> Dict[str, Any]:
    """Decline some cards, and let others expire."""
    if inputs["card"] % 7 == 3:
        raise ValueError(f"card {inputs['card']} was declined")
    if inputs["card"] % 20 == 5:
        raise ValueError("the card has expired")
    return {"paid": 20}


def on_screen(
    command: List[str],
    environment: Dict[str, str],
    columns: int,
    seconds: float,
    folder: Optional[str] = None,
    typed: Sequence[str] = (),
) -> str:
    """Return the screen of a terminal, with colors, after a command or some seconds of it.

    Each text of `typed` is typed when the next prompt is there.
    """
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flowmaestro", *command],
        stdin=writer,
        stdout=writer,
        stderr=writer,
        env={**plain, **environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
        cwd=folder,
    )
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    os.close(writer)
    printed, prompts = b"", 0
    try:
        while piece := os.read(reader, 65536):
            printed += piece
            if printed.count(PROMPT) > prompts and prompts < len(typed):
                time.sleep(0.3)  # A person is no faster.
                os.write(reader, typed[prompts].encode())
                prompts += 1
    except OSError:  # how Linux tells the end
        pass
    os.close(reader)
    timer.cancel()
    process.wait()
    return drawn(printed.decode("utf-8", "ignore"))


def drawn(printed: str) -> str:
    """Return the lines of a terminal, with their colors, after all this was written to it."""
    rows: List[List[Tuple[str, str]]] = [[]]
    row = column = 0
    style = ""
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", printed):
        end = part[-1:] if part.startswith("\x1b[") else ""
        count = int(part[2:-1]) if part[2:-1].isdigit() else 1
        if part == "\n":
            row += 1
            rows += [[]] * (row == len(rows))
        elif part == "\r":
            column = 0
        elif end == "m":
            style = "" if part in ("\x1b[m", "\x1b[0m") else style + part
        elif end == "A":
            row -= count
        elif end in ("C", "D"):
            column += count if end == "C" else -count
        elif part == "\x1b[2K":
            rows[row] = []
        elif end in ("J", "K"):
            rows[row] = rows[row][:column]
            if end == "J":
                del rows[row + 1 :]
        elif not end:
            cells = [(sign, style) for sign in part]
            before = rows[row][:column] + [(" ", "")] * (column - len(rows[row]))
            rows[row] = before + cells + rows[row][column + len(cells) :]
            column += len(cells)
    lines: List[str] = []
    for cells in rows:
        spans = itertools.groupby(cells, key=itemgetter(1))
        lines.append(
            "".join(f"{style}{''.join(sign for sign, _ in span)}\x1b[0m" for style, span in spans)
        )
    return "\n".join(lines).rstrip("\n")


def picture(command: str, lines: List[str], columns: int, name: str) -> str:
    """Return a terminal as an SVG that loads no fonts."""
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text.assemble(("$ ", "dim"), command), soft_wrap=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="", theme=MONOKAI, unique_id=name)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def timeline(width: int) -> str:
    """Return the timeline of one run on a fake FlowMaestro, of which a parallel node failed."""
    fake = FakeFlowMaestro(epoch=datetime(2026, 12, 1, 9, 30, tzinfo=timezone.utc).timestamp())
    nodes = [
        Node("order", name="Order", type="input", seconds=0.2),
        (
            Node("customer", name="Fetch customer", seconds=2.8),
            Node("stock", name="Check stock", seconds=1.9),
            Node("card", name="Charge card", seconds=0.4),
        ),
        Node("offer", name="Write offer", seconds=2.4),
    ]
    fake.workflow("wf_order", name="New order", nodes=nodes, fails_at="card")
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        return timeline_of(client.workflows.run("wf_order"), width=width)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, svg in {"demo": demo(), **sessions()}.items():
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
    for name, width in {"timeline": 828, "timeline-narrow": 360}.items():  # a page, a phone
        (FOLDER / f"{name}.svg").write_text(timeline(width), encoding="utf-8")

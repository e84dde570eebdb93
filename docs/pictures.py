"""Draws `docs/pictures/`: commands in a terminal, timelines of runs, and the inspector.

python docs/pictures.py
python docs/pictures.py inspector
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import platform
import pty
import re
import shlex
import shutil
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

from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from flowmaestro import FlowMaestroClient, FlowMaestroError
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.serve import serve
from flowmaestro.timeline import timeline_svg

FOLDER = Path(__file__).with_name("pictures")
COLUMNS, LINES = 104, 31
COMMAND = "python -m flowmaestro demo --transport memory"
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
    console.print()  # Without it, the picture would cut what is below the last line.
    svg = console.export_svg(title="", theme=MONOKAI, unique_id=name)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def timelines() -> Dict[str, str]:
    """Return timelines of runs on a fake FlowMaestro, by name; of one also for a phone."""
    order = [
        Node("order", name="Order", type="input", seconds=0.2),
        (
            Node("customer", name="Fetch customer", seconds=2.8),
            Node("stock", name="Check stock", seconds=1.9),
            Node("card", name="Charge card", seconds=0.4),
        ),
        Node("offer", name="Write offer", seconds=2.4),
    ]
    reviewed = [
        Node("draft", name="Draft the answer", type="llm", seconds=3.1),
        Node("review", name="Review by a person", type="humanReview"),
        Node("send", name="Send the answer", seconds=0.3),
    ]
    many = [
        Node("read", name="Read the orders", seconds=2),
        tuple(
            Node(f"o{at}", name=f"Order {at + 1:03}", seconds=0.5 + at % 7 / 4) for at in range(190)
        ),
        *(Node(f"s{at}", name=f"Sum up region {at + 1}", seconds=0.6) for at in range(9)),
    ]
    thirty = [
        node
        for region in ("North", "East", "South", "West", "Center")
        for node in (
            Node(f"{region}-read", name=f"Read the orders of region {region}", seconds=0.9),
            tuple(
                Node(f"{region}-{step}", name=f"{step} of region {region}", seconds=seconds)
                for step, seconds in (("Totals", 1.2), ("Returns", 2.1), ("Complaints", 0.4))
            ),
            Node(f"{region}-check", name=f"Check the figures of region {region}", seconds=0.7),
            Node(f"{region}-send", name=f"Send the report of region {region}", seconds=0.3),
        )
    ]
    return {
        **{
            name: timeline("New order", order, width, fails_at="card")
            for name, width in {"timeline": 828, "timeline-narrow": 360}.items()
        },
        "timeline-30": timeline("Five regions", thirty),
        "timeline-200": timeline("Nightly orders", many, fails_at="o77"),
        "timeline-paused": timeline("Answer a customer", reviewed),
    }


def timeline(name: str, nodes: List[Any], width: int = 828, **options: Any) -> str:
    """Return the timeline of a run of these nodes, up to its end or its first pause."""
    fake = FakeFlowMaestro(epoch=datetime(2026, 12, 1, 9, 30, tzinfo=timezone.utc).timestamp())
    fake.workflow("wf", name=name, nodes=nodes, **options)
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        started = client.workflows.execute("wf")["data"]["execution_id"]
        with client.executions.stream(started) as events:
            for event in events:
                if event["type"] == "execution:paused":
                    break
            execution = client.executions.get(started)["data"]
            return timeline_svg(events.seen_events, execution=execution, width=width)


def inspector() -> Dict[str, bytes]:
    """Return pictures of the inspector: a list, a call of four attempts, a lost response."""
    from PIL import Image  # only the group `browser` has these two
    from playwright.sync_api import sync_playwright

    fake = FakeFlowMaestro(epoch=time.time())
    fake.workflow("0fa22000-0000-4000-8000-000000000001", name="New order", nodes=["order"])
    opened = {"list": None, "storm": "503", "lost": "no response"}
    with start_blocking_portal() as portal, sync_playwright() as playwright:

        async def served(*, task_status: Any) -> None:
            await serve(fake, port=0, inspector=Inspector(fake), task_status=task_status)

        server, url = portal.start_task(served)
        with FlowMaestroClient(fake.api_key, base_url=url) as client:
            misbehave(fake, client)
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-lcd-text"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 400})
        pictures: Dict[str, bytes] = {}
        for name, text in opened.items():
            page.goto(url)
            page.locator(".row").nth(8).wait_for()
            if text:
                page.locator(".row", has_text=text).click()
                page.locator("#detail h2").wait_for()
            small = io.BytesIO()
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            image.quantize(64, Image.Quantize.FASTOCTREE).save(small, "PNG", optimize=True)
            pictures[name] = small.getvalue()
        server.cancel()
    return pictures


def misbehave(fake: FakeFlowMaestro, client: FlowMaestroClient) -> None:
    """Make calls, of which some meet a fault."""
    (workflow,) = (it for it in fake.workflows if it.startswith("0fa22000"))
    client.workflows.list()
    client.workflows.run(workflow, {"customer": "Ada"})
    fake.fail_next(2, 429, path="/agents")
    client.agents.list()
    fake.fail_next(4, path="/workflows/*")
    fake.drop_connection(path="/workflows/*/execute")
    for call in (
        lambda: client.workflows.get(workflow),
        lambda: client.workflows.execute(workflow, {"customer": "Bob"}),
        lambda: client.knowledge_bases.get("kb_misspelled"),
    ):
        with contextlib.suppress(FlowMaestroError):
            call()
    client.workflows.list()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if sys.argv[1:] == ["inspector"]:
        for name, png in inspector().items():
            (FOLDER / f"inspector-{name}.png").write_bytes(png)
        sys.exit()
    for name, svg in {"demo": demo(), **sessions(), **timelines()}.items():
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")

"""Draws `docs/pictures/`: commands in a terminal, timelines of runs, the inspector, and two pages.

python docs/pictures.py
python docs/pictures.py inspector
python docs/pictures.py pages
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.server
import io
import itertools
import json
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
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import Any, Dict, Generator, List, Optional, Sequence, Tuple

from anyio.from_thread import start_blocking_portal
from pygments.lexers.python import PythonLexer
from pygments.token import Token
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from flowmaestro import FlowMaestroClient, FlowMaestroError
from flowmaestro.__main__ import main as flowmaestro_main
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.testing.fake.sample_runs import add_invoices
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.serve import serve
from flowmaestro.timeline import timeline_svg

ROOT = Path(__file__).parents[1]
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
    lines = on_screen(["demo"], {}, COLUMNS, seconds=60).splitlines()
    return picture(COMMAND, lines[:LINES], COLUMNS, "demo")


def sessions() -> Dict[str, str]:
    """Return a run that goes on, a batch with failures, a list, a chat and a diagnosis, by name."""
    fake = FakeFlowMaestro(epoch=time.time())
    steps = [
        Node("read", name="Read the orders", seconds=0.9),
        Node("check", name="Check the figures", seconds=0.7),
        tuple(
            Node(region, name=f"Sum up {region}", seconds=seconds)
            for region, seconds in (("north", 1.2), ("east", 9), ("south", 1.9), ("west", 9))
        ),
        Node("send", name="Send the report", seconds=0.4),
    ]
    fake.workflow("0fa22000-0000-4000-8000-000000000001", name="Nightly report", nodes=steps)
    fake.workflow("0fa22000-0000-4000-8000-000000000002", name="Charge a card", outputs=charge)
    fake.agent("agent_support", ANSWER, name="Support")
    rows = "".join(f"{number}\n" for number in range(60))
    commands = {
        "run": (["run", "Nightly report"], 6.0),
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


MISTAKE = """\
from flowmaestro import FlowMaestroClient
from workflows import SEND_INVOICE

client = FlowMaestroClient()
run = client.workflows.run(SEND_INVOICE, {"customer": "cus_1", "amont": 12})
"""
LETTER, LINE = 8.4, 22
"""Pixels of a letter and of a line, in a font of 14 pixels."""


def editor() -> str:
    """Return an editor with a misspelled input, and what pyright says of it, as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeFlowMaestro()
        add_invoices(fake)
        file = Path(folder) / "workflows.py"
        with fake.installed():
            flowmaestro_main(["types", "Send invoice", "--out", str(file)])
        (Path(folder) / "send.py").write_text(MISTAKE, encoding="utf-8")
        python = ["--pythonpath", sys.executable]
        command = [sys.executable, "-m", "pyright", *python, "--outputjson", "send.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    texts = [it["message"].splitlines()[-1].strip() for it in found]
    (narrowest,) = (it for it in found if '"amont"' in it["message"])
    left = LETTER * narrowest["range"]["start"]["character"]
    width, height = 770, LINE * (len(MISTAKE.splitlines()) + 1) + 66
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="Menlo, Consolas, monospace" font-size="14">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#1f1f1f"/>',
    ]
    for number, line in enumerate(MISTAKE.splitlines(), 1):
        y = 14 + LINE * number
        drawn.append(f'<text x="16" y="{y}" fill="#6e7681">{number}</text>')
        column = 0
        for kind, text in PythonLexer().get_tokens(line):
            if text.strip():
                color = next((it for of, it in COLORS.items() if kind in of), "#d4d4d4")
                x = f"{40 + LETTER * column:.1f}"
                length = f'textLength="{LETTER * len(text):.1f}"'
                drawn.append(f'<text x="{x}" y="{y}" {length} fill="{color}">{escape(text)}</text>')
            column += len(text.rstrip("\n"))
    for problem in found:
        start, end = (problem["range"][it] for it in ("start", "end"))
        x, y = 40 + LETTER * start["character"], 18 + LINE * (start["line"] + 1)
        waves = round(LETTER * (end["character"] - start["character"]) / 6)
        path = f"M{x:.1f} {y}" + "q1.5 -3 3 0t3 0" * waves
        drawn.append(f'<path d="{path}" fill="none" stroke="#f14c4c" stroke-width="1.2"/>')
    box, y = LETTER * (len(texts[-1]) + 2), height - 60
    x = min(40 + left, width - box - 16)
    drawn += [
        f'<rect x="{x:.1f}" y="{y}" width="{box:.1f}" height="34" rx="4" fill="#252526" '
        'stroke="#454545"/>',
        f'<text x="{x + LETTER:.1f}" y="{y + 22}" fill="#d4d4d4">{escape(texts[-1])}</text>',
        "</svg>\n",
    ]
    return "\n".join(drawn)


COLORS = {
    Token.Keyword: "#c586c0",
    Token.Literal.String: "#ce9178",
    Token.Literal.Number: "#b5cea8",
}


def inspector() -> Dict[str, bytes]:
    """Return pictures of the inspector: a list, a call of four attempts, a lost response."""
    fake = FakeFlowMaestro(epoch=time.time())
    fake.workflow("0fa22000-0000-4000-8000-000000000001", name="New order", nodes=["order"])
    opened = {"list": None, "storm": "503", "lost": "no response"}
    with start_blocking_portal() as portal, chromium() as browser:

        async def served(*, task_status: Any) -> None:
            await serve(fake, port=0, inspector=Inspector(fake), task_status=task_status)

        server, url = portal.start_task(served)
        with FlowMaestroClient(fake.api_key, base_url=url) as client:
            misbehave(fake, client)
        page = browser.new_page(viewport={"width": 1280, "height": 400})
        pictures: Dict[str, bytes] = {}
        for name, text in opened.items():
            page.goto(url)
            page.locator(".row").nth(8).wait_for()
            if text:
                page.locator(".row", has_text=text).click()
                page.locator("#detail h2").wait_for()
            pictures[f"inspector-{name}"] = small(page.screenshot())
        server.cancel()
    return pictures


def pages() -> Dict[str, bytes]:
    """Return the first screens of the home page and of the README: wide, narrow, light and dark.

    Builds the site in `build/site`. The README is drawn as on the page of a repository.
    """
    for command in (
        [sys.executable, "docs/site.py", "build"],
        ["zensical", "build", "--config-file", "build/zensical.toml", "--strict", "--clean"],
    ):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    pictures: Dict[str, bytes] = {}
    with chromium() as browser, files(ROOT / "build" / "site") as site, files(ROOT) as root:
        for (width, height), scheme in itertools.product(((1280, 900), (390, 844)), SCHEMES):
            viewport = {"width": width, "height": height}
            page = browser.new_page(viewport=viewport, color_scheme=scheme)
            page.goto(site, wait_until="networkidle")
            pictures[f"home-{width}-{scheme}"] = small(page.screenshot())
            page.route(f"{root}README.html", lambda route: route.fulfill(body=readme()))
            page.goto(f"{root}README.html", wait_until="networkidle")
            pictures[f"readme-{width}-{scheme}"] = small(page.screenshot())
            page.close()
    return pictures


SCHEMES = ("light", "dark")
README = """<!doctype html><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
:root { --ground: #fff; --text: #1f2328; --code: #f6f8fa; --line: #d1d9e0; --link: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --text: #f0f6fc; --code: #151b23; --line: #3d444d; --link: #4493f8; }
}
body { background: var(--ground); color: var(--text); font: 16px/1.5 sans-serif; }
body { margin: 24px auto; max-width: 868px; padding: 0 16px; }
a { color: var(--link); }
h1, h2 { border-bottom: 1px solid var(--line); padding-bottom: 0.3em; }
code, pre { background: var(--code); border-radius: 6px; font: 13.6px/1.45 monospace; }
code { padding: 0.2em 0.4em; }
pre code { padding: 0; }
pre { overflow: auto; padding: 16px; }
img { max-width: 100%%; }
table { border-collapse: collapse; display: block; overflow: auto; }
td, th { border: 1px solid var(--line); padding: 6px 13px; }
</style>
%s"""
"""A page that is styled much like that of a repository."""


def readme() -> str:
    """Return the README as a page."""
    from markdown_it import MarkdownIt  # only the group `test` has it

    whole = MarkdownIt("commonmark").enable("table")
    return README % whole.render((ROOT / "README.md").read_text(encoding="utf-8"))


@contextlib.contextmanager
def chromium() -> Generator[Any, None, None]:
    """Yield the Chromium of the system. Only the group `browser` has Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-lcd-text"]
        )


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Sends files, and does not print requests."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextlib.contextmanager
def files(folder: Path) -> Generator[str, None, None]:
    """Yield the address at which the files of a folder are served."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def small(screenshot: bytes) -> bytes:
    """Return a picture of 64 colors, as PNG. Only the group `browser` has Pillow."""
    from PIL import Image

    image, png = Image.open(io.BytesIO(screenshot)).convert("RGB"), io.BytesIO()
    # The other methods merge the light ground of code with white, or tint it.
    reduced = image.quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    reduced.save(png, "PNG", optimize=True)
    return png.getvalue()


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
    photographed = {"inspector": inspector, "pages": pages}
    for word in sys.argv[1:]:
        for name, png in photographed[word]().items():
            (FOLDER / f"{name}.png").write_bytes(png)
    if not sys.argv[1:]:
        drawings = {"demo": demo(), "types": editor(), **sessions(), **timelines()}
        for name, svg in drawings.items():
            (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")

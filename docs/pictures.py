"""Draws `docs/pictures/`: the demo in a terminal, and the timeline of a run.

python docs/pictures.py
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.timeline import timeline_svg

FOLDER = Path(__file__).with_name("pictures")
COLUMNS, LINES = 104, 31
COMMAND = "python -m flowmaestro demo"


def demo() -> str:
    """The first lines of the demo in a terminal, as an SVG that loads no fonts."""
    reader, writer = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "flowmaestro", "demo", "--transport", "memory"]
    with subprocess.Popen(command, stdout=writer, env=environment) as process:
        os.close(writer)
        printed = b""
        try:
            while piece := os.read(reader, 65536):
                printed += piece
        except OSError:  # how Linux tells the end
            pass
        os.close(reader)
    if process.returncode:
        sys.exit("the demo failed")
    lines = printed.decode().replace("\r", "").splitlines()
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(f"[dim]$[/] {COMMAND}")
    for line in lines[:LINES]:
        console.print(Text.from_ansi(line), soft_wrap=True)
    picture = console.export_svg(title="", theme=MONOKAI, unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def timeline() -> str:
    """The timeline of one run on an embedded service."""
    fake = FakeFlowMaestro()
    nodes = [
        Node("fetch", name="Fetch customer", seconds=0.8),
        Node("score", name="Score risk", seconds=1.6),
        Node("write", name="Write offer", seconds=2.4),
        Node("send", name="Send email", seconds=0.5),
    ]
    fake.workflow("wf_offer", nodes=nodes)
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        events = []
        client.workflows.run("wf_offer", on_event=events.append)
    return timeline_svg(events)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "demo.svg").write_text(demo(), encoding="utf-8")
    (FOLDER / "timeline.svg").write_text(timeline(), encoding="utf-8")

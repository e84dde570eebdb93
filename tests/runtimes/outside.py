"""A fake FlowMaestro in a process of its own, so that nothing of it counts as the client's."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

KEY = "fm_live_runtimes"
SEED = """
from flowmaestro.testing import Node

def seed(fake):
    fake.workflow("wf_long", nodes=[Node("first", seconds=0.1), Node("last", seconds=2.0)])
    fake.workflow("wf_endless", nodes=[Node("only", seconds=36_000)])
"""


@contextlib.contextmanager
def flowmaestro(folder: Path) -> Iterator[str]:
    """Yield its URL. A run of `wf_long` takes two seconds, and one of `wf_endless` ten hours."""
    seed = folder / "seed.py"
    seed.write_text(SEED)
    options = ("--port", "0", "--api-key", KEY, "--seed", str(seed))
    command = [sys.executable, "-u", "-m", "flowmaestro", "serve", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        line = server.stdout.readline().decode()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found.group()
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()

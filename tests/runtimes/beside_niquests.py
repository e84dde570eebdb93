"""Beside niquests, whose urllib3-future takes the place of urllib3 on disk.

Calls and streams work on the default transport.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import niquests  # noqa: F401 - it is installed, and may change what it finds
import urllib3
from outside import KEY, flowmaestro

from flowmaestro import FlowMaestroClient


def main() -> None:
    assert int(urllib3.__version__.split(".")[2]) >= 900, "urllib3 is not that of niquests"
    with (
        tempfile.TemporaryDirectory() as folder,
        flowmaestro(Path(folder)) as url,
        FlowMaestroClient(KEY, base_url=url) as client,
    ):
        assert client.workflows.list()
        execution = client.workflows.execute("wf_long")["data"]["execution_id"]
        events = [event["type"] for event in client.executions.stream(execution)]
        assert events[-1] == "execution:completed", events


if __name__ == "__main__":
    main()

"""Beside niquests, whose urllib3-future takes the place of urllib3 on disk.

Calls and streams work on the default transport, and on `RequestsTransport` over that urllib3, too.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import niquests  # noqa: F401 - it is installed, and may change what it finds
import urllib3
from outside import KEY, flowmaestro

from flowmaestro import FlowMaestroClient
from flowmaestro_transports import RequestsTransport


def main() -> None:
    assert int(urllib3.__version__.split(".")[2]) >= 900, "urllib3 is not that of niquests"
    with tempfile.TemporaryDirectory() as folder, flowmaestro(Path(folder)) as url:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            on_requests = RequestsTransport()
        assert "urllib3-future" in str(caught[0].message)
        for transport in (None, on_requests):
            with FlowMaestroClient(KEY, base_url=url, transport=transport) as client:
                assert client.workflows.list()
                execution = client.workflows.execute("wf_long")["data"]["execution_id"]
                events = [event["type"] for event in client.executions.stream(execution)]
                assert events[-1] == "execution:completed", events
            if transport is not None:
                transport.close()


if __name__ == "__main__":
    main()

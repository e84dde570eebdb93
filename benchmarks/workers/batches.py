"""A batch of ours and its journal: what that costs beside none, on disk, in memory and in stalls."""

import json
import os
import subprocess
import sys
import tempfile
import time

from protocol import ARGUMENTS, KEY, Measurement, peak_kb, serve

from flowmaestro import FlowMaestroClient
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_transports.driving.journal import Journal

JOURNAL = "journal" in ARGUMENTS
TIMES = "2025-01-01T00:00:00.000Z"


def on_loopback(count):
    """Rows of a batch against `flowmaestro serve`, in a process of its own."""
    command = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = next(word for line in server.stdout for word in line.split() if "http" in word)
            journal = os.path.join(folder, "runs.sqlite3") if JOURNAL else None
            rows = [{"name": f"customer {number}"} for number in range(count)]
            with FlowMaestroClient(KEY, base_url=url) as client, Measurement() as batch:
                for outcome in client.workflows.run_many("wf_123", rows, journal=journal):
                    outcome.result()
        finally:
            server.terminate()
    return batch.of_one(count)

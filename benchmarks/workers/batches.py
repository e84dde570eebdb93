"""Measure a batch with a journal and without, and a journal by itself."""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from protocol import ARGUMENTS, INPUTS, KEY, Measurement, peak_kb, serve

import flowmaestro
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_transports.driving.journal import Journal

HEADERS = Headers([("Content-Type", "application/json")])
SEED = 'def seed(fake): fake.workflow("wf_1", outputs=dict)'
TIME = "2025-01-01T00:00:00.000Z"


def rows_of(count):
    return [{**INPUTS, "order": number} for number in range(count)]


def loopback(count):
    """Rows against `flowmaestro serve`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        seed, journal = Path(folder, "seed.py"), Path(folder, "runs.sqlite3")
        seed.write_text(SEED)
        command = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0", "--api-key", KEY]
        with subprocess.Popen(
            [*command, "--seed", str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                if hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(server.pid, range(os.cpu_count()))
                url = next(word for line in server.stdout for word in line.split() if "//" in word)
                with flowmaestro.FlowMaestroClient(KEY, base_url=url) as client:
                    run(client, rows_of(8), Path(folder, "first"))
                    rows = rows_of(count)
                    with Measurement() as batch:
                        run(client, rows, journal if "journal" in ARGUMENTS else None)
            finally:
                server.terminate()
    return batch.of_one(count)


def run(client, rows, journal=None, size=len, **options):
    """All rows of a batch; the sum of the sizes of their executions."""
    outcomes = client.workflows.run_many(
        "wf_1", rows, journal=journal, poll_interval=0.05, **options
    )
    return sum(size(it.result()) for it in outcomes)


def bytes_of(execution):
    return len(json.dumps(execution, separators=(",", ":")))


class Service:
    """Starts what it is asked to, and says that it has ended; a function as a transport."""

    def __init__(self):
        self._starts, self._running = 0, {}

    def __call__(self, request):
        if request.method == "POST":
            self._starts += 1
            name = str(uuid.UUID(int=self._starts, version=4))
            self._running[name] = request.body
            return self._reply(202, {"execution_id": name, "status": "pending"})
        name = request.url.rpartition("/")[2]
        if "?" in name:
            return self._reply(200, [], pagination={"has_next": False})
        body = json.loads(self._running.pop(name))
        times = dict.fromkeys(("created_at", "started_at", "completed_at"), TIME)
        about = {"id": name, "workflow_id": str(uuid.UUID(int=1)), "status": "completed"}
        outputs = {"message": f"Hello, {body['inputs']['name']}!"}
        return self._reply(200, {**about, **times, **body, "outputs": outputs, "error": None})

    @staticmethod
    def _reply(status, data, **more):
        return Response(status, HEADERS, json.dumps({"data": data, **more}).encode())


def journal(count):
    """Write a journal of so many rows, then read it again by the same call."""
    longest, saving, saves, save = 0.0, 0.0, 0, Journal.save

    def timed(self, states):
        nonlocal longest, saving, saves
        began, cpu = time.perf_counter(), time.process_time()
        save(self, states)
        longest = max(longest, time.perf_counter() - began)
        saving += time.process_time() - cpu
        saves += 1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.sqlite3")
        client = flowmaestro.FlowMaestroClient(KEY, base_url="http://x.test", transport=Service())
        run(client, rows_of(8), Path(folder, "first"))
        rows = rows_of(count)
        before = peak_kb()
        Journal.save = timed
        with Measurement() as writing:
            size = run(client, rows, path, bytes_of, concurrency=64)
        Journal.save = save
        disk = path.stat().st_size
        with Measurement() as reading:  # what a caller makes of the executions is not of it
            assert run(client, rows, path) > 0
        grown = peak_kb() - before
    return {
        **reading.of_one(count),
        "replay_s": reading.wall / 1e9,
        "replay_cpu_s": reading.cpu / 1e9,
        "written_us": writing.cpu / count / 1000,
        "saved_us": saving / count * 1e6,
        "saves": saves / count,
        "grown_mb": grown / 1024,
        "disk_bytes": (disk - size) / count,
        "stall_ms": longest * 1000,
    }


serve(loopback=loopback, journal=journal)

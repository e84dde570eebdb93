"""The fake server as a command: reached by a client, and ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Event, Thread

import pytest

from flowmaestro import AuthenticationError, FlowMaestroClient, FlowMaestroError, Hooks
from flowmaestro.cli import serve
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.fake.model import seeds
from flowmaestro.testing.fake.model.seeds import (
    DOCUMENTED_KEYS,
    FAILING_WORKFLOW_ID,
    PAUSING_WORKFLOW_ID,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to one process")


class Served:
    """A running `serve`, what it printed, and the file with its access log."""

    def __init__(self, process, log):
        self.process = process
        self.printed = "".join(iter(process.stdout.readline, "Press Ctrl-C to stop.\n"))
        self.url = re.search(r"export FLOWMAESTRO_BASE_URL=(\S+)", self.printed)[1]
        self.api_key = re.search(r"export FLOWMAESTRO_API_KEY=(\S+)", self.printed)[1]
        self._log = log

    @property
    def log(self):
        return self._log.read_text("utf-8").splitlines()

    def client(self):
        return FlowMaestroClient(self.api_key, base_url=self.url)


@contextmanager
def serving(flowmaestro, folder, *arguments, killed=False):
    """A server on a free port; at the end it is interrupted, or killed."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*flowmaestro.command, "serve", "--port", "0", *arguments],
            env=flowmaestro.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Served(process, folder / "log")
            process.send_signal(signal.SIGKILL if killed else signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, rest) == (-signal.SIGKILL if killed else 130, "")


@pytest.fixture(scope="module")
def served(flowmaestro, tmp_path_factory):
    """A server with nothing but defaults."""
    with serving(flowmaestro, tmp_path_factory.mktemp("served")) as served:
        yield served


def test_a_client_connects_with_the_printed_address_and_key(served):
    assert f"Requests and executions in a browser: {served.url}/\n" in served.printed
    assert served.printed.startswith(
        f"FlowMaestro (deployed shapes, live events) listens on {served.url}\n"
        f"A key with every scope: {served.api_key}\n"
    )
    assert "\x1b" not in served.printed
    with served.client() as client:
        assert client.workflows.list()["data"][0]["id"] == "wf_123"
        assert "trigger_type" in client.request("GET", "/triggers")["data"][0]
        assert client.workflows.run(FAILING_WORKFLOW_ID)["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [((), 200), (("--messages", "sse"), 200), (("--messages", "refused"), 501)],
)
def test_streamed_messages_are_answered_as_asked(here, monkeypatch, tmp_path, arguments, status):
    """An agent streams, unless the deployed server's refusal is asked for."""

    async def listen(fake, *_, **__):
        made.append(fake)
        raise OSError(0, "it is enough to know the fake")

    made, statuses = [], []
    monkeypatch.setattr(serve, "serve_fake", listen)
    seed = tmp_path / "flows.py"
    seed.write_text("def seed(fake):\n    fake.agent('agent_1', 'Hello there.')\n")
    here("serve", "--api-key", "fm_live_served", "--seed", str(seed), *arguments)
    hooks = Hooks(response=lambda info: statuses.append(info.status))
    transport = MemoryTransport(made[0])
    with FlowMaestroClient("fm_live_served", transport=transport, hooks=hooks) as client:
        thread = client.agents.create_thread("agent_1")["data"]["id"]
        statuses.clear()
        events = list(client.threads.send_message_stream(thread, "Hi"))
    assert events[-1]["content"] == "Hello there."
    assert statuses[0] == status


def test_the_server_starts_at_the_real_time(served):
    with served.client() as client:
        said = client.workflows.list()["meta"]["timestamp"].replace("Z", "+00:00")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(said)
    assert abs(age) < timedelta(seconds=30)


def test_no_published_key_is_taken(served):
    published = [value for name, value in vars(seeds).items() if name.endswith("_KEY")]
    assert len(published) == 4
    for known in (FakeFlowMaestro().api_key, *published, *seeds.DOCUMENTED_KEYS):
        client = FlowMaestroClient(known, base_url=served.url)
        with client, pytest.raises(AuthenticationError):
            client.workflows.list()


def test_a_port_in_use_is_one_clear_line(served, here):
    port = served.url.rpartition(":")[2]
    done = here("serve", "--port", port)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"flowmaestro serve: cannot listen on 127.0.0.1 port {port}: address already in use; "
        "give another --port, or 0 for a free one\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no.invalid"])
def test_an_address_of_somebody_else_is_one_clear_line(here, host):
    done = here("serve", "--host", host, "--port", "0")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"flowmaestro serve: cannot listen on {host} port 0: ")
    assert done.err.endswith("; give a --host of this machine\n")
    assert len(done.err.splitlines()) == 1


def test_each_request_is_a_line_of_the_access_log(served):
    with served.client() as client:
        client.workflows.list(page=2)
        client.workflows.list()  # Then the line of the first request has been written.
    line = r"GET /api/v1/workflows\?page=2 200 \d+ ms"
    assert any(re.fullmatch(line, each) for each in served.log)
    assert served.api_key not in "".join(served.log)


def test_a_seed_file_adds_resources_and_is_read_again_when_it_changes(flowmaestro, tmp_path):
    seeds = tmp_path / "my_flows.py"
    seeds.write_text('def seed(fake):\n    fake.workflow("wf_mine", outputs={"n": 1})\n')
    which = ["--seed", str(seeds), "--reload", "--api-key", DOCUMENTED_KEYS[0]]
    which += ["--shapes", "documented", "--events", "silent"]
    with serving(flowmaestro, tmp_path, *which) as served, served.client() as client:
        assert served.printed.startswith("FlowMaestro (documented shapes, silent events) listens")
        assert served.api_key == DOCUMENTED_KEYS[0]
        assert "trigger_type" not in client.request("GET", "/triggers")["data"][0]
        assert client.workflows.run("wf_mine")["outputs"] == {"n": 1}
        seeds.write_text('def seed(fake):\n    fake.workflow("wf_mine", outputs={"n": 2})\n')
        os.utime(seeds, (1, 1))
        while client.workflows.run("wf_mine")["outputs"] != {"n": 2}:
            pass
        seeds.write_text("def seed(fake):\n    fake.no_such_thing()\n")
        os.utime(seeds, (2, 2))
        while not any(line.startswith(f"{seeds}, line 2: AttributeError: ") for line in served.log):
            client.workflows.list()
        assert client.workflows.run("wf_mine")["outputs"] == {"n": 2}


def test_ctrl_c_with_an_open_stream_is_quiet_and_the_key_stays(served, flowmaestro, tmp_path):
    anywhere = ("--host", "0.0.0.0")  # where the inspector is off
    with serving(flowmaestro, tmp_path, *anywhere) as other, other.client() as client:
        assert "in a browser" not in other.printed
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{other.url}/_inspect/routes")
        assert other.api_key == served.api_key
        (kept,) = Path(flowmaestro.environment["XDG_STATE_HOME"]).rglob("serve-key")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        run = client.workflows.execute(PAUSING_WORKFLOW_ID)["data"]  # It does not end.
        with client.executions.stream(run["execution_id"]) as events:
            assert next(events)["type"] == "connected"
            other.process.send_signal(signal.SIGINT)
            other.process.wait(60)
    assert other.log[1].startswith(f"POST /api/v1/workflows/{PAUSING_WORKFLOW_ID}/execute 202 ")
    assert [line for line in other.log if "Traceback" in line] == []


def test_a_seed_file_that_is_wrong_is_one_clear_line(here, tmp_path):
    seeds = tmp_path / "my_flows.py"
    seeds.write_text("def seed(fake)\n")
    done = here("serve", "--port", "0", "--seed", str(seeds))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"flowmaestro serve: {seeds}, line 1: SyntaxError")
    assert len(done.err.splitlines()) == 1


def test_a_server_killed_amid_starts_has_kept_what_it_answered(flowmaestro, tmp_path):
    answered, enough = [], Event()

    def start(client):
        with suppress(FlowMaestroError):
            while True:
                answered.append(client.workflows.execute("wf_123")["data"]["execution_id"])
                if len(answered) == 100:
                    enough.set()

    which = ["--state", str(tmp_path / "state")]
    with serving(flowmaestro, tmp_path, *which, killed=True) as first, first.client() as client:
        once = client.with_options(max_retries=0)
        threads = [Thread(target=start, args=(once,)) for _ in range(4)]
        for each in threads:
            each.start()
        assert enough.wait(60)
        first.process.kill()
        for each in threads:
            each.join(60)
    with serving(flowmaestro, tmp_path, *which) as second, second.client() as client:
        kept = {it["id"] for it in client.executions.iterate(workflow_id="wf_123")}
    assert kept >= set(answered)


def test_an_unusable_state_file_is_named(here, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but a text")
    done = here("serve", "--state", str(text))
    assert done.status == 2
    assert "--state: " in done.err
    assert "notes.txt" in done.err
    assert text.read_text() == "not a database, but a text"
    assert here("serve", "--state", str(tmp_path)).status == 2

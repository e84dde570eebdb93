"""The file in which `serve` keeps executions over a restart."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.fake.server import state_file
from flowmaestro.testing.fake.server.state_file import StateFile


@pytest.fixture
def start(tmp_path):
    """Make a fake with its file, as a server does; `after` is the time since the first start."""
    files = []

    def start(after=0.0, **workflow):
        for file in files:
            file.close()
        fake = FakeFlowMaestro(seed=len(files) + 1, epoch=1_700_000_000.0 + after)
        if workflow:
            fake.workflow("wf_mine", **workflow)
        files.append(StateFile(str(tmp_path / "state"), fake))
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        client.workflows.list()  # Time begins with the first request.
        return fake, client

    yield start
    for file in files:
        file.close()


NODES = [Node("a", seconds=10), Node("b", seconds=10)]


def test_an_ended_execution_is_as_it_was(start):
    _, client = start(nodes=NODES, outputs={"n": 1})
    before = client.workflows.run("wf_mine", {"x": "y"})
    fake, client = start(after=100, nodes=NODES, outputs={"n": 2})
    assert client.executions.get(before["id"])["data"] == before
    assert [execution.id for execution in fake.executions] == [before["id"]]


def test_a_running_execution_continues_where_it_was(start):
    fake, client = start(nodes=NODES, outputs={"n": 1})
    id = client.workflows.execute("wf_mine")["data"]["execution_id"]
    fake.clock.advance(12)
    fake, client = start(after=15, nodes=NODES, outputs={"n": 1})
    names = [event["type"] for event in client.executions.stream(id)]
    assert names == ["connected", "node:completed", "execution:progress", "execution:completed"]
    assert fake.clock.now == pytest.approx(5.05), "as if the server had not been away"


def test_what_was_due_while_no_server_ran_happens_at_once(start):
    fake, client = start(nodes=NODES, outputs={"n": 1})
    id = client.workflows.execute("wf_mine")["data"]["execution_id"]
    fake, client = start(after=3600, nodes=NODES, outputs={"n": 1})
    ended = client.executions.get(id)["data"]
    assert (ended["status"], fake.clock.now) == ("completed", 0.0)


def test_an_execution_whose_workflow_is_gone_is_shown(start):
    _, client = start(nodes=NODES, outputs={"n": 1})
    id = client.workflows.execute("wf_mine")["data"]["execution_id"]
    _, client = start(after=1)
    shown = client.executions.get(id)["data"]
    assert (shown["workflow_id"], shown["status"]) == ("wf_mine", "pending")


def test_a_failed_and_a_cancelled_execution_are_kept(start):
    _, client = start(nodes=["a"], fails_at="a")
    failed = client.workflows.run("wf_mine")
    id = client.workflows.execute("wf_mine")["data"]["execution_id"]
    client.executions.cancel(id)
    _, client = start(after=60, nodes=["a"], fails_at="a")
    assert client.executions.get(failed["id"])["data"] == failed
    assert client.executions.get(id)["data"]["status"] == "cancelled"


def test_only_the_last_executions_are_kept(start, monkeypatch, tmp_path):
    monkeypatch.setattr(state_file, "MAX_KEPT", 3)
    _, client = start(nodes=["a"], outputs={})
    ids = [client.workflows.execute("wf_mine")["data"]["execution_id"] for _ in range(5)]
    fake, _ = start(after=1, nodes=["a"], outputs={})
    assert [execution.id for execution in fake.executions] == ids[2:]


def test_the_file_is_private(start, tmp_path):
    start()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["text", "database", "in use"])
def test_an_unusable_file_is_refused_and_stays_as_it_is(kind, tmp_path, start):
    path = tmp_path / "other"
    if kind == "text":
        path.write_text("a text that is not a database" * 100)
    elif kind == "database":
        with sqlite3.connect(path) as file:
            file.execute("CREATE TABLE mine (a)")
        file.close()
    else:
        start()
        path = tmp_path / "state"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=path.name):
        StateFile(str(path), FakeFlowMaestro())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "no JSON",
        "[" * 100_000,
        7,
        "[]",
        {"status": "done"},
        {"inputs": "x"},
        {"outputs": []},
        {"taken": -1},
        {"taken": "1"},
        {"workflow": {"id": "wf_mine"}},
        {"workflow": None},
        {"created_at": float("nan")},
        {"created_at": 1e300},
        {"started_at": "today"},
        {"failed_nodes": None},
        "without a value",
        "without an id",
    ],
    ids=lambda change: str(change)[:20],
)
def test_a_damaged_row_is_told_with_its_file(change, tmp_path, start):
    _, client = start(nodes=NODES, outputs={"n": 1})
    client.workflows.execute("wf_mine")
    (tmp_path / "other").write_bytes((tmp_path / "state").read_bytes())
    with closing(sqlite3.connect(tmp_path / "other", isolation_level=None)) as file:
        (text,) = file.execute("SELECT row FROM executions").fetchone()
        row = json.loads(text)
        if change == "without an id":
            file.execute("UPDATE executions SET id = NULL")
        elif change == "without a value":
            del row["error"]
            file.execute("UPDATE executions SET row = ?", (json.dumps(row),))
        else:
            text = json.dumps({**row, **change}) if isinstance(change, dict) else change
            file.execute("UPDATE executions SET row = ?", (text,))
    with pytest.raises(ValueError, match=r"other is damaged: .*; remove it to begin without"):
        StateFile(str(tmp_path / "other"), FakeFlowMaestro())


@pytest.mark.parametrize("at", [100, 4096 + 1])
def test_a_file_with_changed_bytes_is_told(at, tmp_path, start):
    _, client = start(nodes=NODES, outputs={"n": 1})
    for _ in range(50):
        client.workflows.execute("wf_mine")
    data = bytearray((tmp_path / "state").read_bytes())
    data[at : at + 50] = b"\xff" * 50
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(ValueError, match=r"other (is damaged|cannot be used): "):
        StateFile(str(tmp_path / "other"), FakeFlowMaestro())

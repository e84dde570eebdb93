"""Checkpoints as clients keep them: functions of the user, and a file."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    Checkpoint,
    CheckpointConflict,
    CheckpointError,
    FlowMaestroClient,
    Hooks,
    NotFoundError,
)
from flowmaestro.testing import FakeFlowMaestro, MemoryCheckpoint
from flowmaestro_transports.driving import checkpoints
from flowmaestro_transports.primitives.file_lock import open_lock_file

pytestmark = pytest.mark.filterwarnings("error")


def boom(*_: Any) -> None:
    raise OSError("the store is away")


async def later(*_: Any) -> None:
    raise AssertionError("never awaited")


@pytest.mark.anyio
@pytest.mark.parametrize("later", [False, True])
async def test_an_async_client_takes_both_kinds_of_functions(
    flowmaestro_fake: FakeFlowMaestro,
    async_flowmaestro_client: AsyncFlowMaestroClient,
    later: bool,
) -> None:
    flowmaestro_fake.workflow("wf_1", outputs={"total": 7})
    states: List[Dict[str, Any]] = []

    def load() -> Any:
        return states[-1] if states else None

    async def load_later() -> Any:
        return load()

    async def save_later(state: Dict[str, Any]) -> None:
        states.append(state)

    checkpoint = Checkpoint(load, states.append)
    if later:
        checkpoint = Checkpoint(load_later, save_later)
    workflows = async_flowmaestro_client.workflows
    first = await workflows.run("wf_1", {"a": 1}, checkpoint=checkpoint)
    reply = await workflows.execute("wf_1", inputs={"a": 1}, checkpoint=checkpoint)
    assert {**reply["data"]}["execution_id"] == first["id"]
    assert len(states) == 2
    assert len(flowmaestro_fake.requests) == 5


def test_a_sync_client_refuses_coroutine_functions_before_it_sends(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient
) -> None:
    run = flowmaestro_client.workflows.run
    with pytest.raises(TypeError, match="given as load"):
        run("wf", checkpoint=Checkpoint(later, boom))
    with pytest.raises(TypeError, match="given as save"):
        run("wf", checkpoint=Checkpoint(boom, later))
    with pytest.raises(TypeError, match="what load returned"):
        flowmaestro_client.workflows.execute("wf", checkpoint=Checkpoint(lambda: later(), boom))
    assert flowmaestro_fake.requests == []


def test_a_load_that_raises_ends_the_run_before_anything_is_sent(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient
) -> None:
    with pytest.raises(CheckpointError, match="load raised OSError: the store is away") as caught:
        flowmaestro_client.workflows.run("wf", checkpoint=Checkpoint(boom, boom))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.execution_id is None
    assert flowmaestro_fake.requests == []


def test_a_load_cannot_lose_a_comparison(flowmaestro_client: FlowMaestroClient) -> None:
    def conflict() -> None:
        raise CheckpointConflict

    with pytest.raises(CheckpointError, match="load raised CheckpointConflict"):
        flowmaestro_client.workflows.run("wf", checkpoint=Checkpoint(conflict, boom))


# Files


def test_a_file_keeps_a_start(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    flowmaestro_fake.workflow("wf_1", outputs={"total": 7})
    path = tmp_path / "kept.json"
    checkpoint = Checkpoint.file(path)
    first = flowmaestro_client.workflows.run("wf_1", {"a": 1}, checkpoint=checkpoint)
    assert flowmaestro_client.workflows.run("wf_1", {"a": 1}, checkpoint=checkpoint) == first
    assert len(flowmaestro_fake.executions) == 1
    assert json.loads(path.read_text())["execution_id"] == first["id"]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["kept.json", "kept.json.lock"]
    with pytest.raises(CheckpointError, match="other inputs") as caught:
        flowmaestro_client.workflows.run("wf_1", {"a": 2}, checkpoint=checkpoint)
    assert caught.value.execution_id == first["id"]


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_a_symbolic_link_stays_one(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    flowmaestro_fake.workflow("wf_1")
    (tmp_path / "volume").mkdir()
    link = tmp_path / "kept.json"
    link.symlink_to(tmp_path / "volume" / "kept.json")
    flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(link))
    assert link.is_symlink()
    assert json.loads(link.read_text())["state"] == "started"


def test_a_file_that_a_dead_process_left_half_written_is_ignored(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    flowmaestro_fake.workflow("wf_1")
    (tmp_path / "kept.json.new").write_text('{"v": 1, "sta')
    flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(tmp_path / "kept.json"))
    assert sorted(os.listdir(tmp_path)) == ["kept.json", "kept.json.lock"]


def test_a_file_compares_and_swaps(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    """Another process starts between the load and the save of this one."""
    flowmaestro_fake.workflow("wf_1")
    checkpoint = Checkpoint.file(tmp_path / "kept.json")
    inner = FlowMaestroClient()
    asked = []

    def starts_too(request: Any) -> None:
        if not asked:
            asked.append(request)
            inner.workflows.run("wf_1", checkpoint=checkpoint)

    outer = FlowMaestroClient(hooks=Hooks(request=starts_too))
    outer.workflows.run("wf_1", checkpoint=checkpoint)
    assert len(flowmaestro_fake.executions) == 1


@pytest.mark.parametrize("seconds", [5, 40])
def test_start_that_is_held_up_by_a_hook_is_not_sent_beside_another(
    flowmaestro_fake: FakeFlowMaestro, seconds: float
) -> None:
    """The hook holds it up until another process may have looked for it."""
    flowmaestro_fake.workflow("wf_1")
    kept, other, asked = MemoryCheckpoint(), FlowMaestroClient(), []
    # The newest one from before shows that the right list is read.
    other.workflows.execute("wf_1", inputs={"n": "before"})

    def hold_up(request: Any) -> None:
        if request.method == "POST" and not asked:
            asked.append(request)
            flowmaestro_fake.clock.advance(seconds)
            run = other.workflows.run("wf_1", {"n": 1}, checkpoint=kept)
            assert run["status"] == "completed"

    client = FlowMaestroClient(hooks=Hooks(request=hold_up))
    run = client.workflows.run("wf_1", {"n": 1}, checkpoint=kept)
    assert run["status"] == "completed"
    assert [it.inputs["n"] for it in flowmaestro_fake.executions] == ["before", 1]
    assert sum(request.method == "POST" for request in flowmaestro_fake.requests) == 2


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[1]", b"[]", b"null"])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    file = checkpoints.CheckpointFile(str(path))
    for use in (lambda: file.load([], False), lambda: file.save([{"v": 1, "serial": 1}])):
        with pytest.raises(CheckpointError, match=r"kept\.json is damaged: not a JSON") as caught:
            use()
        assert caught.value.code == "checkpoint_unusable"
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written_is_named(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "kept.json"
    with pytest.raises(CheckpointError, match="missing") as caught:
        flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(path))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert flowmaestro_fake.requests == []


def test_a_lock_that_is_not_free_for_ten_seconds_is_an_error(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, tmp_path: Path
) -> None:
    path = tmp_path / "kept.json"
    began = flowmaestro_fake.clock.now
    with open_lock_file(f"{path}.lock"):
        with pytest.raises(CheckpointError, match="locked by another process for 10s") as caught:
            flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(path))
        assert caught.value.code == "checkpoint_busy"
        assert 10 <= flowmaestro_fake.clock.now - began < 11
    with pytest.raises(NotFoundError):
        flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(path))


@pytest.mark.anyio
async def test_an_async_client_lets_others_run_while_it_waits_for_the_lock(
    flowmaestro_fake: FakeFlowMaestro,
    async_flowmaestro_client: AsyncFlowMaestroClient,
    tmp_path: Path,
) -> None:
    path = tmp_path / "kept.json"
    with open_lock_file(f"{path}.lock"), pytest.raises(CheckpointError, match="for 10s"):
        await async_flowmaestro_client.workflows.run("wf_1", checkpoint=Checkpoint.file(path))


@pytest.mark.skipif(sys.platform == "win32", reason="a descriptor there has a lock of its own")
def test_child_that_is_forked_while_a_file_is_locked_does_not_keep_it_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dup` makes the copy of the descriptor that a child inherits."""
    inherited: List[int] = []

    def open_and_fork(path: str) -> Any:
        lock = open_lock_file(path)
        inherited.append(os.dup(lock.fileno()))
        return lock

    monkeypatch.setattr(checkpoints, "open_lock_file", open_and_fork)
    file = checkpoints.CheckpointFile(str(tmp_path / "kept.json"))
    try:
        assert file.load([], False) is None
        file.save([{"serial": 1}])
        assert file.load([], False) == {"serial": 1}
    finally:
        for descriptor in inherited:
            os.close(descriptor)

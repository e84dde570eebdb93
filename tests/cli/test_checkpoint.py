"""`run --checkpoint FILE`: the same command again attaches to what runs, or prints what ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowmaestro.testing import Node


@pytest.fixture
def kept(tmp_path):
    return str(tmp_path / "kept.json")


def test_the_same_command_prints_what_ended_and_says_so(command, fake, kept):
    first = command("run", "wf_123", "-i", "name=Ada", "--checkpoint", kept)
    again = command("run", "wf_123", "-i", "name=Ada", "--checkpoint", kept)
    assert (again.status, again.out) == (first.status, first.out) == (0, first.out)
    assert "nothing was started" not in first.err
    assert f"ago; nothing was started; delete {kept} or name another for a new run" in (
        again.err.replace("\n", " ")
    )
    fake.assert_executed("wf_123", times=1)
    detached = command("run", "wf_123", "-i", "name=Ada", "--checkpoint", kept, "--detach")
    assert detached.out.strip() == json.loads(Path(kept).read_text())["execution_id"]
    assert "nothing was started" in detached.err


def test_the_same_command_follows_what_runs(command, fake, kept):
    fake.workflow("wf_slow", nodes=[Node("work", seconds=50)], outputs={"a": 1})
    started = command("run", "wf_slow", "--checkpoint", kept, "--detach")
    again = command("run", "wf_slow", "--checkpoint", kept, "--json")
    assert json.loads(again.out)["id"] == started.out.strip()
    assert "nothing was started" not in again.err
    fake.assert_executed("wf_slow", times=1)


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_the_same_command_says_that_the_execution_was_cancelled(command, fake, kept, detach):
    fake.workflow("wf_slow", nodes=[Node("work", seconds=3600)])
    command("run", "wf_slow", "--checkpoint", kept, "--detach")
    fake.cancel(fake.executions[-1].id)
    assert fake.executions[-1].status == "cancelled"
    again = command("run", "wf_slow", "--checkpoint", kept, *detach)
    assert "ended before; nothing was started; delete " in again.err
    assert again.status == (0 if detach else 1)
    fake.assert_executed("wf_slow", times=1)


def test_rerun_starts_a_failed_execution_again(command, fake, kept):
    fake.workflow("wf_bad", nodes=[Node("work")], fails_at="work")
    for _ in range(2):
        failed = command("run", "wf_bad", "--checkpoint", kept)
        assert failed.status == 1
        assert "\nWith --rerun, this command starts it again.\n" in failed.err
    fake.assert_executed("wf_bad", times=1)
    command("run", "wf_bad", "--checkpoint", kept, "--rerun")
    fake.assert_executed("wf_bad", times=2)


def test_an_unfinished_start_is_said_to_take_a_minute(command, fake, kept):
    fake.workflow("wf_1", outputs={"a": 1})
    Path(kept).write_text('{"v": 1, "state": "starting", "at": 0.0}')
    done = command("run", "wf_1", "--checkpoint", kept)
    assert "may have been started before; looking for it in 60 s" in done.err
    assert done.status == 0

"""Tasks with a checkpoint in SQLite, whose processes are killed at every save and between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flowmaestro.testing import FakeFlowMaestro, Node, running_server

TASKS = 60
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is for POSIX")


@pytest.mark.parametrize("seed", [1, 2])
def test_each_task_is_started_once(seed: int, tmp_path: Path) -> None:
    from tests.harness.durable.tasks_to_kill import WORKFLOW

    fake = FakeFlowMaestro(seed=seed)
    fake.workflow(WORKFLOW, nodes=[Node("work", seconds=0.01)], outputs=dict)
    with running_server(fake) as url:
        command = [sys.executable, "-m", "tests.harness.durable.tasks_to_kill"]
        args = [url, str(tmp_path), str(seed), str(TASKS // 2)]
        env = {**os.environ, "FLOWMAESTRO_API_KEY": fake.api_key}
        pipe = subprocess.PIPE
        ran = subprocess.run([*command, *args], stdout=pipe, timeout=120, check=True, env=env)
    assert int(ran.stdout) > TASKS // 2, "kills"
    started = Counter(execution.inputs["task"] for execution in fake.executions)
    assert started == dict.fromkeys(range(-1, TASKS // 2), 1)
    ids = {execution.inputs["task"]: execution.id for execution in fake.executions}
    lines = (tmp_path / "ended.jsonl").read_text().splitlines()
    assert {task: id for task, id, _ in map(json.loads, lines)} == ids
    assert {status for _, _, status in map(json.loads, lines)} == {"completed"}

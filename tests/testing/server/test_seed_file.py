"""A seed file that is wrong changes nothing, and says where."""

from __future__ import annotations

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing.server.seed_file import SeedFile

GOOD = 'def seed(fake):\n    fake.workflow("wf_mine", outputs={"n": 1})\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("1}", "2}") + "    1 / 0\n", "{path}, line 3: ZeroDivisionError: "),
        ("import sys\nsys.exit(3)\n", "{path}, line 2: SystemExit: 3"),
        ("import wrong_helper\n", "{helper}, line 1: SyntaxError: "),
        (GOOD + "    fake.workflow(7)\n", "{path}, line 3: "),
    ],
    ids=["half-way", "exit", "helper", "bad-call"],
)
def test_a_file_that_fails_leaves_the_last_good_seeds(tmp_path, monkeypatch, text, said):
    path, helper = tmp_path / "my_flows.py", tmp_path / "wrong_helper.py"
    helper.write_text("def x(\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fake, told = FakeFlowMaestro(), []
    seeds = SeedFile(str(path), fake, told.append)
    path.write_text(GOOD)
    assert seeds.load()
    path.write_text(text)
    assert not seeds.load()
    assert told[-1].startswith(said.format(path=path, helper=helper))
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        assert client.workflows.run("wf_mine")["outputs"] == {"n": 1}

"""A user's failing test shows the lines of the user, and none of ours."""

from __future__ import annotations

import re

FAILING = {
    "call": "client.workflows.get('wf_none')",
    "run": "client.workflows.run('wf_none')",
    "callback": "client.workflows.run('wf_123', on_event=refuse)",
    "batch": "list(client.workflows.run_many('wf_none', [{}]))",
    "progress": "list(client.workflows.run_many('wf_123', [{}], progress=refuse))",
    "stream": "list(client.executions.stream('exec_none'))",
    "argument": "client.workflows.run('wf_123', {'a': {1}})",
    "outputs": "fail_at(fake, 'a'); client.workflows.run('wf_bad').raise_for_status()",
    "script": "fail_at(fake, 'b')",
    "node": "Node('a', seconds=-1)",
    "lost": "fake.drop_connection(times=9); client.agents.list()",
    "network": "FlowMaestroClient('fm_live_x', base_url='http://127.0.0.1:9').agents.get('a')",
}
PROGRAM = """
from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node

def refuse(told):
    assert told is None

def fail_at(fake, node):
    __tracebackhide__ = True
    fake.workflow("wf_bad", nodes=["a"], fails_at=node)
"""
TEST = """
def test_{name}():
    with FakeFlowMaestro() as fake, fake.installed(), FlowMaestroClient() as client:
        {line}
"""


def test_failing_test_shows_no_frame_of_ours(run_pytest) -> None:
    """It had 125 lines of ours before the line of the user."""
    tests = [TEST.format(name=name, line=line) for name, line in FAILING.items()]
    said = run_pytest(PROGRAM + "".join(tests), failed=len(FAILING))
    reports = re.split(r"\n_+ test_(\w+) _+\n", said.partition("short test summary")[0])
    shown = dict(zip(reports[1::2], reports[2::2]))
    assert set(shown) == set(FAILING)
    for name, line in FAILING.items():
        assert f">       {line}\n" in re.sub(r"\n> +", "\n>       ", shown[name])
        assert not re.search(r"/flowmaestro(_\w+)?/.*py:\d", shown[name])
        assert len(shown[name].splitlines()) <= 40

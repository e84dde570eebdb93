"""The demo fails where something is not as it should be."""

from __future__ import annotations

import time
from functools import partial

import pytest

from flowmaestro import FlowMaestroClient, webhooks
from flowmaestro.cli import CommandFailed, demo
from flowmaestro.cli.console import Console
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.fake.model.seeds import FAILING_WORKFLOW_ID


def show_everything(fake, out):
    transport = MemoryTransport(fake)
    tell = demo.Narrator(Console(out), transport.now)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        demo.show_everything(client, partial(demo.last_delivery, fake), tell)


def broken(question):
    raise RuntimeError("no model")


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (lambda fake: fake.workflow(FAILING_WORKFLOW_ID), "is completed, not failed"),
        (
            lambda fake: fake.workflow("wf_abc123", error="Broke"),
            'is failed, not completed: Workflow completed with 1 failed nodes: {"work":"Broke"}',
        ),
        (lambda fake: fake.agent("agent_abc123", broken), "the agent failed: RuntimeError: no"),
    ],
)
def test_what_ends_in_another_way_fails_the_demo(tmp_path, arrange, said):
    fake = FakeFlowMaestro("documented", epoch=time.time())
    arrange(fake)
    with (tmp_path / "out").open("w") as out, pytest.raises(CommandFailed) as caught:
        show_everything(fake, out)
    assert said in str(caught.value)


def test_the_last_delivery_is_that_of_its_own_webhook():
    fake = FakeFlowMaestro(epoch=time.time())
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        made = [
            client.webhooks.create(name, "https://example.com", ["execution.completed"])["data"]
            for name in ("One", "Two", "Three")
        ]
        client.workflows.run("wf_123", inputs={"name": "Ada"})
        for webhook in made:
            body, signature = demo.last_delivery(fake, webhook["id"])
            assert webhooks.parse(body, signature, webhook["secret"], tolerance=300)

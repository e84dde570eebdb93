"""The two tours are one program: the awaiting one is the blocking one with `await`."""

from __future__ import annotations

import ast
import inspect
import time

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import CommandFailed, awaiting_tour, blocking_tour
from flowmaestro.cli.mailbox import MemoryMailbox
from flowmaestro.cli.narrator import Narrator
from flowmaestro.cli.screen import UNLIMITED, Screen
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.model.seeds import FAILING_WORKFLOW_ID

BLOCKING_NAMES = {"AsyncFlowMaestroClient": "FlowMaestroClient", "AsyncMailbox": "Mailbox"}


class WithoutAwait(ast.NodeTransformer):
    """Makes blocking code of awaiting code."""

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node):
        self.generic_visit(node)
        return ast.FunctionDef(**dict(ast.iter_fields(node)))

    def visit_AsyncFor(self, node):
        self.generic_visit(node)
        return ast.For(**dict(ast.iter_fields(node)))

    def visit_Name(self, node):
        return ast.Name(BLOCKING_NAMES.get(node.id, node.id), node.ctx)

    def visit_alias(self, node):
        return ast.alias(BLOCKING_NAMES.get(node.name, node.name), node.asname)


def program(module):
    """The module as a tree, without its docstring and with imports in order."""
    tree = ast.parse(inspect.getsource(module))
    del tree.body[0]
    tree = WithoutAwait().visit(tree)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            node.names.sort(key=lambda alias: alias.name)
    return ast.dump(tree, indent=1)


def test_the_tours_are_alike():
    assert program(awaiting_tour) == program(blocking_tour)


def tour(fake, out):
    transport = MemoryTransport(fake)
    tell = Narrator(Screen(out, UNLIMITED, coloured=False), transport.now)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        blocking_tour.take_tour(client, MemoryMailbox(fake), tell)


def test_a_run_that_ends_as_it_should_not_fails_the_tour(tmp_path):
    fake = FakeFlowMaestro(epoch=time.time())
    fake.workflow(FAILING_WORKFLOW_ID)
    with (tmp_path / "out").open("w") as out, pytest.raises(CommandFailed) as caught:
        tour(fake, out)
    assert "is completed, not failed" in str(caught.value)
    fake = FakeFlowMaestro(epoch=time.time())
    fake.workflow("wf_abc123", error="Broke")
    with (tmp_path / "out").open("w") as out, pytest.raises(CommandFailed) as caught:
        tour(fake, out)
    assert "is failed, not completed: Broke" in str(caught.value)


def test_an_agent_that_fails_fails_the_tour(tmp_path):
    def broken(question):
        raise RuntimeError("no model")

    fake = FakeFlowMaestro("documented", epoch=time.time())
    fake.agent("agent_abc123", broken)
    with (tmp_path / "out").open("w") as out, pytest.raises(CommandFailed) as caught:
        tour(fake, out)
    assert "the agent failed: RuntimeError: no model" in str(caught.value)

"""The contract's blocks are clean under `mypy --strict` and pyright strict, and misuse is not."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import List

import pytest

from tests.harness.contract.blocks import CLIENTS, Block, blocks, is_coroutine
from tests.harness.contract.checkers import Complaint, mypy, pyright

BLOCKS = blocks()
CHECKERS = {"mypy": mypy, "pyright": pyright}


def complaints(checker: str, folder: Path) -> List[Complaint]:
    """What a checker says of all that is written here: it is started once, which takes longest."""
    modules = {f"block_{block.number:02d}.py": as_module(block) for block in BLOCKS}
    modules.update(
        {"misuse.py": MISUSES, "executions.py": EXECUTIONS, "own_transport.py": OWN_TRANSPORT}
    )
    for name, text in modules.items():
        (folder / name).write_text(text, encoding="utf-8")
    return CHECKERS[checker](folder)


def as_module(block: Block) -> str:
    """The block's text with the least that a type checker needs before it."""
    text, prelude = block.text, _unimported(block)
    if block.is_given_a_client:
        made = "AsyncFlowMaestroClient" if block.awaits else "FlowMaestroClient"
        prelude += ["import flowmaestro", f"client = flowmaestro.{made}()"]
    if block.runs_asyncio:  # it defines a `main` without annotations
        prelude.insert(0, "# mypy: allow-untyped-defs, allow-untyped-calls")
    if is_coroutine(block.code()):
        prelude.append("async def block() -> None:")
        text = textwrap.indent(text, "    ")
    return "\n".join([*prelude, text])


def _unimported(block: Block) -> List[str]:
    """Imports of the clients that the block names without importing them."""
    nodes = list(ast.walk(block.tree))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    imports = (node for node in nodes if isinstance(node, ast.ImportFrom))
    imported = {alias.name for node in imports for alias in node.names}
    return [f"from flowmaestro import {name}" for name in sorted(CLIENTS & named - imported)]


FORGOTTEN_AWAIT = ("is not indexable|must be used", "__getitem__|Result of async function call")
WRONG_COLOUR = (
    'has no attribute "__|Incompatible types in "await"',
    "is not (awaitable|iterable)|does not correctly implement",
)
WRONG_KEYWORD = ("Unexpected keyword argument", "No parameter named")
WRONG_NUMBER = ("Too (few|many)", "Argument missing|Expected . positional")
WRONG_TYPE = ("incompatible type", "cannot be assigned to parameter")
UNKNOWN_KEY = ("not a valid TypedDict key|has no key", "is not a defined key")
NOT_NONE = ("is not indexable", "is not subscriptable")
UNKNOWN_NAME = ("Non-overlapping equality check", "have no overlap")

MISUSE = [
    ('print(awaiting.workflows.execute("wf_123")["data"])', FORGOTTEN_AWAIT),
    ('awaiting.workflows.execute("wf_123")', FORGOTTEN_AWAIT),
    ("awaiting.close()", FORGOTTEN_AWAIT),
    ('await awaiting.executions.stream("e")', WRONG_COLOUR),
    ('for event in awaiting.executions.stream("e"): pass', WRONG_COLOUR),
    ('async for event in client.executions.stream("e"): pass', WRONG_COLOUR),
    ("await client.workflows.list()", WRONG_COLOUR),
    ("async with client: pass", WRONG_COLOUR),
    ("with awaiting: pass", WRONG_COLOUR),
    ('for outcome in awaiting.workflows.run_many("wf_123", []): pass', WRONG_COLOUR),
    ('client.workflows.execute("wf_123", input={})', WRONG_KEYWORD),
    ('flowmaestro.FlowMaestroClient(key="fm_live_...")', WRONG_KEYWORD),
    ("client.with_options(retries=3)", WRONG_KEYWORD),
    ("client.workflows.execute()", WRONG_NUMBER),
    ('client.workflows.execute("wf_123", {}, "key")', WRONG_NUMBER),
    ('flowmaestro.FlowMaestroClient("fm_live_...", "https://host")', WRONG_NUMBER),
    ("client.workflows.execute(123)", WRONG_TYPE),
    ('client.workflows.execute("wf_123", inputs="no dict")', WRONG_TYPE),
    ('client.executions.list(status="complete")', WRONG_TYPE),
    ('client.executions.wait_for_completion("e", timeout="5m")', WRONG_TYPE),
    ("flowmaestro.FlowMaestroClient(transport=1)", WRONG_TYPE),
    ('print(client.workflows.get("wf_123")["data"]["nme"])', UNKNOWN_KEY),
    ('print(next(iter(client.workflows.run_many("wf_123", []))).outputs["total"])', NOT_NONE),
    ('print(client.workflows.run("wf_123").outputs["total"])', NOT_NONE),
    ('print([event["outputs"] for event in client.executions.stream("e")])', UNKNOWN_KEY),
    ('print(client.executions.get("e")["data"]["status"] == "complete")', UNKNOWN_NAME),
    ('print(client.executions.get("e")["data"]["outputs"]["total"])', NOT_NONE),
    ('print(next(iter(client.executions.stream("e")))["type"] == "finished")', UNKNOWN_NAME),
]


MISUSES = (
    "import flowmaestro\n"
    "async def misuse(\n"
    "    client: flowmaestro.FlowMaestroClient, awaiting: flowmaestro.AsyncFlowMaestroClient\n"
    ") -> None:\n" + "".join(f"    {statement}\n" for statement, _ in MISUSE)
)


OWN_TRANSPORT = """
import flowmaestro
from flowmaestro_transports import AnyioTransport, AsyncTransport, Headers, Request, Response
from flowmaestro_transports import ResponseHead, SocketTransport, Transport

def send(request: Request) -> Response:
    length: int = len(request.headers.pairs)
    return Response(200, {"Content-Type": "application/json", "X-Length": str(length)}, b"{}")

flowmaestro.FlowMaestroClient(transport=send)
flowmaestro.AsyncFlowMaestroClient(transport=send)
read: Headers = ResponseHead(200, [("A", "1")]).headers
transport: Transport = SocketTransport()
awaiting: AsyncTransport = AnyioTransport()
"""


EXECUTIONS = """
from types import MappingProxyType
from typing import Any, Dict, Optional
import flowmaestro
from flowmaestro.types import CompletedExecution, EndedExecution, Execution, ExecutionStatus

def grade(execution: Execution) -> int:
    if execution["status"] == "completed":
        ended: CompletedExecution = execution
        return len(ended["outputs"])
    if execution["status"] == "failed":
        return len(execution["error"])
    if execution["status"] == "cancelled":
        return len(execution["error"] or "")
    return 0

def grade_ended(execution: EndedExecution) -> int:
    status: ExecutionStatus = execution["status"]
    error: Optional[str] = execution.error
    print(status, execution.status, error, execution["error"], execution["started_at"])
    if execution.outputs is None or execution["outputs"] is None:
        return 0
    return len(execution.id) + len(execution["inputs"]) + len(execution.outputs)

def run(client: flowmaestro.FlowMaestroClient) -> int:
    inputs = MappingProxyType({"name": "Ada"})
    client.triggers.execute("t_1", inputs=inputs)
    client.agents.create_thread("a_1", metadata=inputs)
    with client.workflows.run_many("wf_1", [inputs, None], journal="j") as runs:
        for outcome in runs:
            grade_ended(outcome.result())
            error: Optional[flowmaestro.FlowMaestroError] = outcome.error
            print(len(runs), outcome.index + 1, outcome.ok, outcome.outputs, error)
    print([running.execution_id for running in runs.in_flight])
    grade(client.executions.get("e")["data"])
    waited = client.executions.wait_for_completion("e")
    total: int = waited.outputs_as(len)
    completed: EndedExecution[Dict[str, Any]] = waited.raise_for_status()
    outputs: Dict[str, Any] = completed.outputs
    print(outputs["total"], completed["outputs"]["total"], completed.raise_for_status().id)
    grade_ended(completed)
    return total + grade_ended(client.workflows.run("wf_1", inputs=inputs))

async def wait(client: flowmaestro.AsyncFlowMaestroClient) -> None:
    async with client.executions.wait_many({"e"}, progress=lambda it: print(it.done + 1)) as runs:
        async for outcome in runs:
            grade_ended(outcome.result())
    await runs.close()
    waited = await client.executions.wait_for_completion("e")
    total: int = waited.outputs_as(len)
    print(total, waited.raise_for_status().outputs["total"])
"""


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_contract_is_typed_and_misuse_is_caught(checker: str, tmp_path: Path) -> None:
    """Each misuse is complained of, in the words for its kind of mistake, and nothing else is.

    One test, so that workers do not start the same checker several times.
    """
    found = complaints(checker, tmp_path)
    clean = ("block_", "executions.py", "own_transport.py")
    assert [complaint.text for complaint in found if complaint.file.startswith(clean)] == []
    column = list(CHECKERS).index(checker)
    for line, (statement, words) in enumerate(MISUSE, start=5):
        texts = [complaint.text for complaint in found if complaint.line == line]
        assert any(re.search(words[column], text) for text in texts), (statement, texts)
    assert {complaint.line for complaint in found} == set(range(5, 5 + len(MISUSE)))

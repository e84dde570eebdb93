"""The contract's blocks are clean under `mypy --strict` and pyright strict, and misuse is not."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import List, Tuple

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
    modules.update({"typed_ids.py": TYPED_IDS, "typed_misuse.py": TYPED_MISUSES})
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
WRONG_KEYWORD = (
    "Unexpected keyword argument|No overload variant",
    "No parameter named|No overloads",
)
WRONG_NUMBER = (
    "Too (few|many)|All overload variants|No overload variant",
    "Argument missing|Expected . positional|No overloads",
)
WRONG_TYPE = ("incompatible type|No overload variant", "cannot be assigned to parameter")
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


TYPES = """
from typing import List, TypedDict
import flowmaestro
from flowmaestro.types import EndedExecution, WorkflowId

class Inputs(TypedDict):
    customer: str
    amount: int

class Outputs(TypedDict, total=False):
    url: str

SEND: WorkflowId[Inputs, Outputs] = WorkflowId("wf_1")
"""

TYPED_IDS = (
    TYPES
    + """
def plain(workflow_id: str) -> str:
    return workflow_id

def use(client: flowmaestro.FlowMaestroClient, rows: List[Inputs]) -> str:
    client.workflows.execute(SEND, {"customer": "c", "amount": 1}, idempotency_key="k")
    client.workflows.run_many(SEND, [{"customer": "c", "amount": 1}])
    client.workflows.run_many(SEND, rows, journal="j")
    client.workflows.run("wf_1", {"anything": 1})
    client.executions.list(workflow_id=SEND)
    run = client.workflows.run(SEND, inputs={"customer": "c", "amount": 1}, timeout=3)
    outputs: Outputs = run.raise_for_status().outputs
    return outputs.get("url", "") + plain(SEND)

async def use_async(client: flowmaestro.AsyncFlowMaestroClient, rows: List[Inputs]) -> None:
    client.workflows.run_many(SEND, rows)
    await client.workflows.execute(SEND, rows[0])
    run = await client.workflows.run(SEND, {"customer": "c", "amount": 1})
    ended: EndedExecution[Outputs] = run.raise_for_status()
    print(ended.outputs.get("url"))
"""
)

NOT_INPUTS = 'has incompatible type "dict.*; expected "Inputs'
TYPED_MISUSE = [
    (f"{call}(SEND, {before}{inputs}{after})", (NOT_INPUTS, said))
    for call, before, after in (
        ("client.workflows.run", "", ""),
        ("client.workflows.execute", "", ""),
        ("client.workflows.run_many", "[", "]"),
        ("await awaiting.workflows.run", "", ""),
        ("await awaiting.workflows.execute", "", ""),
        ("awaiting.workflows.run_many", "[", "]"),
    )
    for inputs, said in (
        ('{"customer": "c"}', '"amount" is required in "Inputs"'),
        ('{"customer": "c", "amount": 1, "amont": 1}', '"amont" is an undefined item'),
        ('{"customer": "c", "amount": "1"}', 'is not assignable to "int"'),
    )
]
TYPED_MISUSES = (
    TYPES + "async def misuse(\n"
    "    client: flowmaestro.FlowMaestroClient, awaiting: flowmaestro.AsyncFlowMaestroClient\n"
    ") -> None:\n" + "".join(f"    {statement}\n" for statement, _ in TYPED_MISUSE)
)


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_contract_is_typed_and_misuse_is_caught(checker: str, tmp_path: Path) -> None:
    """Each misuse is complained of, in the words for its kind of mistake, and nothing else is.

    One test, so that workers do not start the same checker several times.
    """
    found = complaints(checker, tmp_path)
    clean = ("block_", "executions.py", "own_transport.py", "typed_ids.py")
    assert [complaint.text for complaint in found if complaint.file.startswith(clean)] == []
    _check(found, checker, "misuse.py", MISUSES, MISUSE)
    _check(found, checker, "typed_misuse.py", TYPED_MISUSES, TYPED_MISUSE)
    assert {complaint.file for complaint in found} == {"misuse.py", "typed_misuse.py"}


def _check(
    found: List[Complaint],
    checker: str,
    file: str,
    text: str,
    misuse: List[Tuple[str, Tuple[str, str]]],
) -> None:
    column, first = list(CHECKERS).index(checker), len(text.splitlines()) - len(misuse) + 1
    here = [complaint for complaint in found if complaint.file == file]
    for line, (statement, words) in enumerate(misuse, start=first):
        texts = [complaint.text for complaint in here if complaint.line == line]
        assert any(re.search(words[column], text) for text in texts), (statement, texts)
    assert {complaint.line for complaint in here} == set(range(first, first + len(misuse)))

"""The contract's blocks are clean under `mypy --strict` and pyright strict, and misuse is not."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Callable, List

import pytest
from contract_blocks import CLIENTS, Block, blocks, is_coroutine
from contract_checkers import Complaint, mypy, pyright

BLOCKS = blocks()
CHECKERS = {"mypy": mypy, "pyright": pyright}
Checker = Callable[[Path], List[Complaint]]


@pytest.fixture(params=CHECKERS)
def checker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


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


def test_the_blocks_are_typed(checker: str, tmp_path: Path) -> None:
    for block in BLOCKS:
        name = f"block_{block.number:02d}.py"
        (tmp_path / name).write_text(as_module(block), encoding="utf-8")
    assert [complaint.text for complaint in CHECKERS[checker](tmp_path)] == []

"""The Python blocks of docs/python-sdk.md: extracted as text, compiled, rewritten for `await`."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Tuple

CONTRACT = Path(__file__).parents[3] / "docs" / "python-sdk.md"

CLIENTS = frozenset({"FlowMaestroClient", "AsyncFlowMaestroClient"})

_PIECE = re.compile(
    r"^#+ (?P<title>[^\n]+)$|^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One block: its text as it stands, and where it stands."""

    number: int
    title: str
    line: int
    text: str

    @property
    def id(self) -> str:
        return f"{self.number:02d}-{self.title.lower().replace(' ', '-')}"

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def awaits(self) -> bool:
        """Whether it is async code."""
        kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
        return any(isinstance(node, kinds) for node in ast.walk(self.tree))

    @property
    def runs_asyncio(self) -> bool:
        """Whether it brings up asyncio itself, and so cannot be run by another loop."""
        return "asyncio.run(" in self.text

    @property
    def is_given_a_client(self) -> bool:
        """Whether it uses a `client` that it does not make."""
        return "client" in self._names(ast.Load) and "client" not in self._names(ast.Store)

    @property
    def uses_a_client(self) -> bool:
        return self.is_given_a_client or bool(CLIENTS & self._names(ast.Load))

    def _names(self, context: type) -> set[str]:
        names = (node for node in ast.walk(self.tree) if isinstance(node, ast.Name))
        return {node.id for node in names if isinstance(node.ctx, context)}

    def code(self) -> CodeType:
        """The text itself, compiled; it may await at the top level."""
        return compile_block(self.text, self)

    def rewritten_code(self) -> CodeType:
        """The block as async code: the same with `await` and `async` inserted, nothing else."""
        tree: ast.Module = ast.fix_missing_locations(_Awaiting().visit(ast.parse(self.text)))
        return compile_block(tree, self)


def compile_block(source: str | ast.Module, block: Block) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    name = f"{CONTRACT.name}:{block.line}"
    code: CodeType = compile(source, name, "exec", flags=flags, dont_inherit=True)
    return code


def is_coroutine(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


def blocks() -> Tuple[Block, ...]:
    """All Python blocks, in order, under the title of the nearest heading."""
    contract = CONTRACT.read_text(encoding="utf-8")
    found: list[Block] = []
    title = ""
    for piece in _PIECE.finditer(contract):
        if piece["title"] is not None:
            title = piece["title"]
            continue
        line = contract.count("\n", 0, piece.start("text")) + 1
        again = any(block.title == title for block in found)
        found.append(
            Block(len(found) + 1, f"{title} again" if again else title, line, piece["text"])
        )
    return tuple(found)


class _Awaiting(ast.NodeTransformer):
    """Inserts `await` before what a client is asked for, and `async` before what iterates it."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return ast.Await(node) if _is_of_client(node) else node

    def visit_For(self, node: ast.For) -> ast.AST:
        iterable = node.iter
        if not _is_of_client(iterable):
            return self.generic_visit(node)
        self.generic_visit(node)
        return ast.AsyncFor(**{**dict(ast.iter_fields(node)), "iter": iterable})

    def visit_With(self, node: ast.With) -> ast.AST:
        self.generic_visit(node)
        if not any(_makes_client(item.context_expr) for item in node.items):
            return node
        return ast.AsyncWith(**dict(ast.iter_fields(node)))


def _is_of_client(node: ast.AST) -> bool:
    """Whether it is a call of the form `client.….…(…)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    root: ast.AST = node.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id == "client"


def _makes_client(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS
    )

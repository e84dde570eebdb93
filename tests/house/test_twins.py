"""Sync and async forms of one loop are compared: `async`, `await` and names may differ alone.

They are not generated from each other, because whoever reads, debugs or changes one finds it as it
is. A generator would be one more tool, with rules of its own for the parts that must differ.

A pair is found by its names: `X` or `SyncX` and `AsyncX`, `f` and `f_async`. A part that must
differ all the same says why in a comment, `# Unlike the sync form: ...`. A class that is no twin of
the one with its name says that: `# Not a twin: ...`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for package in ("transports/flowmaestro_transports", "flowmaestro")
    for path in sorted((ROOT / package).rglob("*.py"))
]
UNLIKE = re.compile(r"# Unlike the (?:sync|async) form: [^\n]+\.$", re.MULTILINE)
NOT_A_TWIN = re.compile(r"# Not a twin: [^\n]+\.$", re.MULTILINE)

NAMES = [
    (r"(?<![A-Za-z0-9])(?:Sync|Async)(?=[A-Z])", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"StopAsyncIteration", "StopIteration"),
    (r"\ba?sync_(?=(?:reporter|executor)\b)|_async\b", ""),
    (r"\baclose\b", "close"),
    (r"\b[AC]\b", "Self"),
]
"""Patterns of names that may differ, and what both are compared as."""


class _Plain(ast.NodeTransformer):
    """The sync form of a tree, without docstrings."""

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        node.names.sort(key=lambda it: re.sub(*NAMES[3], it.name))
        return node

    def visit_Expr(self, node: ast.Expr) -> Any:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


def plain(node: ast.AST) -> str:
    """Return the source of a function or statement, as both forms should have it."""
    source = ast.unparse(_Plain().visit(node))
    source = re.sub(r"^(\s*)async (def|for|with)\b", r"\1\2", source, flags=re.MULTILINE)
    source = re.sub(r"\basync for\b", "for", source)
    for pattern, name in NAMES:
        source = re.sub(pattern, name, source)
    return source


class Form:
    """One of the two forms: the parts of a class by name; a function is its only part."""

    def __init__(self, node: Any, lines: List[str]) -> None:
        self.parts: Dict[str, str] = {}
        self.unlike: Dict[str, bool] = {}
        """Whether a part has the comment that says why it differs."""
        for member in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(member, ast.Expr):  # a docstring
                continue
            name = _name(member) if isinstance(node, ast.ClassDef) else ""
            source = "\n".join(lines[member.lineno - 1 : member.end_lineno])
            self.unlike[name] = UNLIKE.search(source) is not None
            self.parts[name] = plain(member)


def _name(member: Any) -> str:
    if isinstance(member, ast.Assign):
        return ast.unparse(member.targets[0])
    if isinstance(member, ast.AnnAssign):
        return ast.unparse(member.target)
    return re.sub(*NAMES[1], getattr(member, "name", ""))


def pairs(source: str) -> Dict[str, Tuple[Form, Form]]:
    """Return the sync and the async form of each pair in a file, by the name of the async one."""
    lines = source.splitlines()
    nodes = {getattr(node, "name", ""): node for node in ast.parse(source).body}
    found: Dict[str, Tuple[Form, Form]] = {}
    for name, node in nodes.items():
        bare = re.sub(r"^(_?)Async(?=.)|_async$", r"\1", name)
        for other in {bare, re.sub(r"^(_?)", r"\1Sync", bare)} & {*nodes}:
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if bare != name and not NOT_A_TWIN.search(text):
                found[name] = (Form(nodes[other], lines), Form(node, lines))
    return found


def quarrels(source: str) -> List[str]:
    """Return the parts that differ and do not say why, and those that say why but agree."""
    wrong = []
    for name, (sync, other) in pairs(source).items():
        for part in {*sync.parts, *other.parts}:
            differ = sync.parts.get(part) != other.parts.get(part)
            if differ != (sync.unlike.get(part, False) or other.unlike.get(part, False)):
                how = "differs without a reason" if differ else "agrees, but says why it differs"
                wrong.append(f"{name}.{part} {how}")
    return wrong


TWINS = [path for path in FILES if pairs(path.read_text("utf-8"))]


@pytest.mark.parametrize("path", TWINS, ids=[path.stem for path in TWINS])
def test_twins_differ_in_async_and_await_alone(path: Path) -> None:
    assert quarrels(path.read_text("utf-8")) == []


def test_the_large_pairs_are_found() -> None:
    names = {name for path in TWINS for name in pairs(path.read_text("utf-8"))}
    assert {"AsyncDriver", "AsyncExecutor", "AsyncHandle", "AsyncFlowMaestroClient"} <= names


def test_a_reason_is_demanded_where_forms_differ_and_nowhere_else() -> None:
    def both(sync: str, other: str) -> List[str]:
        return quarrels(f"class It:\n  {sync}\nclass AsyncIt:\n  {other}")

    reason = "# Unlike the sync form: here."
    assert both("def f(self): g()", "async def f(self): await g()") == []
    assert both("def f(self): g()", "def f(self): h()") == ["AsyncIt.f differs without a reason"]
    assert both("def f(self): g()", f"def f(self):\n    {reason}\n    h()") == []
    assert both("def f(self): g()", f"def f(self):\n    {reason}\n    g()") == [
        "AsyncIt.f agrees, but says why it differs"
    ]
    assert both("a = 1", f"a = 2  {reason}") == []
    assert both("a = 1", "# Not a twin: see there.\n  a = 2") == []

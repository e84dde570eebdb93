"""No transport touches what a foreign library keeps private."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import List

import pytest

import flowmaestro_transports

PACKAGE = Path(flowmaestro_transports.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def foreign(source: str) -> List[str]:
    """Underscore attributes of anything but `self`, `cls`, `super()` and names defined here."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node):
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # __slots__
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in own
        and not _is_self(node)
    ]


def _is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_underscore_attribute_of_a_foreign_object(path: Path) -> None:
    assert foreign(path.read_text("utf-8")) == []

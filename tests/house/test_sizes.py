"""A class is small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro")
LIMIT = 200


def test_no_class_has_more_than_200_lines():
    larger = {
        node.name
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= LIMIT
    }
    assert larger == set()

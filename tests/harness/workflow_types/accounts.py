"""Hostile accounts for Hypothesis, and a judge of the files that are made of them."""

from __future__ import annotations

import ast
import builtins
from typing import Any, Dict, List

from hypothesis import strategies as st

from flowmaestro.workflow_types.evidence import Run, WorkflowTypes, types_of
from flowmaestro.workflow_types.names import names_of
from flowmaestro.workflow_types.source import write_source

SECRET = "s3cr3t"
"""Stands in each text and number of a run: a file may have none of it."""
SECRET_NUMBER = 86753090000
NASTY = [
    '"""',
    "'''",
    '"',
    "\\",
    '\\"""',
    "\n",
    "\r",
    "\x00",
    "\u2028",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\ud800",
    "\U0001f600",
    "# x",
    "{0}",
    "%s",
    "__import__('os').system('x')",
    "class",
    "None",
    "str",
    "List",
    "__init__",
    "__class__",
    "__slots__",
    "a b",
    "1st",
    "Send invoice",
    "send_invoice",
    "SEND INVOICE",
    "Größe",
    "שלום",
    "請求書",
    "ﬁ",
    "total",
    "",
]
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.lists(st.sampled_from(NASTY), max_size=4).map("".join),
    st.text(st.characters(), max_size=12),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 9).map(lambda it: SECRET_NUMBER + it),
    st.floats(0, 9).map(lambda it: SECRET_NUMBER + it),
    TEXTS.map(lambda it: SECRET + it),
)
VALUES = st.recursive(
    SCALARS,
    lambda it: st.lists(it, max_size=3) | st.dictionaries(TEXTS, it, max_size=3),
    max_leaves=6,
)
NUMBERS = st.one_of(st.integers(-3, 3), st.just(10**30), st.floats())
LITERALS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just("x" * 1000), st.just([1]))
SCHEMA = {
    "type": st.one_of(
        st.sampled_from(
            ["string", "integer", "number", "boolean", "null", "object", "array", "no"]
        ),
        st.lists(st.sampled_from(["string", "null", "integer"]), max_size=3),
        TEXTS,
        st.none(),
    ),
    "enum": st.one_of(st.lists(LITERALS, max_size=25), st.none()),
    "const": LITERALS,
    "$ref": st.sampled_from(["#", "#/properties/a", "#/$defs/a", "#/$defs/b", "http://x/y"]),
    "description": TEXTS,
    "nullable": st.booleans(),
}
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.fixed_dictionaries({}, optional=SCHEMA), st.booleans(), TEXTS, st.none()),
    lambda it: st.fixed_dictionaries(
        {},
        optional={
            **SCHEMA,
            "items": it,
            "anyOf": st.lists(it, max_size=3),
            "allOf": st.lists(it, max_size=3),
            "properties": st.dictionaries(TEXTS, it, max_size=3),
        },
    ),
    max_leaves=8,
)
INPUT_SCHEMAS = st.one_of(
    st.none(),
    SCHEMAS,
    st.fixed_dictionaries(
        {"properties": st.dictionaries(TEXTS, SCHEMAS, max_size=5)},
        optional={
            "required": st.lists(TEXTS, max_size=3),
            "$defs": st.fixed_dictionaries({"a": SCHEMAS, "b": SCHEMAS}),
            "additionalProperties": st.booleans(),
            "x-unverified": st.booleans(),
        },
    ),
)
RUNS = st.lists(
    st.builds(
        Run,
        st.one_of(st.none(), st.floats(-6e10, 9e10)),
        st.dictionaries(TEXTS, VALUES, max_size=4),
        st.dictionaries(TEXTS, VALUES, max_size=3),
    ),
    max_size=5,
)
LABELS = st.one_of(
    st.none(), st.dictionaries(TEXTS, st.fixed_dictionaries({"label": TEXTS}), max_size=3)
)
WORKFLOWS = st.tuples(
    st.fixed_dictionaries(
        {"id": TEXTS, "name": TEXTS, "input_schema": INPUT_SCHEMAS, "inputs": LABELS}
    ),
    RUNS,
)
ACCOUNTS = st.builds(
    lambda rows, outputs: [types_of(row, runs, outputs=outputs) for row, runs in rows],
    st.lists(WORKFLOWS, max_size=4, unique_by=lambda it: it[0]["id"]),
    st.booleans(),
)


def source_of(account: List[WorkflowTypes]) -> str:
    """Return the file of an account."""
    return write_source(account, names_of([(it.id, it.name) for it in account]))


EXPECTED = (
    *(ast.Module, ast.ImportFrom, ast.alias, ast.ClassDef, ast.AnnAssign, ast.Assign, ast.Expr),
    *(ast.Name, ast.Load, ast.Store, ast.Constant, ast.Subscript, ast.Tuple, ast.List, ast.Dict),
    *(ast.Call, ast.keyword, ast.UnaryOp, ast.USub),
)
"""`ast.UnaryOp` is for negative numbers of literals."""
CALLED = ("TypedDict", "WorkflowId")
IMPORTED = ("__future__", "typing", "flowmaestro.types")


def judge(source: str) -> Dict[str, Any]:
    """Check that a file holds what is expected and nothing else. Return what it defines."""
    assert SECRET not in source
    assert str(SECRET_NUMBER)[:8] not in source
    source.encode()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        assert isinstance(node, EXPECTED), ast.dump(node)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            assert node.func.id in CALLED
        if isinstance(node, ast.ImportFrom):
            assert node.module in IMPORTED
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)
            assert isinstance(node.value.value, str)

    def imported(name: str, *more: Any) -> Any:
        assert name in IMPORTED
        return __import__(name, *more)

    able = {"__build_class__": builtins.__build_class__, "__import__": imported}
    types = {name: getattr(builtins, name) for name in ("str", "int", "float", "bool")}
    space: Dict[str, Any] = {"__name__": "judged", "__builtins__": {**able, **types}}
    exec(compile(tree, "judged", "exec", dont_inherit=True), space)
    return space

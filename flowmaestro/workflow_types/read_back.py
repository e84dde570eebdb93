"""A file of types, read back: its workflows, and what it says of their keys. Pure.

The file is parsed, never imported.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from flowmaestro.workflow_types.annotations import read_type
from flowmaestro.workflow_types.evidence import (
    DECLARED,
    PINNED,
    SEEN,
    Key,
    Keys,
    WorkflowTypes,
)
from flowmaestro.workflow_types.source import TITLE
from flowmaestro_core.http.dates import parse_timestamp

_OF = re.compile(r'(?:Inputs|Outputs) of "(.*)"(?:[.,]| are not known)')
_RUNS = re.compile(r"as seen in its last (?:(\d+) completed runs|completed run)\.")
_TIMES = re.compile(r"Created from (\S+) to (\S+)\.")
_SEEN_IN = re.compile(r"# seen in (\d+) of \d+")


class FileOfTypes(NamedTuple):
    """What a file of types holds: its workflows, and the names of their constants, by id."""

    workflows: Dict[str, WorkflowTypes]
    constants: Dict[str, str]


def is_ours(text: str) -> bool:
    """Return whether `flowmaestro types` has written this text, perhaps in another version."""
    return f'"""{TITLE}\n' in text[:500]


def read_source(text: str) -> FileOfTypes:
    """Return what a file of types holds. Raises `ValueError` if it is not as it was written."""
    try:
        return _Reader(text).read()
    except (
        SyntaxError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise ValueError("this is not a file of types, or it was edited") from error


def _name_in(docstring: str) -> str:
    found = _OF.match(docstring)
    return "" if found is None else found[1]


class _Class(NamedTuple):
    """A `TypedDict`, with the keys that it inherits: the annotation, the line, and if required."""

    keys: Dict[str, Tuple[ast.expr, int, bool]]
    docstring: str


class _Reader:
    """Reads one file. What has another form than a file of types raises any of some errors."""

    def __init__(self, text: str) -> None:
        self._tree = ast.parse(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self._comments = {it.start[0]: it.string for it in tokens if it.type == tokenize.COMMENT}
        self._classes: Dict[str, _Class] = {}

    def read(self) -> FileOfTypes:
        """Return what the file holds."""
        found = FileOfTypes({}, {})
        workflow: Optional[WorkflowTypes] = None
        for node in self._tree.body:
            if isinstance(node, ast.ClassDef):
                self._classes[node.name] = self._class(node)
            elif isinstance(node, ast.Assign):
                target: Any = node.targets[0]
                self._classes[target.id] = self._functional(node.value)
            elif isinstance(node, ast.AnnAssign):
                constant: Any = node.target
                workflow = self._workflow(node)
                found.workflows[workflow.id] = workflow
                found.constants[workflow.id] = constant.id
            elif isinstance(node, ast.Expr) and workflow is not None:  # It is about the constant.
                name = _name_in(ast.literal_eval(node.value))
                found.workflows[workflow.id] = replace(workflow, name=name)
        return found

    def _class(self, node: ast.ClassDef) -> _Class:
        bases: List[Any] = list(node.bases)
        inherited = [self._classes[it.id].keys for it in bases if it.id != "TypedDict"]
        keys = {name: key for each in inherited for name, key in each.items()}
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                target: Any = field.target
                keys[target.id] = field.annotation, field.lineno, not node.keywords
        return _Class(keys, ast.get_docstring(node) or "")

    def _functional(self, made: Any) -> _Class:
        items: Any = made.args[1]
        names = [ast.literal_eval(it) for it in items.keys]
        pairs = zip(names, items.values)
        return _Class({name: (it, it.lineno, not made.keywords) for name, it in pairs}, "")

    def _workflow(self, node: ast.AnnAssign) -> WorkflowTypes:
        annotation: Any = node.annotation
        made: Any = node.value
        inside = annotation.slice
        types = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        classes = [self._classes[it.id] if isinstance(it, ast.Name) else None for it in types]
        inputs = classes[0]
        docstrings = [it.docstring for it in classes if it is not None]
        return WorkflowTypes(
            ast.literal_eval(made.args[0]),
            _name_in(docstrings[0]) if docstrings else "",
            self._keys(inputs),
            self._keys(classes[1]) if len(classes) > 1 else None,
        )

    def _keys(self, found: Optional[_Class]) -> Keys:
        if found is None:
            return Keys()
        runs = _RUNS.search(found.docstring)
        times = _TIMES.search(found.docstring)
        count = 0 if runs is None else int(runs[1] or 1)
        known = SEEN if runs else PINNED if "pyproject" in found.docstring else DECLARED
        oldest, newest = (
            (int(parse_timestamp(it)) for it in times.groups()) if times else (None, None)
        )
        keys = {name: self._key(key, known, count) for name, key in found.keys.items()}
        return Keys(known, keys, count, oldest, newest)

    def _key(self, found: Tuple[ast.expr, int, bool], known: str, runs: int) -> Key:
        annotation, line, required = found
        comment = self._comments.get(line, "")
        seen = _SEEN_IN.match(comment)
        if comment == "# set in pyproject.toml" or known == PINNED:
            return Key(read_type(ast.unparse(annotation)), required, PINNED)
        count = int(seen[1]) if seen else runs
        return Key(read_type(ast.unparse(annotation)), required, known, count)

"""The Python source of a file of types, made from what is known of workflows. Pure.

A stranger's text stands in a string literal of ASCII, or is `shown` in a comment or a docstring,
which it cannot end. No value of a run is ever written.
"""

from __future__ import annotations

import keyword
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Iterable, List, Mapping, Optional, Set
from unicodedata import ucd_3_2_0

from flowmaestro.workflow_types.annotations import quoted, written
from flowmaestro.workflow_types.evidence import (
    DECLARED,
    PINNED,
    SEEN,
    UNKNOWN,
    Key,
    Keys,
    WorkflowTypes,
)
from flowmaestro.workflow_types.names import Name

TITLE = "Workflows of a FlowMaestro account, and the types of their inputs."
"""The first line of the docstring of a file of types, by which it is known as such."""
_HEAD = f'''\
# fmt: off
# isort: skip_file
# ruff: noqa
"""{TITLE}

`flowmaestro types` has written this file. Do not edit it: run the command again. "As
seen" is what completed runs were given. The server does not promise it.
"""

from __future__ import annotations
'''
"""The comments keep formatters from changing the file, whatever their settings are."""
_SIGNS = " -_.,:;!?()[]+/&%@=<>'"
"""The signs that `shown` keeps: none of them ends a comment or a docstring."""
LONGEST_SHOWN = 40
"""Characters of a stranger's text in a comment: with what is around it, it fits a line."""
_WIDTH = 88
"""Columns of a line, as formatters have it unless they are told otherwise."""
RARE = 20
"""A key that is in fewer than one of so many runs may be a mistake, as its comment then says."""
MOST_LABELS = 10
"""Labels of inputs in the comment of a workflow whose inputs are not known."""
TYPING = ("Any", "List", "Literal", "Mapping", "Optional", "TypedDict", "Union")
"""The names of `typing` that annotations use."""
_HIDDEN = {*TYPING, "bool", "float", "int", "str"}
"""A key of a class that has one of these names would hide it from the keys after it."""
KINDS = ("Inputs", "Outputs")


def shown(text: str) -> str:
    """Return a stranger's text for a comment or a docstring: one short line without its dangers.

    Letters and digits stay, but not those of scripts that run from right to left, which would move
    what is beside them. The tables of Unicode 3.2 are the same in every Python.
    """
    words = " ".join(text.split())
    line = "".join(
        it if it in _SIGNS or _is_letter(it) else "?" for it in words[: 2 * LONGEST_SHOWN]
    )
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 3]}..."


def _is_letter(sign: str) -> bool:
    if sign.isascii():
        return sign.isalnum()
    is_letter = ucd_3_2_0.category(sign)[0] in "LN"
    return is_letter and ucd_3_2_0.bidirectional(sign) not in ("R", "AL", "AN")


def write_source(workflows: Iterable[WorkflowTypes], names: Mapping[str, Name]) -> str:
    """Return the source of a file with a constant and types for each workflow.

    `names` has the name of each workflow, by its id. Equal arguments give equal texts, whatever the
    order of the workflows.
    """
    writer = _Writer(names)
    every = sorted(workflows, key=lambda it: names[it.id].constant)
    body = "".join(writer.workflow(each) for each in every)
    if body and not body.startswith("\n\nclass "):  # isort wants one empty line after imports.
        body = body[1:]
    used = [name for name in TYPING if name in writer.used]
    typing = f"\nfrom typing import {', '.join(used)}\n" if used else ""
    ours = "\nfrom flowmaestro.types import WorkflowId\n" if every else ""
    return f"{_HEAD}{typing}{ours}{body}"


class _Writer:
    """Writes workflows.

    Attributes:
        used: the names of `typing` that are used so far.

    """

    def __init__(self, names: Mapping[str, Name]) -> None:
        self._names = names
        self.used: Set[str] = set()

    def workflow(self, workflow: WorkflowTypes) -> str:
        """Return the classes of a workflow, and then its constant."""
        name = self._names[workflow.id]
        classes, types = "", list[str]()
        for kind, keys in zip(KINDS, (workflow.inputs, workflow.outputs)):
            if keys is not None and keys.known != UNKNOWN:
                types.append(f"{name.stem}{kind}")
                about = _about(f'{kind} of "{shown(workflow.name)}"', keys)
                classes += self._typed_dict(types[-1], keys, _docstring(about))
            elif kind == "Inputs":
                types.append("Mapping[str, Any]")
                self.used |= {"Any", "Mapping"}
        below = "" if workflow.inputs.known != UNKNOWN else _unknown(workflow)
        begin = f"{name.constant}: WorkflowId[{', '.join(types)}] = WorkflowId("
        id = quoted(workflow.id)
        line = f"{begin}{id})" if len(begin) + len(id) < _WIDTH else f"{begin}\n    {id}\n)"
        return f"{classes}\n\n{line}\n{below}"

    def _typed_dict(self, name: str, keys: Keys, docstring: str) -> str:
        """Return a `TypedDict`, and the private ones that it inherits from.

        A key without a name that is an identifier needs the functional form.
        """
        self.used.add("TypedDict")
        parts = {
            part: {it: key for it, key in sorted(keys.by_name.items()) if key.required is required}
            for part, required in (("Required", True), ("Optional", False))
        }
        parts = {part: found for part, found in parts.items() if found}
        if all(_is_plain(it) for it in keys.by_name):
            text, base = "", "TypedDict"
            if len(parts) == 2:
                base = f"_{name}Required"
                text = f"\n\nclass {base}(TypedDict):\n{self._fields(parts['Required'], keys)}"
            total = ", total=False" if "Optional" in parts else ""
            last = list(parts.values())[-1:]
            fields = f"\n{self._fields(last[0], keys)}" if last else ""
            return f"{text}\n\nclass {name}({base}{total}):\n{docstring}{fields}"
        text = "\n"
        for part, found in parts.items():
            items = "".join(
                f"        {quoted(it)}: {self._annotation(key)},{_comment(it, key, keys)}\n"
                for it, key in found.items()
            )
            total = "    total=False,\n" if part == "Optional" else ""
            begin = f'_{name}{part} = TypedDict(\n    "_{name}{part}",\n'
            text += f"\n{begin}    {{\n{items}    }},\n{total})"
        bases = ", ".join(f"_{name}{part}" for part in parts)
        return f"{text}\n\n\nclass {name}({bases}):\n{docstring}"

    def _fields(self, found: Mapping[str, Key], keys: Keys) -> str:
        return "".join(
            f"    {name}: {self._annotation(key)}{_comment(name, key, keys)}\n"
            for name, key in found.items()
        )

    def _annotation(self, key: Key) -> str:
        text = written(key.type)
        self.used |= {name for name in TYPING if name in _without_literals(text)}
        return text


def _without_literals(annotation: str) -> str:
    """Return an annotation without the texts in it, which may have the name of a type."""
    return "".join(annotation.split('"')[::2])


def _is_plain(name: str) -> bool:
    """Return whether a key can be a name in a class: Python would change or hide others."""
    is_name = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return is_name and not name.startswith("__") and name not in _HIDDEN


def _about(what: str, keys: Keys) -> List[str]:
    """Return the lines of the docstring of a class. They say how its keys are known."""
    if keys.known == DECLARED:
        return [f"{what}. The server declares them."]
    if keys.known == PINNED:
        return [f"{what}. They are set in pyproject.toml."]
    runs = f"{keys.runs} completed runs" if keys.runs > 1 else "completed run"
    lines = [f"{what}, as seen in its last {runs}."]
    if keys.oldest is not None and keys.newest is not None:
        lines += ["", f"Created from {time_text(keys.oldest)} to {time_text(keys.newest)}."]
    return lines


def time_text(seconds: int) -> str:
    """Return Unix seconds as an ISO 8601 time in UTC, such as `2026-12-07T08:07:32Z`."""
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return f"{moment.isoformat()}Z"


def _docstring(lines: List[str], indent: str = "    ") -> str:
    if len(lines) == 1:
        return f'{indent}"""{lines[0]}"""\n'
    text = "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)
    return f'{indent}"""{text.lstrip()}{indent}"""\n'


def _unknown(workflow: WorkflowTypes) -> str:
    """Return the docstring below the constant of a workflow whose inputs are not known."""
    lines = [
        f'Inputs of "{shown(workflow.name)}" are not known.',
        "",
        "The server declares none, and no completed run was seen.",
    ]
    if workflow.labels:
        labels = ", ".join(shown(it) for it in workflow.labels[:MOST_LABELS])
        lines.append(f"Their labels on the server: {labels}.")
    return _docstring(lines, "")


def _comment(name: str, key: Key, keys: Keys) -> str:
    """Return the comment behind a key, with the spaces before it; "" for most keys."""
    text: Optional[str] = None
    if key.known == PINNED:
        text = "set in pyproject.toml"
    elif key.known == SEEN and key.seen < keys.runs:
        text = f"seen in {key.seen} of {keys.runs}"
        if key.seen * RARE < keys.runs:
            sure = [it for it, other in keys.by_name.items() if other.required]
            meant = get_close_matches(name, sure, 1, 0.7)
            text += "; perhaps a mistake" + (f" for {shown(meant[0])}" if meant else "")
    elif key.about:
        text = shown(key.about)
    return "" if text is None else f"  # {text}"

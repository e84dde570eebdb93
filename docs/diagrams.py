"""Writes `docs/state-diagrams.md` from the transition tables of the core's machines.

python docs/diagrams.py            # write the page
python docs/diagrams.py --check    # exit with status 1 if the page is out of date
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Type

import flowmaestro_core
from flowmaestro_core.machine import Machine, Transitions

PAGE = Path(__file__).with_name("state-diagrams.md")
FINAL = ("done", "failed")
INTRODUCTION = """\
# State diagrams

One diagram for each machine of `flowmaestro_core`. [Architecture](architecture.md) says what the
machines do. This page is generated from their transition tables: run `python docs/diagrams.py`
after a change to a table. A test fails when the page is out of date.
"""


def machines() -> Dict[str, Type[Machine[object]]]:
    """Every machine of the core with a table of its own, by name."""
    for module in pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core."):
        importlib.import_module(module.name)
    return {kind.__name__: kind for kind in _descendants(Machine) if "TRANSITIONS" in vars(kind)}


def _descendants(kind: Type[Machine[object]]) -> Iterator[Type[Machine[object]]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("flowmaestro_core."):
            yield child
            yield from _descendants(child)


def diagram(transitions: Transitions) -> str:
    """A Mermaid state diagram; the events that lead from one state to another share an arrow."""
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state}" as {_id(state)}' for state in transitions if " " in state]
    lines.append("    [*] --> ready")
    for state, successors in transitions.items():
        for successor, events in _arrows(successors).items():
            lines.append(f"    {_id(state)} --> {_id(successor)} : {'<br/>'.join(events)}")
    reached = {
        state
        for successors in transitions.values()
        for into in successors.values()
        for state in into
    }
    lines += [f"    {state} --> [*]" for state in FINAL if state in reached]
    return "\n".join(lines)


def _arrows(successors: Dict[str, Tuple[str, ...]]) -> Dict[str, List[str]]:
    """The events of one state, by the state that they lead to."""
    arrows: Dict[str, List[str]] = {}
    for event, into in successors.items():
        for state in into:
            arrows.setdefault(state, []).append(event)
    return arrows


def _id(state: str) -> str:
    return state.replace(" ", "_")


def page() -> str:
    """The whole page, with the machines in the order of their files."""
    sections = [INTRODUCTION]
    for kind in sorted(machines().values(), key=lambda kind: (kind.__module__, kind.__name__)):
        file = kind.__module__.replace(".", "/") + ".py"
        drawing = f"```mermaid\n{diagram(kind.TRANSITIONS)}\n```"
        scrolled = f'<div class="diagram" markdown>\n\n{drawing}\n\n</div>'
        sections.append(f"## {kind.__name__}\n\n`{file}`\n\n{scrolled}\n")
    return "\n".join(sections)


def main(arguments: List[str]) -> int:
    if arguments != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        print(f"docs/{PAGE.name} is out of date: run `python docs/diagrams.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

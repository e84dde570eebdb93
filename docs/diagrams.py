"""Draws the machines into `docs/architecture.md`, from the tables that the machines obey.

    python docs/diagrams.py            # write the diagrams anew
    python docs/diagrams.py --check    # exit with status 1 if they are out of date

A diagram stands between `<!-- diagram: NameOfTheMachine -->` and `<!-- end of diagram -->`; all
else in the page is left alone.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Type

import flowmaestro_core
from flowmaestro_core.machine import Machine, Transitions

PAGE = Path(__file__).with_name("architecture.md")
FINAL = ("done", "failed")

_PLACE = re.compile(
    r"(?P<begin><!-- diagram: (?P<name>\w+) -->\n).*?(?P<end><!-- end of diagram -->)", re.DOTALL
)


def machines() -> Dict[str, Type[Machine[object]]]:
    """Every machine of the core, by name."""
    for module in pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core."):
        importlib.import_module(module.name)
    return {kind.__name__: kind for kind in _descendants(Machine)}


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


def redrawn(page: str) -> str:
    """The page with each diagram drawn anew; `KeyError` names a machine that does not exist."""
    kinds = machines()

    def draw(place: re.Match[str]) -> str:
        drawing = diagram(kinds[place["name"]].TRANSITIONS)
        return f"{place['begin']}```mermaid\n{drawing}\n```\n{place['end']}"

    return _PLACE.sub(draw, page)


def main(arguments: List[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    new = redrawn(page)
    if arguments == ["--check"]:
        if page != new:
            print("docs/architecture.md is out of date: run `python docs/diagrams.py`")
        return int(page != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

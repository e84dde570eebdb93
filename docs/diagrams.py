"""Draws the state diagrams, and writes `docs/state-diagrams.md`, from the machines' tables.

python docs/diagrams.py            # draw the pictures (needs graphviz) and write the page
python docs/diagrams.py --check    # exit with status 1 if something is out of date; needs nothing

A picture is compared by the states, arrows and words in it: coordinates differ between versions of
graphviz.
"""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple, Type, Union

import flowmaestro_core
from flowmaestro_core.executions.start import Start
from flowmaestro_core.machine import Machine, Transitions

PAGE = Path(__file__).with_name("state-diagrams.md")
PICTURES = Path(__file__).with_name("pictures") / "states"
FINAL = ("done", "failed")
MOST_ARROWS = 20
"""A picture with more arrows than this cannot be followed."""
INTRODUCTION = """\
# State diagrams

One diagram for each machine of `flowmaestro_core`, and one for `Start`: a batch has a start for
each row, a run with a checkpoint has one. [Architecture](architecture.md) says what they do.

A box is a state. Below its name are the events that keep the machine in it (*stays*) or end it
(*done*, *failed*). An arrow names the events that lead to another state. If an event of one state
appears in several places, the method of the event decides between them. Where there are too many
arrows to follow, each box lists its events with the states that they lead to; *any* stands for
every state that an event after `start` leads to.

The pictures are drawn from the machines' tables: run `python docs/diagrams.py` after a change of a
table. A test fails when a picture is out of date.
"""
_STYLE = """\
<style>
  svg { color: #1b1f24; background: #ffffff; }
  @media (prefers-color-scheme: dark) { svg { color: #e6e8eb; background: #16181d; } }
  text { fill: currentColor; font-family: Helvetica, Arial, "Liberation Sans", sans-serif; }
  polygon, path, ellipse { stroke: currentColor; }
  .edge polygon { fill: currentColor; }
</style>
"""


def machines() -> Dict[str, Union[Type[Machine[object]], Type[Start]]]:
    """Return every class of the core with a table of its own, by name: machines and `Start`."""
    for module in pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core."):
        importlib.import_module(module.name)
    kinds = [kind for kind in _descendants(Machine) if "TRANSITIONS" in vars(kind)]
    return {kind.__name__: kind for kind in (*kinds, Start)}


def _descendants(kind: Type[Machine[object]]) -> Iterator[Type[Machine[object]]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("flowmaestro_core."):
            yield child
            yield from _descendants(child)


def boxes(transitions: Transitions) -> Dict[str, List[str]]:
    """Return the lines in the box of each state: its name, and the events that have no arrow."""
    drawn: Dict[str, List[str]] = {}
    for state, successors in transitions.items():
        if not arrows(transitions):
            usual = _usual(transitions)
            lines = [f"{event} → {_shortened(into, usual)}" for event, into in successors.items()]
            drawn[state] = [state, *lines]
            continue
        into = events_by_successor(successors)
        kept = [("stays", into.get(state)), *((final, into.get(final)) for final in FINAL)]
        lines = [f"{word}: {', '.join(events)}" for word, events in kept if events]
        drawn[state] = [state, *lines]
    return drawn


def _usual(transitions: Transitions) -> Set[str]:
    """Return the states that events after `start` lead to."""
    later = (successors for state, successors in transitions.items() if state != "ready")
    return {successor for successors in later for into in successors.values() for successor in into}


def _shortened(into: Tuple[str, ...], usual: Set[str]) -> str:
    """Return the successors of an event as a text: *any* stands for all the usual ones."""
    if not usual <= set(into):
        return ", ".join(into)
    return ", ".join([*(state for state in into if state not in usual), "any"])


def arrows(transitions: Transitions) -> Dict[Tuple[str, str], List[str]]:
    """Return the events of each arrow, by the states at its ends; nothing if there are too many."""
    found = {
        (state, successor): events
        for state, successors in transitions.items()
        for successor, events in events_by_successor(successors).items()
        if successor not in FINAL and successor != state
    }
    return found if len(found) <= MOST_ARROWS else {}


def events_by_successor(successors: Dict[str, Tuple[str, ...]]) -> Dict[str, List[str]]:
    """Return the events of one state, by the state that they lead to."""
    found: Dict[str, List[str]] = {}
    for event, into in successors.items():
        for state in into:
            found.setdefault(state, []).append(event)
    return found


def graph(transitions: Transitions) -> str:
    """Return the diagram in the language of graphviz, from top to bottom."""
    lines = [
        "digraph { rankdir=TB; bgcolor=transparent; nodesep=0.45; ranksep=0.45; margin=0.05;",
        'node [shape=box, style=rounded, fontname="Arial", fontsize=13, margin="0.12,0.06"];',
        'edge [fontname="Arial", fontsize=12, arrowsize=0.7];',
    ]
    for state, (name, *rest) in boxes(transitions).items():
        small = "".join(
            f'<br/><font point-size="12">{html.escape(part)}</font>'
            for line in rest
            for part in wrapped(line)
        )
        lines.append(f'"{state}" [label=<<b>{html.escape(name)}</b>{small}>];')
    for (state, successor), events in arrows(transitions).items():
        label = "\\n".join(f" {event} " for event in events)  # Keep off the arrow.
        lines.append(f'"{state}" -> "{successor}" [label="{label}"];')
    if not arrows(transitions):  # One column, held by lines that are not drawn.
        chain = " -> ".join(f'"{state}"' for state in transitions)
        lines.append(f"{chain} [style=invis];")
    return "\n".join([*lines, "}"])


def wrapped(line: str) -> List[str]:
    """Return a line of a box in parts that keep the box narrow."""
    return textwrap.wrap(line, 36, break_long_words=False)


def picture(transitions: Transitions) -> str:
    """Draw the diagram as SVG, readable in light and dark."""
    dot = ["dot", "-Tsvg"]
    drawn = subprocess.run(
        dot, input=graph(transitions), capture_output=True, text=True, check=True
    )
    svg = drawn.stdout[drawn.stdout.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:stroke|fill)="(?:black|#000000)"', "", svg)
    return svg.replace(">\n", f">\n{_STYLE}", 1)


def words_of(svg: str) -> List[str]:
    """Return the texts and titles of a picture, sorted: what it says, not where."""
    svg = re.sub(r"<g[^>]*>\s*<title>[^<]*</title>\s*</g>", "", svg)  # not drawn
    found = re.findall(r"<(?:text|title)[^>]*>(.*?)</(?:text|title)>", svg)
    return sorted(html.unescape(text).strip() for text in found)


def words_for(transitions: Transitions) -> List[str]:
    """Return the texts and titles that the picture of a table must have, sorted."""
    words = [*transitions, *(f"{a}->{b}" for a, b in arrows(transitions))]
    for name, *lines in boxes(transitions).values():
        words += [name, *(part for line in lines for part in wrapped(line))]
    for events in arrows(transitions).values():
        words += events
    return sorted(words)


def page() -> str:
    """Return the whole page, with the machines in the order of their files."""
    sections = [INTRODUCTION]
    for kind in sorted(machines().values(), key=lambda kind: (kind.__module__, kind.__name__)):
        name = kind.__name__
        file = kind.__module__.replace(".", "/") + ".py"
        drawing = f"![The states of {name}](pictures/states/{name}.svg)"
        sections.append(f"## {name}\n\n`{file}`\n\n{drawing}\n")
    return "\n".join(sections)


def stale() -> Iterator[str]:
    """Yield the names of the files that do not show the tables."""
    if PAGE.read_text(encoding="utf-8") != page():
        yield PAGE.name
    files = {file.stem: file for file in PICTURES.glob("*.svg")}
    for name, kind in machines().items():
        there = words_of(files.pop(name).read_text(encoding="utf-8")) if name in files else []
        if there != words_for(kind.TRANSITIONS):
            yield f"pictures/states/{name}.svg"
    yield from (f"pictures/states/{name}.svg" for name in files)


def main(arguments: List[str]) -> int:
    """Write everything, or with `--check` compare; return the exit status."""
    if arguments != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
        PICTURES.mkdir(exist_ok=True)
        for file in PICTURES.glob("*.svg"):
            file.unlink()
        for name, kind in machines().items():
            file = PICTURES / f"{name}.svg"
            file.write_text(picture(kind.TRANSITIONS), encoding="utf-8")
        return 0
    found = list(stale())
    for name in found:
        print(f"docs/{name} is out of date: run `python docs/diagrams.py`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

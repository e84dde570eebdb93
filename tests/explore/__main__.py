"""Explore every way a start can go wrong.

python -m tests.explore list
python -m tests.explore run NAME|all|kept|broken [--faults F]
python -m tests.explore random [NAME] [--paths N] [--seed S]
python -m tests.explore replay NAME/TEXT

The exit status is 1 for a counterexample, 2 for an unknown name or a text that does not fit, 130
after Ctrl+C, which prints what was covered.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import List, Optional, Sequence

from flowmaestro.testing.search import ReplayError, explore, replay, walk
from tests.explore.processes import runner
from tests.explore.scenario import Scenario
from tests.explore.scenarios import BROKEN, DEFENDED, KEPT, SCENARIOS
from tests.explore.stories import story_of

HEAD = f"""\
| {"scenario":28} | {"faults":>6} | {"paths":>9} | {"states":>9} | {"seconds":>8} | counterexample |
|{"-" * 30}|{"-" * 7}:|{"-" * 10}:|{"-" * 10}:|{"-" * 9}:|{"-" * 16}|"""
GROUPS = {"all": (*KEPT, *DEFENDED, *BROKEN), "kept": (*KEPT, *DEFENDED), "broken": BROKEN}
LEAST, MOST = 4, 6
"""The faults of a random path: more than are tried in full."""
LENGTH = 40
"""About the choices of a path of three rows, over which its faults are spread."""


def main(words: Optional[Sequence[str]] = None) -> int:
    """Carry out a command. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.explore")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the scenarios")
    run = commands.add_parser("run", help="explore a scenario")
    run.add_argument("name")
    run.add_argument("--faults", type=int, help="the most faults; by default the scenario's")
    at_random = commands.add_parser("random", help="try random paths with more faults")
    at_random.add_argument("name", nargs="?", default="batch-3rows-3processes")
    at_random.add_argument("--paths", type=int, default=1000)
    at_random.add_argument("--seed", type=int, default=0)
    commands.add_parser("replay", help="run one path again").add_argument("text")
    given = parser.parse_args(words)
    if given.command == "list":
        for it in SCENARIOS.values():
            print(f"{it.name:28} f = {it.faults}  {'; '.join(sorted(it.broken)) or 'all kept'}")
        return 0
    name, _, text = getattr(given, "name", None) or given.text, "", ""
    if given.command == "replay":
        name, _, text = given.text.partition("/")
    chosen = _chosen(name)
    if not chosen:
        print(f"no such scenario: {name}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    if given.command == "replay":
        return _replay(chosen[0], text)
    if given.command == "random":
        return max(_walk(it, given.paths, given.seed) for it in chosen)
    print(HEAD)
    return max(_explore(it, given.faults) for it in chosen)


def _chosen(name: str) -> List[Scenario]:
    if name in GROUPS:
        return list(GROUPS[name])
    return [SCENARIOS[name]] if name in SCENARIOS else []


def _explore(it: Scenario, faults: Optional[int]) -> int:
    begun = time.perf_counter()
    report = explore(runner(it), faults=it.faults if faults is None else faults)
    seconds = time.perf_counter() - begun
    result = "none"
    if report.findings:
        found = report.findings[0]
        result = f"one with {found.faults} faults and {len(found.choices)} choices"
    print(
        f"| {it.name:28} | {report.complete:6} | {report.paths:9,} | {report.states:9,} | "
        f"{seconds:8.1f} | {result}{f' ({report.stopped})' if report.stopped else ''} |",
        flush=True,
    )
    if report.findings:
        print(story_of(it, report.findings[0]))
    if report.stopped == "interrupted":
        raise SystemExit(130)
    return int(bool(report.findings))


def _walk(it: Scenario, paths: int, seed: int) -> int:
    begun = time.perf_counter()
    number = seed
    try:
        for number in range(seed, seed + paths):
            faults = LEAST + number % (MOST - LEAST + 1)
            path = walk(runner(it), seed=number, faults=faults, length=LENGTH)
            if path.error is not None:
                print(f"seed {number}")
                print(story_of(it, path))
                return 1
    except KeyboardInterrupt:
        print(f"{it.name}: seeds {seed} to {number - 1}, no counterexample (interrupted)")
        raise SystemExit(130) from None
    seconds = time.perf_counter() - begun
    print(
        f"{it.name}: seeds {seed} to {number}, {LEAST} to {MOST} faults, {seconds:.1f} s, "
        "no counterexample",
        flush=True,
    )
    return 0


def _replay(it: Scenario, text: str) -> int:
    try:
        path = replay(runner(it), text)
    except ReplayError as error:
        print(error, file=sys.stderr)
        return 2
    if path.error is None:
        print("no counterexample")
        return 0
    print(story_of(it, path))
    return 1


if __name__ == "__main__":
    sys.exit(main())

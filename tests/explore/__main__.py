"""Explore every way a start can go wrong.

python -m tests.explore list
python -m tests.explore run NAME|all|kept [--faults F] [--random N --seed S]
python -m tests.explore replay NAME/TEXT

The exit status of `run` and `replay` is 1 for a counterexample, 2 for an unknown name or a text
that does not fit. Ctrl+C prints what was covered.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import List, Optional, Sequence

from flowmaestro.testing.search import ReplayError, explore, replay, walk
from tests.explore.scenarios import BROKEN, KEPT, SCENARIOS, Scenario, runner
from tests.explore.stories import story_of

HEAD = f"{'scenario':24} {'faults':>6} {'paths':>9} {'states':>9} {'seconds':>8}  result"


def main(words: Optional[Sequence[str]] = None) -> int:
    """Carry out a command. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.explore")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the scenarios")
    run = commands.add_parser("run", help="explore a scenario")
    run.add_argument("name")
    run.add_argument("--faults", type=int, help="the most faults; by default the scenario's")
    run.add_argument("--random", type=int, default=0, help="so many random paths in place of all")
    run.add_argument("--seed", type=int, default=0)
    commands.add_parser("replay", help="run one path again").add_argument("text")
    given = parser.parse_args(words)
    if given.command == "list":
        for it in SCENARIOS.values():
            print(f"{it.name:24} f = {it.faults}  {'; '.join(sorted(it.broken)) or 'all kept'}")
        return 0
    if given.command == "replay":
        return _replay(given.text)
    chosen = _chosen(given.name)
    if not chosen:
        print(f"no such scenario: {given.name}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    if given.random:
        return max(_walk(it, given.random, given.seed) for it in chosen)
    print(HEAD)
    return max(_explore(it, given.faults) for it in chosen)


def _chosen(name: str) -> List[Scenario]:
    groups = {"all": (*KEPT, *BROKEN), "kept": KEPT, "broken": BROKEN}
    if name in groups:
        return list(groups[name])
    return [SCENARIOS[name]] if name in SCENARIOS else []


def _explore(it: Scenario, faults: Optional[int]) -> int:
    most = it.faults if faults is None else faults
    begun = time.perf_counter()
    report = explore(runner(it, most), faults=most)
    seconds = time.perf_counter() - begun
    result = "a counterexample" if report.findings else "none"
    print(
        f"{it.name:24} {report.complete:6} {report.paths:9,} {report.states:9,} {seconds:8.1f}  "
        f"{result}{f' ({report.stopped})' if report.stopped else ''}",
        flush=True,
    )
    if report.findings:
        print(story_of(it.name, report.findings[0], it.broken))
    if report.stopped == "interrupted":
        raise SystemExit(130)
    return int(bool(report.findings))


def _walk(it: Scenario, walks: int, seed: int) -> int:
    for number in range(seed, seed + walks):
        path = walk(runner(it, 6), seed=number, faults=4 + number % 3, length=30)
        if path.error is not None:
            print(f"seed {number}")
            print(story_of(it.name, path, it.broken))
            return 1
    print(f"{it.name}: seeds {seed} to {seed + walks - 1}, no counterexample", flush=True)
    return 0


def _replay(text: str) -> int:
    name, _, choices = text.partition("/")
    if name not in SCENARIOS:
        print(f"no such scenario: {name}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    it = SCENARIOS[name]
    try:
        path = replay(runner(it, 99), choices)
    except ReplayError as error:
        print(error, file=sys.stderr)
        return 2
    if path.error is None:
        print("no counterexample")
        return 0
    print(story_of(name, path, it.broken))
    return 1


if __name__ == "__main__":
    sys.exit(main())

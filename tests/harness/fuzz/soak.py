"""Replies and event streams as bytes, a hundred thousand of them, each a damaged valid one.

    python -m tests.harness.fuzz.soak --seed 1

Four fifths are fed to the core by itself: to the machine of every operation.
The rest goes over real sockets to every transport. What must not happen is an exception that is
not ours, a conversation without an end, or a success that was cut short. An input that makes one
happen is made small and printed as a line for `regressions.py`, which the ordinary suite
replays. Exits with 1 if there is one. The seed determines every input.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tests.harness.fuzz.conversations import Target, core_targets
from tests.harness.fuzz.mutations import mutated
from tests.harness.fuzz.wire import CORPORA, KINDS, feed_all
from tests.harness.runners import RUNNERS

WIRE_SHARE = 0.2
BATCH = 500
LONGEST = 2.0
"""Seconds of computing that no input is worth."""

SHRINKING_STEPS = 2_000


class Finding(NamedTuple):
    """An input, and what it made happen that must not."""

    target: str
    data: bytes
    error: BaseException

    def __str__(self) -> str:
        return f"    # {self.error!r:.200}\n    ({self.target!r}, {self.data!r}),"


class Results:
    """What came of all inputs: `outcomes` by target, and the `findings`."""

    def __init__(self) -> None:
        self.outcomes: Dict[str, Counter[str]] = {}
        self.findings: List[Finding] = []

    def note(self, target: str, outcome: str) -> None:
        self.outcomes.setdefault(target, Counter())[outcome] += 1

    def table(self) -> str:
        """A line for each target: how many inputs, and what they came to."""
        lines = [
            f"{name:<36}{sum(outcomes.values()):>8}  "
            + ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
            for name, outcomes in sorted(self.outcomes.items())
        ]
        count = sum(sum(outcomes.values()) for outcomes in self.outcomes.values())
        return "\n".join([*lines, f"{count} inputs, {len(self.findings)} findings"])


def fuzz_core(results: Results, seed: int, inputs: int, targets: Sequence[Target]) -> None:
    """Feed `inputs` to targets of the core, to each as many."""
    rng = random.Random(f"{seed} core")
    for number in range(inputs):
        target = targets[number % len(targets)]
        data = mutated(rng, target.corpus)
        outcome, finding = judged(target.name, target.feed, data)
        results.note(target.name, outcome)
        if finding is not None:
            small = shrunk(target.feed, data, type(finding.error))
            results.findings.append(finding._replace(data=small))


def judged(name: str, feed: Callable[[bytes], str], data: bytes) -> Tuple[str, Optional[Finding]]:
    """What an input comes to, and the finding if that must not be."""
    began = time.process_time()
    try:
        outcome = feed(data)
        if time.process_time() - began > LONGEST:
            raise TimeoutError(f"it took more than {LONGEST:g} s of computing")
    except Exception as error:
        return "FINDING", Finding(name, data, error)
    return outcome, None


def shrunk(feed: Callable[[bytes], str], data: bytes, kind: type) -> bytes:
    """A part of `data` that still makes `feed` raise the same kind of exception."""
    steps = SHRINKING_STEPS
    size = len(data) // 2
    while size and steps > 0:
        place = 0
        while place < len(data) and steps > 0:
            steps -= 1
            less = data[:place] + data[place + size :]
            _, finding = judged("", feed, less)
            if finding is not None and type(finding.error) is kind:
                data = less
            else:
                place += size
        size //= 2
    return data


def fuzz_wire(results: Results, seed: int, inputs: int) -> None:
    """Feed `inputs` to the transports, to each as many."""
    routes = [(name, kind) for name in RUNNERS for kind in KINDS]
    for number, (name, kind) in enumerate(routes):
        rng = random.Random(f"{seed} {name} {kind}")
        for size in _batches(len(range(number, inputs, len(routes)))):
            batch = [mutated(rng, CORPORA[kind]) for _ in range(size)]
            for data, outcome in zip(batch, feed_all(name, kind, batch)):
                target = f"{name} {kind}"
                if isinstance(outcome, str):
                    results.note(target, outcome)
                else:
                    results.note(target, "FINDING")
                    results.findings.append(Finding(target, data, outcome))


def _batches(count: int) -> Iterator[int]:
    while count > 0:
        yield min(count, BATCH)
        count -= BATCH


def replay(target: str, data: bytes) -> Optional[Finding]:
    """Feed one input to its target again; the finding, if it still is one."""
    name, _, kind = target.rpartition(" ")
    if name not in RUNNERS:
        return judged(target, core_targets()[target].feed, data)[1]
    (outcome,) = feed_all(name, kind, [data])
    return None if isinstance(outcome, str) else Finding(target, data, outcome)


def main() -> int:
    """Run from the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="what the inputs are drawn from")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many in all")
    given = parser.parse_args()
    results = Results()
    on_the_wire = int(given.inputs * WIRE_SHARE)
    targets = list(core_targets().values())
    fuzz_core(results, given.seed, given.inputs - on_the_wire, targets)
    fuzz_wire(results, given.seed, on_the_wire)
    print(results.table())
    for finding in results.findings:
        print(finding)
    print(f"{given.inputs} damaged replies of seed {given.seed}, {len(results.findings)} findings")
    return 1 if results.findings else 0


if __name__ == "__main__":
    sys.exit(main())

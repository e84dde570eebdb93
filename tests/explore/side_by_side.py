"""A run with a checkpoint and a batch of one row, side by side: do the same choices end alike?

python -m tests.explore.side_by_side        # the differences, each with the faults that show it

Each path of the run is tried, and its faults are repeated in the batch: each at the same action, as
`_place` counts them. A path is left out if the batch has no such action, or nothing like the fault.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from flowmaestro.testing.search import Choices, explore
from flowmaestro_core.actions import Action, Done, Fail
from tests.explore.options import Options, Process
from tests.explore.processes import Path
from tests.explore.scenario import Scenario
from tests.explore.scenarios import SCENARIOS

Place = Tuple[str, str, int]
"""The call, the action, and how many of these came before it in the call."""


class End(NamedTuple):
    """What came of a path: the executions, and what each call has said."""

    executions: Tuple[str, ...]
    said: Tuple[str, ...]


class _Compared(Path):
    """A path that says how each call has ended, and at which places there was a choice."""

    def __init__(self, scenario: Scenario, choices: Choices) -> None:
        super().__init__(scenario, choices)
        self.said: List[str] = []
        self._places: Counter[Tuple[str, str]] = Counter()

    def _place(self, process: Process, what: str) -> Place:
        first, _, rest = what.partition(" ")
        kind = "GET an execution" if first == "GET" and "list" not in rest else what
        if first == "waits":
            kind = "waits for the list" if float(rest.split()[0]) > 20 else "waits"
        elif first == "saves":
            kind = what.split(",")[0].replace(" 0", "")
        elif what == "loads" and process.steps > 1:
            kind = "loads rows" if self.scenario.kind == "batch" else "loads again"
        self._places[process.name, kind] += 1
        return (process.name, kind, self._places[process.name, kind])

    def _ends(self, process: Process, action: Optional[Action]) -> None:
        self.said.append(_said(process, action))
        super()._ends(process, action)

    @property
    def end(self) -> End:
        ours = [f"{it.id} by {it.by}" for it in self.world.executions if it.by]
        return End(tuple(ours), tuple(self.said))


def _said(process: Process, action: Optional[Action]) -> str:
    """Return what a call has said of its run or its only row."""
    if action is None:
        return "died"
    if isinstance(action, Fail):
        error = type(action.error).__name__
        return "the store failed" if error in ("CheckpointError", "JournalError") else error
    assert isinstance(action, Done)
    if process.told:
        _, id, error = process.told[0]
        return error or f"returned {id}"
    return f"returned {action.value.id}"


class _Recorded(_Compared):
    """A path of the run, whose faults are noted by their places."""

    def __init__(self, scenario: Scenario, choices: Choices) -> None:
        super().__init__(scenario, choices)
        self.faults: Dict[Place, str] = {}

    def _choose(self, process: Process, options: Options, what: str) -> int:
        place = self._place(process, what)
        number = super()._choose(process, options, what)
        if number:
            self.faults[place] = options[number].said
        return number


class _Repeated(_Compared):
    """A path of the batch, with given faults at their places."""

    def __init__(self, scenario: Scenario, faults: Dict[Place, str]) -> None:
        super().__init__(scenario, Choices())
        self.left = dict(faults)

    def _choose(self, process: Process, options: Options, what: str) -> int:
        place = self._place(process, what)
        said = [it.said for it in options]
        if self.left.get(place) not in said:
            return 0
        return said.index(self.left.pop(place))


class Difference(NamedTuple):
    """The faults, and the two ends that they lead to."""

    faults: Tuple[str, ...]
    run: End
    batch: End

    def __str__(self) -> str:
        return f"{'; '.join(self.faults)}\n    run:   {self.run}\n    batch: {self.batch}"


class Comparison(NamedTuple):
    """How many paths of the run were repeated in the batch, and those that end differently."""

    repeated: int
    left_out: int
    differences: List[Difference]


def compare(run: Scenario, batch: Scenario, faults: int) -> Comparison:
    """Repeat each path of a run with at most `faults` faults in a batch."""
    differences: List[Difference] = []
    numbers = Counter[bool]()

    def pair(choices: Choices) -> None:
        one = _Recorded(run, choices)
        one.run()
        if any(label.endswith("begins") and it for it, _, label, _ in choices.made):
            return
        other = _Repeated(batch, one.faults)
        other.run()
        numbers[not other.left] += 1
        if not other.left and one.end != other.end:
            words = tuple(f"{place[0]} {place[1]}: {it}" for place, it in one.faults.items())
            differences.append(Difference(words, one.end, other.end))

    report = explore(pair, faults=faults, prune=False)
    assert not report.findings, report.findings[0]
    return Comparison(numbers[True], numbers[False], differences)


def is_named(it: Difference) -> bool:
    """Return whether `docs/durable.md` names the difference."""
    words = "; ".join(it.faults)
    if "the store says that it was not first" in words or "(1 on page 1): 403" in words:
        return True
    # The list is empty, and an earlier call may have sent the request.
    return it.batch.said[-1] == "StartUnknownError" and not it.batch.executions


def pairs() -> Iterator[Tuple[Scenario, Scenario]]:
    """Yield a run and a batch: with an execution from before, and without one.

    The timeouts do not matter: that of a run counts from its call, that of a row from its turn.
    """
    for suffix in ("", "-new"):
        run, batch = (SCENARIOS[f"{kind}{suffix}"] for kind in ("run", "batch"))
        yield replace(run, timeout=1000.0), replace(batch, timeout=1000.0)


def main() -> int:
    """Print the differences. Return 1 if the docs do not name all of them."""
    status = 0
    for run, batch in pairs():
        found = compare(run, batch, 2)
        print(f"{run.name}: {found.repeated} paths repeated, {found.left_out} left out")
        alike: Dict[Any, List[Difference]] = defaultdict(list)
        for it in found.differences:
            alike[is_named(it), it.run.said, it.batch.said].append(it)
        for (named, *_), its in alike.items():
            first = min(its, key=lambda it: len(it.faults))
            print(f"{len(its)} {'named' if named else 'NOT NAMED'}, such as {first}")
            status = status if named else 1
    return status


if __name__ == "__main__":
    sys.exit(main())

"""What `every_crash` has tried and found, as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Tuple

MOST_SHOWN = 40
"""The last lines of a story that are shown: about one screen."""


@dataclass(frozen=True)
class CrashFinding:
    """One run of a task that ended in a way that it must not.

    Attributes:
        what: what is wrong, such as `2 executions for one row`.
        mistake: the known mistake that it looks like; `""` if it looks like none.
        instead: what to write instead; `""` if it looks like no known mistake.
        place: where the task died last, or met a fault, as `FILE:LINE in FUNCTION: SOURCE`; `""` if
            nothing went wrong.
        deaths: how many deaths and faults the run had.
        replay: the text with which `every_crash(..., replay=...)` runs it again.
        story: what happened, a line for each step.

    """

    what: str
    mistake: str
    instead: str
    place: str
    deaths: int
    replay: str
    story: Tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.what}        replay: {self.replay}"]
        if self.mistake:
            lines.append(f"{self.mistake}: {self.instead}")
        left_out = len(self.story) - MOST_SHOWN
        lines += [f"  … {left_out} steps before"] if left_out > 0 else []
        lines += self.story[-MOST_SHOWN:]
        if self.place:
            lines.append(f"at {self.place}")
        return "\n".join(lines)


@dataclass
class CrashReport:
    """What `every_crash` has tried and found. `str()` says both.

    Attributes:
        runs: how many runs there were.
        tried: how many of them had a death or a fault.
        places: at how many places the run without a death could have died.
        deaths: the most deaths and faults of a run that were asked for.
        complete: the number of deaths and faults up to which all runs were tried; -1 if the run
            without one was not.
        untried: how many runs were known and not tried.
        stopped: why not all were tried: `"a finding"`, `"the budget"`, `"Ctrl+C"`, `"a replay"` or
            `"not deterministic"`; `""` if all were.
        seconds: the real time that it took.
        findings: what was found, the shortest first. Only runs with the fewest deaths are there.
        difference: the first step in which a run differed from another one with the same choices,
            in words; `""` if there was none.

    """

    runs: int
    tried: int
    places: int
    deaths: int
    complete: int = -1
    untried: int = 0
    stopped: str = ""
    seconds: float = 0.0
    findings: List[CrashFinding] = field(default_factory=list[CrashFinding])
    difference: str = ""

    def check(self) -> None:
        """Raise `AssertionError` with the whole text if anything was found.

        It is also raised if the task is not deterministic, if no run with a death was tried, or if
        Ctrl+C has ended the search. A budget that has ended the search is no error.
        """
        __tracebackhide__ = True
        unsure = self.difference or self.stopped == "Ctrl+C"
        if self.findings or unsure or not (self.tried or self.stopped == "a replay"):
            raise AssertionError(str(self))

    def __str__(self) -> str:
        lines = [self._bounds()]
        if self.difference:
            lines.append(f"not deterministic, so it was not explored: {self.difference}")
        if self.findings:
            first, *others = self.findings
            lines.append(str(first))
            if others:
                words = {it.mistake for it in others if it.mistake not in ("", first.mistake)}
                more = f", some of them for another reason: {', '.join(sorted(words))}"
                plural = "s end" if len(others) > 1 else " ends"
                lines.append(f"{len(others)} other run{plural} wrong{more if words else ''}")
        return "\n".join(lines)

    def _bounds(self) -> str:
        runs = f"{self.runs} run{'s' * (self.runs != 1)}"
        places = f"all {self.places} places of death, up to {_deaths(self.complete)}"
        took = f"{self.seconds:.1f} s"
        if not self.stopped:
            return f"{runs}, {places}, {took}"
        if self.complete < 0:
            return (
                f"{runs}, {took}; ended because it is {self.stopped}"
                if self.difference
                else (f"{runs}, {took}; ended by {self.stopped}, before any death was tried")
            )
        if self.complete == 0:
            places = "without a death"
        rest = f"at least {self.untried} runs with up to {_deaths(self.deaths)} were not tried"
        return f"{runs}, {places}, {took}; ended by {self.stopped}: {rest}"


def _deaths(number: int) -> str:
    return f"{number} death{'s' * (number != 1)}"

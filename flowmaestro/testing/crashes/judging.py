"""What must hold at the end of a run, and what to write where it does not. Pure."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple
from typing import Counter as Counts

from flowmaestro.testing.crashes.plan import Plan
from flowmaestro.testing.crashes.process import Run, Started
from flowmaestro.testing.crashes.steps import Place, Step, comparable, shown

Row = Tuple[str, str]
"""The id of a workflow, and its inputs as JSON."""


class Advice(NamedTuple):
    """A known mistake, and what to write instead."""

    word: str
    instead: str


KEY_CHANGES = Advice(
    "the key changes between two calls",
    "derive it from what the task is called with, such as the id of the order, so that a repeated "
    "call finds what the first one has saved",
)
INPUTS_CHANGE = Advice(
    "the inputs change between two calls",
    "make them from what the task is called with, without the present time or a random number, so "
    "that a repeated call starts the same or finds it",
)
SAVE_FIRST = Advice(
    "save before you start",
    "what is saved after the start is not there if the process dies in between: pass checkpoint= "
    "to run or execute, or journal= to run_many, which save before",
)
SHARED_KEY = Advice(
    "two rows have one key",
    "make the key from all that tells the rows apart, so that none takes the state of another",
)
EFFECT_FIRST = Advice(
    "an effect before its save",
    "a process that dies after the effect repeats it: save together with it, or let its receiver "
    "ignore what it has seen, by a key that does not change",
)
SAVE_BEFORE_EFFECT = Advice(
    "a save before its effect",
    "a process that dies between the two never carries out the effect: save that it is done after "
    "it",
)
LOST_SAVE = Advice(
    "the store loses a save",
    "what it has confirmed must survive the process: flush and fsync a file, write it anew and "
    "rename it, commit a transaction",
)
NO_COMPARE = Advice(
    "two processes loaded the same state",
    "let the store compare and swap: it must keep a state only in place of the one that was loaded",
)


class WrongRun(Exception):
    """A run that has ended in a way that it must not.

    Attributes:
        what: what is wrong.
        advice: the known mistake that it looks like; `None` if there is none.
        steps: what happened.
        place: where the process died last, or something else went wrong; `None` if nothing did.

    """

    def __init__(self, what: str, advice: Optional[Advice], run: Run) -> None:
        super().__init__(what)
        self.what: str = run.short_id(what)
        self.advice = advice
        self.steps: List[Step] = list(run.steps)
        self.lines: List[str] = story_of(run)
        self.place: Optional[Place] = run.trouble.place if run.trouble is not None else None


def story_of(run: Run) -> List[str]:
    """Return the steps of a run as lines.

    Items that were delivered and repeated polls are left out, and so are processes that do and meet
    the same as the one before.
    """
    lines: List[str] = []
    before: List[Tuple[str, str]] = []
    left_out = 0
    for _, taken in itertools.groupby(run.steps, lambda it: it.process):
        mine: List[Step] = []
        for step in taken:
            quiet = step.kind in ("emit", "line", "end") and not step.outcome
            again = bool(mine) and (mine[-1].what, mine[-1].outcome) == (step.what, step.outcome)
            if not quiet and not (again and step.what.startswith("GET")):
                mine.append(step)
        said = [(it.what, it.outcome) for it in mine]
        if said == before:
            left_out += 1
            continue
        if left_out:
            lines.append(f"     and {left_out} times more")
        before, left_out = said, 0
        for step in mine:
            step.what, step.outcome = run.short_id(step.what), run.short_id(step.outcome)
            lines.append(str(step))
    return lines + ([f"     and {left_out} times more"] if left_out else [])


@dataclass
class Reference:
    """What a run without a death has done.

    Attributes:
        result: what the task returned.
        rows: how many executions were started with each inputs.
        effects: how often each effect was called, by name and key.
        labels: its steps.
        inputs: the inputs of its executions, in order.
        loaded: what its steps have loaded from the store; `""` for the other steps.
        has_unended: whether it leaves executions that have not ended.
        has_threads: whether it has started threads.
        changing: the inputs that differ from run to run.
        changing_effects: the effects whose keys do.

    """

    result: Any
    rows: Counts[Row]
    effects: Counts[Tuple[str, str]]
    labels: List[str]
    has_unended: bool
    inputs: List[Dict[str, Any]]
    loaded: List[str]
    has_threads: bool
    changing: FrozenSet[str] = frozenset()
    changing_effects: FrozenSet[str] = frozenset()

    def difference_to(self, other: Reference) -> str:
        """Return the first step of another run without a death that differs, in words."""
        both = zip([*self.labels, "its end"], [*other.labels, "its end"])
        at = next((number for number, (one, two) in enumerate(both) if one != two), None)
        if at is None:
            return ""
        one, two = ([*it.labels, "its end"][at] for it in (self, other))
        said = f"step {at + 1} is {one!r} in one run and {two!r} in the next, without a death"
        if self.loaded[:at] != other.loaded[:at]:
            said += (
                "; the store returned something else before. If it has kept what the first run "
                "saved, make it anew for each: store=lambda folder: ... for files"
            )
        return said


def row_of(started: Started, changing: FrozenSet[str] = frozenset()) -> Row:
    """Return the row to which an execution belongs, without the inputs that are `changing`."""
    inputs = {
        name: None if name in changing else value
        for name, value in started.execution.inputs.items()
    }
    return started.execution.workflow.id, json.dumps(inputs, sort_keys=True)


def reference_of(run: Run, result: Any) -> Reference:
    """Return what a run without a death has done."""
    return Reference(
        result,
        Counter(map(row_of, run.started)),
        Counter((it.name, it.key) for it in run.effects),
        [f"{it.process} {it.label} ({it.place.short})" for it in run.steps],
        bool(run.unended),
        [dict(it.execution.inputs) for it in run.started],
        [comparable(it.outcome) if it.kind == "load" else "" for it in run.steps],
        run.turns.has_threads,
    )


def compared(first: Reference, second: Reference) -> Reference:
    """Return the first of two runs without a death, with what differs in the second."""
    changing = {
        name
        for one, other in zip(first.inputs, second.inputs)
        for name in {*one, *other}
        if one.get(name) != other.get(name)
    }
    effects = {name for name, _ in first.effects.keys() ^ second.effects.keys()}
    first.changing, first.changing_effects = frozenset(changing), frozenset(effects)
    return first


def judge(plan: Plan, run: Run, results: Sequence[Any], reference: Reference) -> None:
    """Raise `WrongRun` unless a run has done what the reference did.

    `results` are those of the deliveries of the task.
    """
    changing = reference.changing
    wanted = _masked(reference.rows, changing)
    found = Counter(row_of(it, changing) for it in run.started)
    for row, count in found.items():
        if count > wanted[row]:
            mine = [it for it in run.started if row_of(it, changing) == row]
            said = f"{row[0]} {shown(mine[0].execution.inputs)}"
            if not wanted[row]:
                what = f"an execution belongs to no row: {said}"
            else:
                what = f"{count} executions{_instead_of(wanted[row])} for one row: {said}"
            raise WrongRun(what, _why_twice(run, mine), run)
    for row, count in wanted.items():
        if found[row] < count:
            what = f"a row was never started: {row[0]} {shown(row[1])[1:-1]}"
            raise WrongRun(what, _shared_key(run), run)
    _judge_effects(plan, run, reference)
    for result in results:
        if not _same(plan, reference.result, result):
            what = (
                f"the result is {shown(result)}, and without a death {shown(reference.result)}; "
                "if both are right, pass compare=lambda expected, got: ..."
            )
            raise WrongRun(what, _shared_key(run), run)
    if run.unended and not reference.has_unended:
        what = f"{run.unended[0].execution.id} is left {run.unended[0].execution.status}"
        raise WrongRun(f"{what}: the task has ended without it", None, run)


def _masked(rows: Counts[Row], changing: FrozenSet[str]) -> Counts[Row]:
    masked: Counts[Row] = Counter()
    for (workflow, text), count in rows.items():
        inputs = {key: None if key in changing else it for key, it in json.loads(text).items()}
        masked[workflow, json.dumps(inputs, sort_keys=True)] += count
    return masked


def _instead_of(count: int) -> str:
    return "" if count == 1 else f" in place of {count}"


def _same(plan: Plan, expected: Any, got: Any) -> bool:
    if plan.compare is not None:
        return bool(plan.compare(expected, got))
    return bool(expected == got) or comparable(expected) == comparable(got)


def _judge_effects(plan: Plan, run: Run, reference: Reference) -> None:
    """Raise `WrongRun` if a named effect was not carried out, or twice where that is a mistake."""
    for effect in plan.effects:
        mine = [it for it in run.effects if it.name == effect.name]
        changes = effect.name in reference.changing_effects
        wanted = Counter(
            {
                "" if changes else key: count
                for (name, key), count in reference.effects.items()
                if name == effect.name
            }
        )
        if changes:
            total = sum(
                count for (name, _), count in reference.effects.items() if name == effect.name
            )
            wanted = Counter({"": total})
        found = Counter("" if changes else it.key for it in mine)
        for key, count in wanted.items():
            if found[key] < count:
                what = f"the effect {effect.name}{_called(key)} was not carried out"
                raise WrongRun(what, _why_lost(run), run)
        for key, count in found.items() if effect.exactly_once else ():
            if count > wanted[key]:
                what = f"the effect {effect.name}{_called(key)} was carried out {count} times"
                raise WrongRun(what, _why_repeated(run, effect.name), run)


def _called(key: str) -> str:
    return f" of {key[:60]}" if key else ""


# What the mistake looks like


def _saves(run: Run, process: str, begin: int, end: int) -> List[Step]:
    """Return the saves that a process has made among the steps from `begin` on, before `end`."""
    steps = run.steps[begin:end]
    return [it for it in steps if it.process == process and it.kind == "save" and it.acted]


def _why_twice(run: Run, mine: Sequence[Started]) -> Optional[Advice]:
    """Return the mistake because of which a row was started again."""
    first, last = mine[0], mine[-1]
    changed = _changed_key(run, first.step.process, last.step.process)
    if changed is not None:
        return changed
    if first.execution.inputs != last.execution.inputs:
        return _with_values(KEY_CHANGES, first.execution.inputs, last.execution.inputs)
    if any(it.outcome.startswith("another process") for it in run.steps):
        return NO_COMPARE
    before = max(
        (it.at for it in run.started if it.at < first.at and it.step.process == first.step.process),
        default=0,
    )
    if not _saves(run, first.step.process, before, first.at):
        return SAVE_FIRST
    if _shared_key(run) is not None:
        return SHARED_KEY
    loads = [it for it in run.steps if it.kind == "load" and it.process == last.step.process]
    if loads and loads[0].outcome in ("None", "[]", "{}", "''", "()"):
        return LOST_SAVE
    return None


def _changed_key(run: Run, first: str, second: str) -> Optional[Advice]:
    """Return the advice if two processes have asked the store for different keys."""
    if first == second:
        return None

    def asked(process: str) -> Dict[str, Set[str]]:
        found: Dict[str, Set[str]] = {}
        for it in run.steps:
            if it.process == process and it.kind in ("load", "save") and it.key:
                found.setdefault(f"{it.kind} {it.label} {it.place.short}", set()).add(it.key)
        return found

    one, other = asked(first), asked(second)
    both = [(one[name], other[name]) for name in one if name in other]
    if not both or any(mine & theirs for mine, theirs in both):
        return None
    return _with_values(KEY_CHANGES, min(both[0][0]), min(both[0][1]))


def _with_values(advice: Advice, one: Any, other: Any) -> Advice:
    one, other = (it if isinstance(it, str) else shown(it) for it in (one, other))
    return Advice(advice.word, f"{one} in the first, {other} in the second; {advice.instead}")


def _shared_key(run: Run) -> Optional[Advice]:
    """Return the advice if one process has used one key of the store for two executions."""
    holders: Dict[Tuple[str, str], str] = {}
    ids = [it.execution.id for it in run.started]
    for step in run.steps:
        named = [id for id in ids if id in step.what]
        if step.kind == "save" and step.key and named:
            held = holders.setdefault((step.process, step.key), named[0])
            if held != named[0]:
                return _with_key(step.key)
    return None


def _with_key(key: str) -> Advice:
    return Advice(SHARED_KEY.word, f"{key}; {SHARED_KEY.instead}")


def _why_repeated(run: Run, name: str) -> Optional[Advice]:
    """Return the mistake because of which an effect was repeated."""
    first = next(it for it in run.effects if it.name == name)
    process = first.step.process
    return None if _saves(run, process, first.at, len(run.steps)) else EFFECT_FIRST


def _why_lost(run: Run) -> Optional[Advice]:
    """Return the mistake because of which an effect was not carried out."""
    if not run.deaths:
        return None
    dead = run.deaths[-1]
    return SAVE_BEFORE_EFFECT if _saves(run, dead.process, 0, len(run.steps)) else None


def judge_rows(plan: Plan, run: Run) -> None:
    """Raise `WrongRun` if a run without a death does not start as many executions as wanted."""
    count = len(run.started)
    if plan.rows is None or count == plan.rows:
        return
    seen: Counts[str] = Counter()
    for step in run.steps:
        if step.kind == "load" and step.key:
            seen[f"{step.label} {step.place.short} {step.key}"] += 1
    twice = next((it for it, times in seen.items() if times > 1), None)
    advice = None
    if count < plan.rows and twice is not None:
        advice = _with_key(twice.rpartition(" ")[2])
    raise WrongRun(f"{plan.rows} rows, and {count} executions, without a death", advice, run)


def why_failed(run: Run, error: BaseException) -> Optional[Advice]:
    """Return the mistake because of which each call of the task fails."""
    loads = [it for it in run.steps if it.kind == "load"]
    if getattr(error, "code", "") == "checkpoint_mismatch":
        return INPUTS_CHANGE if run.deaths else SHARED_KEY
    return LOST_SAVE if run.deaths and loads and loads[-1].outcome.startswith("raises") else None

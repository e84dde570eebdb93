"""`every_crash`: a task, killed at every step, in every order, and judged."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Union

from flowmaestro.testing import search
from flowmaestro.testing.crashes.calling import quiet, virtual_sleep
from flowmaestro.testing.crashes.effects import Effect, Substitutes
from flowmaestro.testing.crashes.judging import (
    Reference,
    WrongRun,
    compared,
    judge,
    judge_rows,
    reference_of,
)
from flowmaestro.testing.crashes.plan import Budget, Plan, plan_of
from flowmaestro.testing.crashes.playing import Play
from flowmaestro.testing.crashes.report import CrashFinding, CrashReport
from flowmaestro.testing.crashes.steps import Step
from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.search import Choices, NotDeterministic, Report

__tracebackhide__ = True  # pytest shows the lines of the test instead.

ATTEMPTS = 3
"""How often a run with threads is made before it counts as not deterministic. What a thread waits
for is not always seen, so its steps may come in another order once in a while."""

_REASONS = {"finding": "a finding", "budget": "the budget", "interrupted": "Ctrl+C"}
"""The words of the report for those of the search."""


def every_crash(
    task: Callable[..., Any],
    *,
    args: Sequence[Any] = (),
    kwargs: Optional[Mapping[str, Any]] = None,
    store: Optional[Callable[..., Any]] = None,
    seed: Optional[Callable[[FakeFlowMaestro], object]] = None,
    effects: Iterable[Union[Effect, str, Callable[..., Any], Any]] = (),
    rows: Union[int, Sequence[Any], None] = None,
    deaths: int = 2,
    compare: Optional[Callable[[Any, Any], bool]] = None,
    faults: Iterable[str] = (),
    processes: int = 1,
    lines: bool = False,
    budget: Budget = None,
    backend: str = "asyncio",
    replay: Optional[str] = None,
) -> CrashReport:
    """Kill the process of a task at every step, call the task again, and judge what came of it.

    A *run* begins with an empty world: a new fake, a new store. The task is called as an engine
    does, again after each death or exception, until it returns. The runs differ in where the
    process dies: before, in the middle of and after each request, each use of the store, each named
    effect and each item that a batch or a stream delivers. First all runs with one death are tried,
    then all with two. A run without a death says what is right: each row is started once, the
    result and the effects are the same, and nothing is left running.

    All of it happens in virtual time, `time.sleep` included, and in this process. A death is a
    `ProcessDied`, raised where the task is. After it, that process does nothing more: each further
    request, use of the store and named effect raises `ProcessDied` as well. The next process gets a
    copy of the folder as it was at the death.

    A step is tried once for each state of the world: two polls that see the same are one place.
    Requests that only read have no middle. Times of deaths are not varied.

    Args:
        task: a function or a coroutine function. Its parameters `client`, `store`, `folder`, `fake`
            and `attempt` are filled by name: a client of the fake, the store, a folder of the run
            (a `Path`), the fake, and how often the task was called, from 1. A client that the task
            makes itself, without `transport=`, is connected to the fake, too.
        args: the other positional arguments, in order.
        kwargs: arguments by name.
        store: makes the store of a run. If the function has a parameter, each process calls it with
            the folder of the run, as it would open a file or a database. If it has none, it is
            called once for each run, and what it returns stands for a server that does not die.
        seed: called with each new fake, to script its workflows.
        effects: what the task changes outside of FlowMaestro and its store: functions, methods,
            context managers, or their names (`"module.function"`). Each must be called as often as
            in a run without a death, at least. For more, pass an `Effect`.
        rows: how many executions the task starts without a death, or the inputs of each. Without
            it, the run without a death says how many are right.
        deaths: the most deaths of a run. With `faults` or `processes=2`, a fault, or the call of
            the other process, counts as one.
        compare: called with the result of a run without a death and that of another run; returns
            whether both are right. By default, they must be equal but for ids that the fake gives
            out, and times.
        faults: `"network"` adds requests that are lost, answers that are lost, and errors 500 and
            503; `"list"` adds lists of executions that are late or without inputs.
        processes: with 2, the engine may deliver the task twice: at one step, another process makes
            the same call, to its end or its death.
        lines: whether the process may also die before each line of the files of the user.
        budget: the most runs, or a `timedelta`. The report says what was not tried.
        backend: the event loop of a coroutine function: `"asyncio"` or `"trio"`.
        replay: the text of a finding. Only this run is made, and `breakpoint()` is called where the
            process dies last.

    Raises `TypeError` or `ValueError`, naming the argument that is wrong, and `ValueError` if the
    task makes no request. An exception of `seed`, `store` or `compare` is raised as it is.

    """
    plan = plan_of(
        task,
        args,
        kwargs,
        store,
        seed,
        effects,
        rows,
        deaths,
        compare,
        faults,
        processes,
        lines,
        budget,
        backend,
    )
    with ExitStack() as stack:
        substitutes = Substitutes()
        stack.callback(substitutes.remove)
        args, kwargs = substitutes.put(plan.effects, plan.task, (plan.args, plan.kwargs))
        stack.enter_context(virtual_sleep())
        stack.enter_context(quiet())
        folder = None
        if plan.needs_folder:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="every-crash-")))
        return _Exploration(replace(plan, args=args, kwargs=kwargs), folder).report(replay)


class _Exploration:
    """The runs of one plan, and what they have shown."""

    def __init__(self, plan: Plan, folder: Optional[Path]) -> None:
        self._plan = plan
        self._folder = folder
        self._begun = time.perf_counter()
        self._runs = 0
        self._places = 0
        self._reference: Optional[Reference] = None
        self._last_store: Any = None

    def report(self, text: Optional[str]) -> CrashReport:
        """Explore the runs of the plan, or replay that of a text. Return the report."""
        plan = self._plan
        try:
            self._learn()
        except WrongRun as wrong:
            finding = _finding(search.Path((), error=wrong))
            return self._reported(Report(plan.deaths, 0, stopped="finding", untried=1), [finding])
        except NotDeterministic as error:
            return self._undetermined(error)
        try:
            if text is not None:
                found = search.replay(lambda choices: self._run(choices, text.count(":")), text)
                covered = Report(plan.deaths, findings=[found] if found.error else [])
                covered.stopped = "a replay"
            else:
                covered = search.explore(
                    self._run, faults=plan.deaths, prune=False, budget=self._within_budget
                )
        except NotDeterministic as error:
            return self._undetermined(error)
        return self._reported(covered, [_finding(path) for path in covered.findings])

    def _learn(self) -> None:
        """Learn from two runs without a death what is right, and what differs from run to run.

        Raises `WrongRun` if the task fails, `NotDeterministic` if the steps of both differ, and
        `ValueError` if the task makes no request.
        """
        first = second = self._without_death()
        difference = "unknown"
        left = ATTEMPTS
        while difference and left:
            second = self._without_death()
            difference = first.difference_to(second)
            left = left - 1 if first.has_threads else 0
        if difference:
            raise NotDeterministic(difference)
        self._reference = compared(first, second)

    def _without_death(self) -> Reference:
        play = self._play(Choices())
        results = play.play()
        judge_rows(self._plan, play.run)
        self._places = play.run.places
        if not any(it.kind == "request" for it in play.run.steps):
            raise ValueError(
                "the task made no request to the fake, so nothing was tried: use the client that "
                "it gets as client=, or make one in the task, without transport="
            )
        return reference_of(play.run, results[0])

    def _play(self, choices: Choices, breaks_at: int = 0) -> Play:
        self._runs += 1
        folder = None
        if self._folder is not None:
            folder = self._folder / str(self._runs)
            folder.mkdir()
        return Play(
            self._plan, choices, folder, self._store, breaks_at=breaks_at, stop_here=_stop_here
        )

    def _store(self) -> Any:
        """Return a new store. Raises `ValueError` if it is that of the run before."""
        assert self._plan.store is not None  # noqa: S101 (for the type checker)
        made = self._plan.store()
        if made is not None and made is self._last_store:
            kind = type(made).__name__
            raise ValueError(
                f"store returned the same {kind} for two runs, which must not share it: make a new "
                f"one in the function, as in store=lambda: {kind}(...)"
            )
        self._last_store = made
        return made

    def _run(self, choices: Choices, breaks_at: int = 0) -> None:
        """Make one run. Raises `WrongRun` if it ends in a way that it must not.

        A run with threads that seems to be another one is made again: see `ATTEMPTS`.
        """
        left = ATTEMPTS
        while True:
            play = self._play(choices, breaks_at)
            try:
                results = play.play()
                choices.check_end()
                break
            except NotDeterministic:
                left -= 1
                if not left or breaks_at or not play.run.turns.has_threads:
                    raise
                choices.made.clear()
        assert self._reference is not None  # noqa: S101 (for the type checker)
        judge(self._plan, play.run, results, self._reference)

    def _within_budget(self, covered: Report) -> bool:
        budget = self._plan.budget
        if isinstance(budget, timedelta):
            return time.perf_counter() - self._begun < budget.total_seconds()
        return budget is None or covered.paths < budget

    def _reported(self, covered: Report, findings: Sequence[CrashFinding]) -> CrashReport:
        return CrashReport(
            self._runs,
            max(covered.paths - 1, 0),
            self._places,
            self._plan.deaths,
            covered.complete,
            covered.untried,
            _REASONS.get(covered.stopped, covered.stopped),
            time.perf_counter() - self._begun,
            list(findings),
        )

    def _undetermined(self, error: NotDeterministic) -> CrashReport:
        covered = Report(self._plan.deaths, stopped="not deterministic")
        report = self._reported(covered, [])
        report.difference = str(error)
        return report


def _finding(path: search.Path) -> CrashFinding:
    """Return what a run has shown. Raises the exception of a run that could not be judged."""
    error = path.error
    if not isinstance(error, WrongRun):
        assert error is not None  # noqa: S101 (for the type checker)
        raise error
    word, instead = error.advice or ("", "")
    place, story = str(error.place or ""), tuple(error.lines)
    return CrashFinding(error.what, word, instead, place, path.faults, path.text, story)


def _stop_here(step: Step) -> None:
    """Stop in the debugger where a replayed run goes wrong."""
    print(f"{step.what}: {step.place}. `up` leads there.", file=sys.stderr)
    breakpoint()

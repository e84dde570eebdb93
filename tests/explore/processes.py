"""One path of a scenario: calls of the real machines, one after another or side by side."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Callable, List, Optional, Tuple, Type, cast

from flowmaestro.testing.search import Choices
from flowmaestro_core.actions import Action, Done, Emit, Fail, Load, Save, Send
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.context import Context
from flowmaestro_core.executions.outcome import RunOutcome, still_runs
from flowmaestro_core.machine import Machine
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.explore.fingerprints import fingerprint
from tests.explore.options import AGAIN, STOPS, Option, Options, Process, Report, held, options_of
from tests.explore.scenario import Scenario
from tests.explore.truth import Truth
from tests.explore.world import World
from tests.harness.core.stepping import a_context

MOST_STEPS = 200
"""Of one call. The longest path of a scenario has about 60."""
LONGEST = 3600.0
"""Seconds of one call: each of at most three starts again may wait for `settle_after`, and its
request may be delayed some times by 40 s."""
LAST = 1000.0
"""Seconds after the last call, in which every late request arrives."""
CLOCKS = (("its clock is an hour ahead", 3600.0), ("its clock is an hour behind", -3600.0))
_PROTOTYPE = a_context()


class Path:
    """Runs one path, and checks all that must hold. Its world has the story."""

    def __init__(self, scenario: Scenario, choices: Choices, kind: Type[World] = World) -> None:
        self.scenario = scenario
        self.world = kind(scenario)
        self._choices = choices
        self._truth = Truth(scenario, self.world)
        self._live: List[Process] = []
        """The calls that go on, first the one that goes first if several are ready."""
        self._calls = 0
        self._well = 0
        """How many calls have ended without an error."""
        self._is_over = False
        """Whether a call has failed although no fault has happened to it."""

    def run(self) -> World:
        """Make the calls. Raises `AssertionError` with the story if a promise is broken."""
        try:
            while self._calls_again:
                self._begin()
                while self._live:
                    self._step()
            self.world.pass_time(self.world.now + LAST)
            self.world.check()
        except Exception as error:
            error.story = self.world.steps  # type: ignore[attr-defined]
            raise
        return self.world

    @property
    def _calls_again(self) -> bool:
        most = self.scenario.most_calls
        is_over = self._is_over or self._well > self.scenario.again
        return not is_over and (most is None or self._calls < most)

    # Calls

    def _begin(self) -> None:
        name = "ABCDEFGHIJKLMNOP"[self._calls]
        self._calls += 1
        world, scenario = self.world, self.scenario
        if not self._live and name != "A":
            world.pass_time(world.now + scenario.rest)
        if scenario.is_busy and self._calls == 2:
            world.crowd()
        how = self._how(name)
        process = Process(name, machine_of(scenario, is_first=name == "A"), world.now)
        process.has_other_key = "key" in how or (scenario.stranger and name == "A")
        process.clock = dict(CLOCKS).get(how, 0.0)
        process.is_disturbed = how != "" or process.has_other_key
        if process.is_disturbed:
            world.tell(name, "begins", how)
        elif len({*scenario.settles}) > 1:
            world.tell(name, "begins", f"with settle_after={scenario.settles[name != 'A']:g}")
        self._live.insert(0, process)

    def _how(self, name: str) -> str:
        """Choose how a call begins."""
        scenario = self.scenario
        ways: Tuple[str, ...] = ("",)
        if scenario.keys:
            ways += ("with the key of another workspace",)
        if scenario.kind != "batch" or "the clocks agree" in scenario.broken:
            ways += tuple(it for it, _ in CLOCKS)
        if len(ways) == 1:
            return ""
        state = partial(self._state, is_beginning=True)
        return ways[self._choices.choose(len(ways), f"{name} begins", state=state)]

    def _step(self) -> None:
        world, live = self.world, self._live
        process = min(live, key=lambda it: max(it.ready_at, world.now))
        world.pass_time(process.ready_at)
        if process.report is not None and process.report is not AGAIN:
            (event, *args), process.report = process.report, None
            action = getattr(process.machine, event)(*args, world.now, 0.5)
            process.action = action
            if isinstance(action, (Done, Fail)):
                self._ends(process, action)
                return
        process.report = None
        process.steps += 1
        assert process.steps <= MOST_STEPS, f"a call does not end within {MOST_STEPS} steps"
        assert world.now - process.began_at <= LONGEST, f"a call takes more than {LONGEST:g} s"
        options, what = options_of(world, process)
        options += self._switches(process, what)
        number = self._choose(process, options, what)
        self._takes(process, options[number], what, is_fault=number > 0)

    def _choose(self, process: Process, options: Options, what: str) -> int:
        """Return the number of the option that is taken."""
        return self._choices.choose(len(options), f"{process.name} {what}", state=self._state)

    def _takes(self, process: Process, option: Option, what: str, *, is_fault: bool) -> None:
        world = self.world
        action = process.action
        is_loaded = isinstance(action, Load) and action.keys and not is_fault
        said = held(world, cast("Load", action)) if is_loaded else option.said
        world.tell(process.name, what, said)
        process.is_disturbed = process.is_disturbed or is_fault
        report = option.does(world, process, action)
        if report == ("emitted",):
            for it in cast("Emit", action).items:
                if isinstance(it, RunOutcome) and not still_runs(it):
                    error = "" if it.error is None else type(it.error).__name__
                    process.told.append((it.index, it.execution_id, error))
        if report is None:
            self._ends(process, None)
        else:
            process.report = report

    def _ends(self, process: Process, action: Optional[Action]) -> None:
        world = self.world
        self._live.remove(process)
        if isinstance(action, Done):
            world.tell(process.name, "ends")
            has_error = any(error for _, _, error in process.told)
            self._well += not has_error
            self._is_over = self._is_over or (has_error and not process.is_disturbed)
        elif isinstance(action, Fail):
            said = f"{type(action.error).__name__}: {action.error}"[:150]
            world.tell(process.name, "fails", said)
            self._is_over = self._is_over or not process.is_disturbed
        self._truth.ended(process, action)

    # Several processes

    def _switches(self, process: Process, what: str) -> Options:
        """Return which other process may go first, or begin.

        None of this takes time: a process that is ready goes on before time passes. Only a stall
        does, so there is none before the request of a start.
        """
        scenario, live = self.scenario, self._live
        found: List[Option] = []
        if len(live) < scenario.processes and not scenario.is_locked:

            def begins(world: World, process: Process, action: Action) -> Report:
                self._begin()
                return AGAIN

            def stops(world: World, process: Process, action: Action) -> Report:
                STOPS.does(world, process, action)
                return begins(world, process, action)

            begun = "another process makes the same call"
            found.append(Option(begun, begins))
            if not what.startswith("POST"):
                found.append(Option(f"{STOPS.said}, and {begun}", stops))
        for other in live:
            if other is not process:
                goes = partial(self._goes_first, other)
                found.append(Option(f"{other.name} goes on first", goes))
        return tuple(found)

    def _goes_first(self, first: Process, world: World, process: Process, action: Action) -> Report:
        self._live.remove(first)
        self._live.insert(0, first)
        return AGAIN

    def _state(self, *, is_beginning: bool = False) -> bytes:
        """Return a digest of all that the rest of the path depends on."""
        world, names = self.world, [it.name for it in self._live]
        return fingerprint(
            world.now,
            world.serial,
            is_beginning,
            world.known(names),
            min(self._calls, 2) if self.scenario.most_calls is None else self._calls,
            self._well,
            self._is_over,
            [
                (
                    it.machine,
                    _pending(it.action),
                    it.report,
                    max(it.ready_at, world.now),
                    it.has_other_key,
                    it.clock,
                    it.told,
                    it.is_disturbed,
                    world.announced_at.get(it.name),
                    it.name == "A",
                )
                for it in self._live
            ],
        )


def _pending(action: Action) -> Any:
    """Return what an action is about. What it is for, its machine knows."""
    if isinstance(action, Send):
        request = action.request
        return (request.method, request.url, request.body, action.timeout, action.attempt)
    if isinstance(action, Emit):
        return [getattr(it, "execution_id", None) for it in action.items]
    if isinstance(action, Save):
        return action.states
    if isinstance(action, Load):
        return (action.keys, action.outcomes, action.execution_ids)
    return getattr(action, "seconds", None)


def machine_of(scenario: Scenario, *, is_first: bool) -> Machine[Any]:
    """Return the machine of a call. `is_first`: its rows are not the changed ones."""
    # All calls have the same token: the server does not look at idempotency keys.
    return machine_for(_operation(scenario, is_first), _context(), "token")


def _context() -> Context:
    context = Context(_PROTOTYPE.options)
    # The patterns of the secrets are the same for all. To make them takes longer than a call.
    vars(context)["scrubber"] = _PROTOTYPE.scrubber
    return context


@lru_cache(None)
def _operation(scenario: Scenario, is_first: bool) -> Any:
    rows = scenario.rows if is_first else scenario.changed or scenario.rows
    settle_after = scenario.settles[0 if is_first else 1]
    settings = dict(scenario.settings)
    if scenario.kind != "batch":
        kept = Checkpoint(dict, lambda state: None, settle_after=settle_after, **settings)
        if scenario.kind == "run":
            return Workflows.run("wf_1", rows[0], checkpoint=kept, timeout=scenario.timeout)
        return Workflows.execute("wf_1", inputs=rows[0], checkpoint=kept)
    if is_first:
        settings.pop("redo", None)
    journal: Any = "runs.sqlite3" if scenario.is_locked else _Kept()
    common = {"timeout": scenario.timeout, "settle_after": settle_after, **settings}
    return Workflows.run_many("wf_1", list(rows), journal=journal, **common)


class _Kept:
    """A store in name only: the world keeps the states."""

    def load(self, keys: Any, outcomes: bool) -> Any:
        raise NotImplementedError

    def save(self, states: Any) -> None:
        raise NotImplementedError

    def known(self, execution_ids: Any) -> Any:
        raise NotImplementedError


def runner(scenario: Scenario, kind: Type[World] = World) -> Callable[[Choices], World]:
    """Return the run of a scenario, for `explore`."""
    return lambda choices: Path(scenario, choices, kind).run()

"""The scenarios of the explorer: what the caller does, and what must hold at the end of a path."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Tuple, Type

from flowmaestro.testing.search import Choices
from flowmaestro_core.actions import Done, Fail
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.errors import StartUnknownError
from flowmaestro_core.executions.outcome import still_runs
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.explore.world import BEGIN, SETTLE_AFTER, Execution, World
from tests.harness.core.stepping import a_context

Rows = Tuple[Dict[str, Any], ...]


@dataclass(frozen=True)
class Scenario:
    """What the caller does, and how the world is before anything goes wrong.

    Attributes:
        name: by which it is chosen.
        rows: the rows of a batch, or the inputs of one run with a checkpoint.
        has_checkpoint: whether it is a run with a checkpoint.
        settings: arguments of `run_many`, or of `Checkpoint`.
        calls: the most calls. The same call is made again after one that has died or failed.
        faults: the bound of the full run.
        is_new: the workflow has no execution yet.
        again: so many calls are made even if the ones before have ended well.
        processes: with 2, another process may make the same call at any moment but just before a
            request.
        has_other_keys: a call may have the API key of another workspace.
        broken: the assumptions of the docs that do not hold.

    """

    name: str
    rows: Rows = ({"n": 1},)
    has_checkpoint: bool = False
    settings: Tuple[Tuple[str, Any], ...] = ()
    calls: int = 5
    faults: int = 2
    is_new: bool = False
    again: int = 0
    processes: int = 1
    has_other_keys: bool = False
    broken: FrozenSet[str] = frozenset()

    def run(self, choices: Choices, faults: int, kind: Type[World] = World) -> World:
        """Run one path, and check its end. The world has the story."""
        world = kind(choices, self.broken, faults=faults)
        if not self.is_new:
            old = Execution("exec_old", '{"n": 0}', BEGIN - 500, BEGIN - 500, ours=False)
            world.executions.append(old)
        try:
            self._run(world)
        except Exception as error:
            error.story = world.lines  # type: ignore[attr-defined]
            raise
        return world

    def _run(self, world: World) -> None:
        world.compares = "the store compares" not in self.broken
        if self.processes > 1:
            world.overtake = lambda: self._call(world) and None
        for number in range(self.calls):
            if self.has_other_keys and number < self.calls - 1:
                keys = ("its key", "the key of another workspace")
                world.has_other_key = bool(world.choices.choose(len(keys), "the key of the call"))
            is_over = self._call(world)
            world.has_other_key = False
            if is_over and number >= self.again:
                break
        world.pass_time(1000.0)
        self._check_once(world)

    def _call(self, world: World) -> bool:
        """Make a call. Return whether it has ended well."""
        number = world.calls
        ended, items = world.call("ABCDEFGHI"[number], self._machine(number))
        if ended is not None:
            self._check_said(world, ended, items)
        self._check_once(world)
        if not self.broken:  # Else the story is to show a second start, not what comes before it.
            self._check_known(world, ended, items)
        return isinstance(ended, Done) and not any(it.error for it in items)

    def _machine(self, number: int) -> Any:
        context = a_context()
        if self.has_checkpoint:
            kept: Any = Checkpoint(
                lambda: None, lambda state: None, settle_after=SETTLE_AFTER, **dict(self.settings)
            )
            operation: Any = Workflows.execute("wf_1", inputs=self.rows[0], checkpoint=kept)
        else:
            operation = Workflows.run_many(
                "wf_1",
                list(self.rows),
                journal=_Kept(),
                settle_after=SETTLE_AFTER,
                **dict(self.settings),
            )
        return machine_for(operation, context, f"token{number}")

    def _check_once(self, world: World) -> None:
        """At most one execution a row: rows with equal inputs are one another's equals."""
        world.check()
        wanted = Counter(json.dumps(row) for row in self.rows)
        for inputs, times in Counter(it.inputs for it in self._current(world)).items():
            assert times <= wanted[inputs], (
                f"{times} executions for {wanted[inputs]} row(s) {inputs}"
            )

    def _check_known(self, world: World, ended: Any, items: List[Any]) -> None:
        """Nothing is lost: each execution that a call has started can be found again.

        Its id is in an outcome, in an error, or in the store; or the store says that a start may
        have been made.
        """
        held = [json.loads(it) for it in world.states.values()]
        if any(it.get("state") == "starting" for it in held):
            return
        told = {it.execution_id for it in items} | {it.get("execution_id") for it in held}
        told |= set(world.numbers)
        if isinstance(ended, Fail):
            told.add(ended.error.execution_id)
        elif isinstance(ended, Done) and self.has_checkpoint:
            told.add(ended.value["data"]["execution_id"])
        lost = [it.id for it in self._current(world) if it.id not in told]
        assert not lost, f"{lost[0]} was started, and nothing leads to it"

    def _current(self, world: World) -> List[Execution]:
        """Return our executions, but for those that `rerun` replaces."""
        rerun = dict(self.settings).get("rerun", ())
        return [it for it in world.executions if it.ours and it.status not in rerun]

    def _check_said(self, world: World, ended: Any, items: List[Any]) -> None:
        """Every row has an outcome, and no outcome is false."""
        started = {it.id for it in world.executions}
        outcomes = [it for it in items if not still_runs(it)] if not self.has_checkpoint else []
        if isinstance(ended, Done) and not self.has_checkpoint:
            assert sorted(it.index for it in outcomes) == list(range(len(self.rows))), (
                "a row has no outcome"
            )
        ids = [it.execution_id for it in outcomes if it.execution_id is not None]
        assert len(set(ids)) == len(ids), "two rows have the same execution"
        assert set(ids) <= started, "an outcome names an execution that does not exist"
        if self.has_checkpoint and not isinstance(ended, Done):
            error = ended.error
            is_silent = error.execution_id is None and not isinstance(error, StartUnknownError)
            ours = self._current(world)
            held = json.loads(next(iter(world.states.values()), "{}"))
            assert not (is_silent and ours) or held.get("state") in ("starting", "started"), (
                f"{type(error).__name__} says that nothing was started, and something was"
            )


class _Kept:
    """A store in name only: the world keeps the states."""

    def load(self, keys: Any, outcomes: bool) -> Any:
        raise NotImplementedError

    def save(self, states: Any) -> None:
        raise NotImplementedError

    def known(self, execution_ids: Any) -> Any:
        raise NotImplementedError


EQUAL: Rows = ({"n": 1}, {"n": 1})
START: Tuple[Tuple[str, Any], ...] = (("on_unknown", "start"),)
RERUN: Tuple[Tuple[str, Any], ...] = (("rerun", ("failed",)),)
KEPT = (
    Scenario("batch-1row", faults=3),
    Scenario("batch-1row-new", faults=3, is_new=True),
    Scenario("batch-2rows", EQUAL),
    Scenario(
        "batch-3rows-ordered",
        ({"n": 1}, {"n": 2}, {"n": 1}),
        settings=(("ordered", True), ("concurrency", 2)),
    ),
    Scenario("checkpoint", has_checkpoint=True, faults=3),
    Scenario("checkpoint-new", has_checkpoint=True, faults=3, is_new=True),
    Scenario("batch-rerun", settings=RERUN, again=1),
    Scenario("checkpoint-rerun", has_checkpoint=True, settings=RERUN, again=1),
    Scenario("batch-other-key", has_other_keys=True),
    Scenario("batch-new-other-key", has_other_keys=True, is_new=True),
    Scenario("checkpoint-other-key", has_checkpoint=True, has_other_keys=True),
    Scenario("checkpoint-new-other-key", has_checkpoint=True, has_other_keys=True, is_new=True),
    Scenario("batch-2processes", processes=2),
    Scenario("checkpoint-2processes", has_checkpoint=True, processes=2),
)
"""All assumptions of the docs are kept: no row is started twice."""


def _broken(name: str, what: str, **more: Any) -> Scenario:
    return Scenario(name, broken=frozenset((what,)), **more)


BROKEN = (
    *(
        _broken(f"{kind}-{name}", what, has_checkpoint=kind == "checkpoint", is_new=is_new)
        for kind in ("batch", "checkpoint")
        for name, what, is_new in (
            ("lost-save", "no save is lost", False),
            ("late-list", "the list is not late", False),
            ("stall", "no stall before a request", False),
            ("empty-list", "the list is not empty", True),
            ("equal-500", "an equal 500 starts nothing", False),
        )
    ),
    _broken("batch-no-compare", "the store compares", processes=2),
    _broken("checkpoint-no-compare", "the store compares", processes=2, has_checkpoint=True),
    _broken("batch-start-unknown", "on_unknown is error", settings=START),
    _broken("checkpoint-start-unknown", "on_unknown is error", settings=START, has_checkpoint=True),
)
"""Exactly one assumption is broken: a row is started twice."""
SCENARIOS: Dict[str, Scenario] = {it.name: it for it in (*KEPT, *BROKEN)}


def runner(scenario: Scenario, faults: int) -> Callable[[Choices], Any]:
    """Return the run of a scenario, for `explore`."""

    def run(choices: Choices) -> None:
        scenario.run(choices, faults)

    return run

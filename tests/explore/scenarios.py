"""The scenarios of the explorer: what the caller does, and what must hold at the end of a path."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Tuple, Type

from flowmaestro.testing.search import Choices
from flowmaestro_core.actions import Done
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
        broken: the assumptions of the docs that do not hold.

    """

    name: str
    rows: Rows = ({"n": 1},)
    has_checkpoint: bool = False
    settings: Tuple[Tuple[str, Any], ...] = ()
    calls: int = 5
    faults: int = 2
    is_new: bool = False
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
        ended, items = None, []
        for number in range(self.calls):
            ended, items = world.call("ABCDEFGH"[number], self._machine(number))
            if ended is not None:
                self._check_said(world, ended, items)
            self._check_once(world)
            if isinstance(ended, Done) and not any(it.error for it in items):
                break
        world.pass_time(1000.0)
        self._check_once(world)

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
        for inputs, times in Counter(it.inputs for it in world.executions if it.ours).items():
            assert times <= wanted[inputs], (
                f"{times} executions for {wanted[inputs]} row(s) {inputs}"
            )

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
            ours = [it for it in world.executions if it.ours]
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
)
"""All assumptions of the docs are kept: no row is started twice."""


def _broken(name: str, what: str, **more: Any) -> Scenario:
    return Scenario(name, broken=frozenset((what,)), **more)


BROKEN = tuple(
    _broken(f"{kind}-{name}", what, has_checkpoint=kind == "checkpoint", is_new=is_new)
    for kind in ("batch", "checkpoint")
    for name, what, is_new in (
        ("lost-save", "no save is lost", False),
        ("late-list", "the list is not late", False),
        ("stall", "no stall before a request", False),
        ("empty-list", "the list is not empty", True),
        ("equal-500", "an equal 500 starts nothing", False),
    )
)
"""Exactly one assumption is broken: a row is started twice."""
SCENARIOS: Dict[str, Scenario] = {it.name: it for it in (*KEPT, *BROKEN)}


def runner(scenario: Scenario, faults: int) -> Callable[[Choices], Any]:
    """Return the run of a scenario, for `explore`."""

    def run(choices: Choices) -> None:
        scenario.run(choices, faults)

    return run

"""What must hold, whatever happens: the promises of the docs, compared with the truth."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, List, Optional

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.errors import StartUnknownError
from flowmaestro_core.executions.outcome import EndedExecution
from tests.explore.options import Process
from tests.explore.scenario import Scenario
from tests.explore.world import Execution, World


class Truth:
    """Judges the end of each call, and each execution that a request of ours starts."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._wanted: Counter[str] = Counter()
        """How many executions there may be, by inputs."""
        for rows in (scenario.rows, scenario.changed or ()):
            for inputs, times in Counter(map(json.dumps, rows)).items():
                self._wanted[inputs] = max(self._wanted[inputs], times)
        may_change = scenario.changed is None or "redo" in dict(scenario.settings)
        most = max(len(scenario.rows), len(scenario.changed or ()))
        self._most = sum(self._wanted.values()) if may_change else most
        self._is_kept = not scenario.broken  # Else the story is to show a second start alone.
        world.arrived = self.once

    def current(self) -> List[Execution]:
        """Return our executions, but for those that `rerun` replaces."""
        rerun = self._scenario.rerun
        ours = [it for it in self._world.executions if it.by]
        return [it for it in ours if not (it.has_ended and it.status in rerun)]

    def once(self, made: Execution) -> None:
        """Raise if there are more executions now than rows. Equal rows are one another's equals."""
        current = self.current()
        times = sum(it.inputs == made.inputs for it in current)
        wanted = self._wanted[made.inputs]
        assert times <= wanted, f"{times} executions for {wanted} row(s) {made.inputs}"
        assert len(current) <= self._most, f"{len(current)} executions for {self._most} row(s)"
        # A call replaces executions of earlier calls alone, whatever has become of its own.
        of_call = [it for it in self._world.executions if it.by == made.by]
        times = sum(it.inputs == made.inputs for it in of_call)
        assert times <= wanted, f"{made.by} starts {times} executions for {wanted} row(s)"

    def ended(self, process: Process, action: Optional[Action]) -> None:
        """Judge what a call has said. `action` is its last one; `None` if the process died."""
        self._world.check()
        if action is not None:
            self._check_said(process, action)
        if self._is_kept and not self._scenario.others:
            self._check_known(process, action)

    def _check_known(self, process: Process, action: Optional[Action]) -> None:
        """Nothing is lost: each execution that a call has started can be found again.

        Its id is in an outcome, in an error, or in the store; or the store says that a start may
        have been made.
        """
        held = self._world.states.values()
        if any(it.get("state") == "starting" for it in held):
            return
        told = {it for _, it, _ in process.told} | {it.get("execution_id") for it in held}
        told |= set(self._world.numbers)
        if isinstance(action, Fail):
            told.add(action.error.execution_id)
        elif isinstance(action, Done) and self._scenario.kind != "batch":
            told.add(_id_of(action))
        lost = [it.id for it in self.current() if it.id not in told]
        assert not lost, f"{lost[0]} was started, and nothing leads to it"

    def _check_said(self, process: Process, action: Action) -> None:
        """Every row has an outcome, and no outcome is false."""
        if self._scenario.kind != "batch":
            self._check_run(process, action)
            return
        told = process.told
        if isinstance(action, Done):
            rows = self._rows_of(process)
            assert sorted(it for it, _, _ in told) == list(range(len(rows))), "a row has no outcome"
            if self._is_kept and not self._scenario.others:
                self._check_denied(process, rows)
        ids = [it for _, it, _ in told if it is not None]
        assert len(set(ids)) == len(ids), "two rows have the same execution"
        for it in ids:
            self._check_ours(it)

    def _check_denied(self, process: Process, rows: Any) -> None:
        """A row whose error leaves no doubt was not started: by no process that began before."""
        doubts = StartUnknownError.__name__
        admitted = Counter(
            json.dumps(rows[index])
            for index, id, error in process.told
            if id is not None or error == doubts
        )
        for inputs in {json.dumps(it) for it in rows}:
            started = [it.id for it in self._before(process) if it.inputs == inputs]
            assert len(started) <= admitted[inputs], (
                f"{started[0]} was started, and an outcome denies it"
            )

    def _before(self, process: Process) -> List[Execution]:
        """Return what this process has started, and those that began before.

        A process that was overtaken cannot know what the other one does, until it saves.
        """
        return [it for it in self.current() if it.by <= process.name]

    def _check_run(self, process: Process, action: Action) -> None:
        if isinstance(action, Done):
            self._check_ours(_id_of(action))
            return
        assert isinstance(action, Fail), action
        error = action.error
        if error.execution_id is not None or isinstance(error, StartUnknownError):
            return
        state = next(iter(self._world.states.values()), {}).get("state")
        current = self._before(process)
        is_false = current and state not in ("starting", "started")
        is_false = is_false or any(it.by == process.name for it in current)
        assert not is_false, (
            f"{type(error).__name__} says that nothing was started, and something was"
        )

    def _check_ours(self, id: str) -> None:
        made = [it for it in self._world.executions if it.id == id]
        assert made, f"an outcome names {id}, which does not exist"
        assert made[0].by or self._scenario.others, f"an outcome names {id}, which is not ours"

    def _rows_of(self, process: Process) -> Any:
        first = process.name == "A"
        return self._scenario.rows if first else self._scenario.changed or self._scenario.rows


def _id_of(action: Done) -> str:
    """Return the id of the execution that a call with a checkpoint has returned."""
    value = action.value
    found: str = value.id if isinstance(value, EndedExecution) else value["data"]["execution_id"]
    return found

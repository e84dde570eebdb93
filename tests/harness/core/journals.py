"""A journal in memory, that outlives the machines that write to it."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type

from flowmaestro_core.actions import Action, Load, Save
from flowmaestro_core.errors import CheckpointConflict, JournalError
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.store import HEADER_KEY, Loaded
from tests.harness.core.batch_steps import BatchStepper
from tests.harness.core.stepping import Possibilities, Report, Stepper, a_context


class MemoryStore:
    """Keeps states as JSON, as a store of a user does. `numbers` has those of known executions."""

    def __init__(self) -> None:
        self.states: Dict[str, str] = {}
        self.numbers: Dict[str, int] = {}

    def load(self, keys: Sequence[str], outcomes: bool) -> List[Dict[str, Any]]:
        states = [json.loads(self.states[key]) for key in keys if key in self.states]
        if not outcomes:
            for state in states:
                state.pop("outcome", None)
        return states

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        header = json.loads(self.states.get(HEADER_KEY, '{"serial": 0}'))
        if states[0]["serial"] != header["serial"] + 1:
            raise CheckpointConflict
        for state in states:
            self.keep(state)

    def keep(self, state: Dict[str, Any]) -> None:
        self.states[state["key"]] = json.dumps(state)
        if state.get("execution_id"):
            self.numbers[state["execution_id"]] = state["number"]

    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        return {it: self.numbers[it] for it in execution_ids if it in self.numbers}


class MemoryJournal(MemoryStore):
    """A store, and what a driver does with it. It outlives the machines that save to it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock

    @property
    def header(self) -> Dict[str, Any]:
        header: Dict[str, Any] = json.loads(self.states[HEADER_KEY])
        return header

    @property
    def rows(self) -> Dict[str, Dict[str, Any]]:
        """The states of rows, by their keys."""
        rows = {key: json.loads(state) for key, state in self.states.items()}
        rows.pop(HEADER_KEY, None)
        return rows

    def loaded(self, action: Load) -> Loaded:
        states = tuple(self.load(action.keys, action.outcomes))
        return Loaded(states, self.known(action.execution_ids), self._clock())

    def carry_out(self, stepper: Stepper) -> Action:
        """Do what the `Load` or `Save` of a machine asks, and report it."""
        action = stepper.action
        if isinstance(action, Load):
            return stepper.loads(self.loaded(action))
        assert isinstance(action, Save)
        try:
            self.save(action.states)
        except CheckpointConflict as conflict:
            return stepper.fails_to_keep(conflict)
        return stepper.saves()


class Journaled:
    """The possibilities of a world in which batches keep a journal, and sometimes die."""

    durations = Possibilities(()).durations

    def __init__(self, responses: Any) -> None:
        self._world = Possibilities(responses)
        self._journal: MemoryJournal
        self._left = self._calls = 0
        self.foreign: Tuple[Type[Exception], ...] = ()

    def journaling(self, rows: List[Any], **more: Any) -> Stepper:
        """A batch; two of three go on where the one before was left."""
        arguments: Any = {"journal": "unused", "timeout": 20.0, "concurrency": 2, **more}
        batch = Workflows.run_many("w", rows, **arguments)
        stepper = BatchStepper(machine_for(batch, a_context(), "token"))
        stepper.foreign = self.foreign
        if self._left % 3 == 0:
            self._journal = MemoryJournal(lambda: stepper.now)
        self._journal._clock = lambda: stepper.now
        self._left += 1
        return stepper

    def after(self, action: Optional[Action]) -> List[Report]:
        if not isinstance(action, (Load, Save)):
            return self._world.after(action)
        self._calls += 1
        if self._calls % 37 == 0:
            conflicts = isinstance(action, Save)
            return [
                Report("store_failed", (CheckpointConflict() if conflicts else JournalError(),))
            ]
        if isinstance(action, Load):
            garbage = Loaded((None,), {"nobody's": 1})
            loaded = garbage if self._calls % 41 == 0 else self._journal.loaded(action)
            return [Report("loaded", (loaded,))]
        self._journal.save(action.states)
        return [Report("saved")]

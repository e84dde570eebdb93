"""A small, true world for starts: a server, a store and a clock.

The world knows which request has started which execution, so it can say at the end what is true.
`processes.py` runs the real machines in it; `options.py` says what may happen to them.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from flowmaestro_core.errors import CheckpointConflict
from flowmaestro_core.store import HEADER_KEY
from tests.explore.scenario import OTHER, SETTLE_AFTER, Scenario

TOO_LATE = SETTLE_AFTER + 10
"""Longer than another process waits before it looks."""
BEGIN = 1_000_000.0
ENGINE = "engine"
"""The name of a task engine, which makes the first announcement of a task itself."""


class WrongWorld(AssertionError):
    """The world itself is wrong, so that it proves nothing."""


class Execution:
    """An execution, and the truth about it."""

    __slots__ = ("by", "created_at", "has_ended", "has_id", "id", "inputs", "listed_at", "status")

    def __init__(
        self, id: str, inputs: str, created_at: float, listed_at: float, by: str, status: str
    ) -> None:
        """`by` is the process whose request has started it; empty for somebody else's."""
        self.id = id
        self.inputs = inputs
        self.created_at = created_at
        self.listed_at = listed_at
        self.by = by
        self.status = status
        self.has_id = True
        """Whether the list shows its id."""
        self.has_ended = False
        """Whether its end was seen, so that it cannot end otherwise any more."""

    def shown(self) -> Dict[str, Any]:
        """Return it as the server shows it."""
        made = datetime.fromtimestamp(self.created_at, timezone.utc).isoformat()
        has_ended = self.status != "running"
        return {
            "id": self.id if self.has_id else 17,
            "workflow_id": "wf_1",
            "status": self.status,
            "inputs": json.loads(self.inputs),
            "created_at": made,
            "completed_at": made if has_ended else None,
            "outputs": {} if has_ended else None,
            "error": None,
        }


class Late(NamedTuple):
    """A request of a start that is under way: when it arrives, and whose it is."""

    at: float
    inputs: str
    by: str


class World:
    """The server, the store and the clock of one path.

    Attributes:
        now: the time, on the clock of the server.
        executions: in the order of their creation.
        under_way: the requests that arrive later.
        failing: the idempotency keys of starts on which the server has failed before it started
            anything. It fails on them in the same way each time.
        states: what the store holds, by key.
        numbers: those of the starts that the store knows, by execution id.
        announced_at: when each process has saved `starting` last.
        steps: who did what, and what came of it.

    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = BEGIN
        self.executions: List[Execution] = []
        self.under_way: List[Late] = []
        self.failing: Set[str] = set()
        self.states: Dict[str, Dict[str, Any]] = {}
        self.numbers: Dict[str, int] = {}
        self.announced_at: Dict[str, float] = {}
        self.steps: List[Tuple[str, str, str]] = []
        self.arrived: Callable[[Execution], None] = lambda made: None
        """Is called with each execution that a request of ours has started."""
        self._started: List[Execution] = []
        if not scenario.is_new:
            old = Execution("exec_old", scenario.old, BEGIN - 500, BEGIN - 500, "", "completed")
            old.has_id = not scenario.nameless_baseline
            self.executions.append(old)
        if scenario.by_engine:
            self.announce_by_engine()

    def tell(self, who: str, what: str, then: str = "") -> None:
        """Write a step down."""
        self.steps.append((who, what, then))

    # The server

    def accept(self, inputs: str, by: str, lag: float = 0.0) -> Execution:
        """Start an execution, which the list shows after `lag` seconds."""
        name = f"exec_{len(self.executions)}"
        status = self.scenario.statuses[0] if inputs != OTHER else "completed"
        # The server counts milliseconds, and no two requests of ours come in the same one.
        at = max([self.now, *(it.created_at + 0.001 for it in self.executions[-1:])])
        made = Execution(name, inputs, at, self.now + lag, by, status)
        self.executions.append(made)
        return made

    def arrives(self, inputs: str, by: str, lag: float = 0.0) -> Execution:
        """Start one execution for a request of ours. Raises `WrongWorld` if it is not one."""
        before = len(self.executions)
        made = self.accept(inputs, by, lag)
        self._started.append(made)
        if len(self.executions) != before + 1:
            raise WrongWorld(f"a request started {len(self.executions) - before} executions")
        self.arrived(made)
        return made

    def arrives_later(self, inputs: str, by: str, at: float) -> None:
        """Let a request arrive at a time to come."""
        self.under_way.append(Late(at, inputs, by))
        self.under_way.sort()

    def crowd(self, count: int = 100, *, has_id: bool = True) -> None:
        """Let others start so many executions."""
        for _ in range(count):
            self.accept(OTHER, "").has_id = has_id

    def listed(self, lag: float = 0.0) -> List[Execution]:
        """Return what the list shows, or has shown `lag` seconds ago, the newest first."""
        at = self.now - lag
        return [it for it in reversed(self.executions) if it.listed_at <= at]

    def check(self) -> None:
        """Raise `WrongWorld` if the server has lost an execution."""
        lost = [it.id for it in self._started if it not in self.executions]
        if lost:
            raise WrongWorld(f"the server has lost {lost[0]}")

    def pass_time(self, until: float) -> None:
        """Let time pass. Requests that are under way arrive."""
        while self.under_way and self.under_way[0].at <= until:
            at, inputs, by = self.under_way.pop(0)
            self.now = max(at, self.now)
            if by == ENGINE:
                self.tell(by, "announces another attempt, and sends it")
                self.announce_by_engine()
                self.arrives(inputs, by, self.scenario.late)
            else:
                self.tell("server", f"the late request of {by} arrives", "starts an execution")
                self.arrives(inputs, by)
        self.now = max(until, self.now)

    # The store

    @property
    def serial(self) -> int:
        """The serial number of the state that the store holds; 0 if there is none."""
        number: int = self.states.get(HEADER_KEY, {}).get("serial", 0)
        return number

    def keep(self, states: Sequence[Dict[str, Any]], by: str) -> Optional[CheckpointConflict]:
        """Save all states or none. Return the conflict, if the store compares and finds one."""
        if self.scenario.compares and states[0]["serial"] != self.serial + 1:
            return CheckpointConflict("saved meanwhile")
        for state in states:
            self.put(state)
            if state.get("state") == "starting":
                self.announced_at[by] = self.now
        return None

    def put(self, state: Dict[str, Any]) -> None:
        """Save one state."""
        self.states[state.get("key", HEADER_KEY)] = state
        if state.get("execution_id") and "number" in state:
            self.numbers[state["execution_id"]] = state["number"]

    def announce_by_engine(self) -> None:
        """Save the state that a task engine makes before it begins a task."""
        self.states[HEADER_KEY] = {"v": 1, "state": "starting", "at": self.now}

    # Its state

    def known(self, live: Sequence[str]) -> Tuple[Any, ...]:
        """Return all that its future depends on, for a fingerprint.

        Of the processes, only those that are `live` can still say something.
        """
        made: List[Any] = []
        for it in self.executions:
            if it.inputs != OTHER or not it.has_id:
                by = live.index(it.by) if it.by in live else it.by == ""
                listed_at = max(it.listed_at, self.now - self.scenario.late)
                made.append((it.id, it.inputs, it.created_at, listed_at, by, it.status))
                made.append((it.has_ended, it.has_id))
            elif made and made[-1][0] == OTHER and made[-1][1] == it.created_at:
                made[-1] = (OTHER, it.created_at, made[-1][2] + 1)
            else:
                made.append((OTHER, it.created_at, 1))
        return made, self.under_way, self.failing, self.states, self.numbers

"""A start with a checkpoint, through crashes at every action and two processes at once.

The promise: one unit of work is started once, if the store compares, an accepted start is listed
within half of `settle_after`, and no process stalls for longer just before its request.
`test_a_process_that_stalls_just_before_its_request_starts_twice` shows what happens if a process
stalls.
"""

from __future__ import annotations

from typing import Any, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmaestro_core.actions import Done, Fail, Load, Save, Send, Wait
from flowmaestro_core.errors import CheckpointError
from flowmaestro_core.http.messages import Phase
from tests.harness.core.durable import INPUTS, SETTLE_AFTER, World
from tests.harness.core.stepping import Stepper, an_error

HALF = SETTLE_AFTER / 2 - 1
PLACES = st.integers(0, 1)
LISTED_AFTER = st.sampled_from([0.0, 1.0, HALF])


class CrashingStarts(RuleBasedStateMachine):
    """Two processes share a clock, a store and a server. One rule for each thing that can happen.

    What a process does takes no time but its waits; time passes by a rule of its own. A process
    that is about to send is not held up for longer than its request may take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.processes: Any = [None, None]
        self.ready_at = [0.0, 0.0]
        """When each process has done with its wait, or its request has failed at the latest."""
        self.by_wish = False
        """Whether a second start was wished for, with `on_unknown="start"`."""
        self.is_certain = True
        """Whether each lookup so far could tell what was started."""

    def at(self, place: int) -> Stepper:
        process = self.processes[place]
        assert isinstance(process, Stepper)
        return process

    def action(self, place: int) -> Any:
        process: Optional[Stepper] = self.processes[place]
        return None if process is None else process.action

    def acts(self, place: int) -> None:
        """Note until when the next action of a process must be over."""
        action = self.action(place)
        seconds = getattr(action, "timeout", None) or getattr(action, "seconds", 0.0)
        self.ready_at[place] = self.world.now + (seconds if isinstance(action, (Send, Wait)) else 0)
        if isinstance(action, (Done, Fail)):
            self.ends(place)

    def ends(self, place: int) -> None:
        action = self.action(place)
        if isinstance(action, Done):
            state = self.world.store.state
            assert state["state"] == "started"
            assert action.value["data"]["execution_id"] == state["execution_id"]
        elif isinstance(action.error, CheckpointError):
            assert action.error.code == "checkpoint_conflict"
        self.processes[place] = None

    def sends(self, place: int, method: str) -> bool:
        action = self.action(place)
        return isinstance(action, Send) and action.request.method == method

    @property
    def patience(self) -> float:
        """How long nobody has to do anything."""
        now = self.world.now
        waits = [self.ready_at[place] - now for place in (0, 1) if self.processes[place]]
        return max(min(waits, default=100.0), 0.0)

    @rule(place=PLACES, on_unknown=st.sampled_from(["error", "error", "error", "start"]))
    def it_is_called(self, place: int, on_unknown: str = "error") -> None:
        if self.processes[place] is None:
            self.by_wish = self.by_wish or (on_unknown == "start" and not self.is_certain)
            self.processes[place] = self.world.process(on_unknown=on_unknown)
            self.acts(place)

    @rule(place=PLACES, listed_after=LISTED_AFTER, steps=st.integers(1, 6))
    def it_goes_on(self, place: int, listed_after: float, steps: int) -> None:
        """Without any fault. A wait ends if no other process has to do something before."""
        if self.processes[place] is None:
            self.it_is_called(place)
        for _ in range(steps):
            action = self.action(place)
            if action is None:
                return
            if isinstance(action, Wait):
                self.time_passes(action.seconds)
                if self.world.now < self.ready_at[place]:
                    return
                process = self.at(place)
                process.now = self.world.now
                process.waits(after=0.0)
                self.acts(place)
            else:
                more = {"listed_after": listed_after} if self.sends(place, "POST") else {}
                self.world.step(self.at(place), **more)
                self.acts(place)

    @rule(seconds=st.sampled_from([0.5, 10.0, HALF, SETTLE_AFTER]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += min(seconds, self.patience)

    @rule(place=PLACES, when=st.sampled_from(["before", "after", "lost"]))
    def it_dies(self, place: int, when: str) -> None:
        """It dies before its next action, or after that: what it saved or sent counts.

        `lost`: after a save that is lost, of an id or of a refusal, but not of an announcement.
        """
        action = self.action(place)
        if isinstance(action, (Load, Save, Send)) and when == "after":
            self.it_goes_on(place, 0.0, 1)
        elif when == "lost" and isinstance(action, Save):
            self.world.step(self.at(place), lose=action.states[0]["state"] != "starting")
        self.processes[place] = None

    @rule(
        place=PLACES,
        how=st.sampled_from(["lost", "lost late", "not sent", "402", "429", "503", "500", "404"]),
        listed_after=LISTED_AFTER,
    )
    def a_request_fails(self, place: int, how: str, listed_after: float) -> None:
        if not isinstance(self.action(place), Send):
            return
        process = self.at(place)
        process.now = self.world.now
        if self.sends(place, "GET") and process.machine.state != "reading baseline":
            self.is_certain = False
            self.by_wish = self.by_wish or process.machine._checkpoint.on_unknown == "start"
        elif how in ("lost late", "500") and self.sends(place, "POST"):
            self.world.server.accept(self.action(place).request, self.world.now, listed_after)
        if how.startswith("lost"):
            process.fails(Phase.MAYBE_PROCESSED)
        elif how == "not sent":
            process.fails(Phase.NOT_SENT)
        else:
            headers = {"Retry-After": "40"} if how in ("429", "503") else {}
            process.replies(int(how), an_error("refused"), headers)
        self.acts(place)

    @precondition(lambda self: self.is_certain)
    @rule()
    def the_baseline_is_deleted(self) -> None:
        self.world.server.remove("ex_0")
        self.is_certain = False
        for process in filter(None, self.processes):
            self.by_wish = self.by_wish or process.machine._checkpoint.on_unknown == "start"

    @rule()
    def somebody_starts_something_else(self) -> None:
        if len(self.world.server.executions) < 30:
            self.world.server.add({"task": 8}, self.world.now)

    @invariant()
    def it_is_started_once(self) -> None:
        assert self.world.server.started <= 1 or self.by_wish

    def teardown(self) -> None:
        """With a server that is well, another call finds or starts the execution."""
        self.processes = [None, None]
        self.world.now += SETTLE_AFTER
        process = self.world.finish(self.world.process())
        if self.is_certain and not self.by_wish:
            assert isinstance(process.action, Done), process.action
            assert self.world.server.started == 1
            ids = [it.id for it in self.world.server.executions if it.inputs == INPUTS]
            assert process.value["data"]["execution_id"] == ids[0]


TestCrashingStarts = pytest.mark.no_cover(CrashingStarts.TestCase)
TestCrashingStarts.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, print_blob=True
)

"""A world for starts with a checkpoint: a store, a server that may be slow, and processes."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple

from flowmaestro_core.actions import Action, Done, Fail, Load, Save, Send, Wait
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.errors import CheckpointConflict, CheckpointError
from flowmaestro_core.http.dates import http_date
from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.store import Loaded
from tests.harness.core.stepping import Possibilities, Report, Stepper, a_context, an_envelope

SETTLE_AFTER = 60.0
INPUTS = {"task": 7}


class Store:
    """Keeps one state, and refuses a state that does not follow it."""

    def __init__(self) -> None:
        self.state: Any = None
        self.saves: List[Dict[str, Any]] = []

    def save(self, state: Dict[str, Any], *, lose: bool = False) -> None:
        """Keep a state. With `lose`, nothing is kept."""
        held = self.state["serial"] if self.state and "serial" in self.state else 0
        if state["serial"] != held + 1:
            raise CheckpointConflict
        if not lose:
            self.state = json.loads(json.dumps(state))
            self.saves.append(self.state)


class Execution:
    def __init__(
        self, id: str, inputs: Any, created_at: float, listed_at: float, *, ours: bool = True
    ) -> None:
        self.id = id
        self.ours = ours
        self.inputs = inputs
        self.created_at = created_at
        self.listed_at = listed_at
        self.status = "running"

    def shown(self) -> Dict[str, Any]:
        created_at = datetime.fromtimestamp(self.created_at, timezone.utc).isoformat()
        shown = {"id": self.id, "status": self.status, "inputs": self.inputs}
        return {**shown, "created_at": created_at, "outputs": None, "error": None}


class Server:
    """Accepts starts, and lists each some time later."""

    def __init__(self) -> None:
        self.executions = [Execution("ex_0", {"task": 0}, 0.0, 0.0)]
        self._numbers = itertools.count(1)
        self.keys: List[Optional[str]] = []
        """The idempotency keys of the starts."""

    @property
    def started(self) -> int:
        """The number of executions with our inputs."""
        return sum(it.inputs == INPUTS for it in self.executions)

    def accept(self, request: Request, now: float, listed_after: float = 0.0) -> Execution:
        self.keys.append(request.headers.get("idempotency-key"))
        return self.add(json.loads(request.body)["inputs"], now, listed_after)

    def add(self, inputs: Any, now: float, listed_after: float = 0.0) -> Execution:
        """Start an execution, by whatever process."""
        execution = Execution(f"ex_{next(self._numbers)}", inputs, now, now + listed_after)
        self.executions.append(execution)
        return execution

    def remove(self, id: str) -> None:
        self.executions = [it for it in self.executions if it.id != id]

    def answer(self, request: Request, now: float) -> Tuple[int, Any, Dict[str, str]]:
        """Return status, body and header fields of the response to a GET."""
        where, _, query = request.url.partition("?")
        headers = {"Date": http_date(now)}
        if not query:
            name = where.rpartition("/")[2]
            for it in self.executions:
                if it.id == name:
                    return 200, an_envelope(it.shown()), headers
            return 404, None, headers
        given = dict(part.split("=") for part in query.split("&"))
        size, number = int(given["per_page"]), int(given["page"])
        listed = [it for it in reversed(self.executions) if it.listed_at <= now]
        rows = [it.shown() for it in listed[(number - 1) * size : number * size]]
        more = {"has_next": number * size < len(listed)}
        return 200, an_envelope(rows, pagination=more), headers


class World:
    """One store, one server, one clock; each call of `execute` is a process of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store()
        self.server = Server()
        self._processes = itertools.count()

    def process(self, *, inputs: Any = INPUTS, run: bool = False, **settings: Any) -> Stepper:
        """Begin a call, whose first action is to load."""
        checkpoint = Checkpoint(lambda: None, lambda state: None, **settings)
        if run:
            operation: Any = Workflows.run("wf_1", inputs, timeout=300.0, checkpoint=checkpoint)
        else:
            operation = Workflows.execute("wf_1", inputs=inputs, checkpoint=checkpoint)
        stepper = Stepper(machine_for(operation, a_context(), f"token{next(self._processes)}"))
        stepper.now = self.now
        stepper.start()
        return stepper

    def step(self, process: Stepper, **more: Any) -> Action:
        """Carry out the next action of a process without any fault."""
        action = process.action
        process.now = self.now
        if isinstance(action, Load):
            return process.loads(Loaded((self.store.state,), wall_time=self.now))
        if isinstance(action, Save):
            try:
                self.store.save(*action.states, **more)
            except CheckpointConflict as conflict:
                return process.fails_to_keep(conflict)
            return process.saves()
        if isinstance(action, Wait):
            self.now += action.seconds
            process.now = self.now
            return process.waits(after=0.0)
        assert isinstance(action, Send), action
        if action.request.method == "POST":
            execution = self.server.accept(action.request, self.now, **more)
            return process.replies(202, an_envelope({"execution_id": execution.id}))
        status, body, headers = self.server.answer(action.request, self.now)
        return process.replies(status, body, headers)

    def until(self, process: Stepper, state: str) -> Stepper:
        """Go on until the machine is in a state, or has ended. A save is, say, "saving started"."""
        for _ in range(100):
            if state_of(process) == state or isinstance(process.action, (Done, Fail)):
                break
            self.step(process)
        assert state_of(process) == state, process.action
        return process

    def until_sends(self, process: Stepper, text: str) -> Stepper:
        """Go on until a request goes out whose method is `text`, or whose URL has it."""
        while not isinstance(process.action, Send) or text not in (
            f"{process.action.request.method} {process.action.request.url}"
        ):
            self.step(process)
        return process

    def finish(self, process: Stepper) -> Stepper:
        """Go on to the end, without any fault."""
        for _ in range(100):
            if isinstance(process.action, (Done, Fail)):
                return process
            self.step(process)
        raise AssertionError("it does not end")

    def lose_reply(self, process: Stepper, *, started: bool, listed_after: float = 0.0) -> Action:
        """The connection is lost after the request of a start went out."""
        assert isinstance(process.action, Send)
        if started:
            self.server.accept(process.action.request, self.now, listed_after)
        process.now = self.now
        return process.fails(Phase.MAYBE_PROCESSED)


def state_of(process: Stepper) -> str:
    """The state of the machine. While it saves, with that of the start."""
    machine: Any = process.machine
    state: str = machine.state
    return f"saving {machine._start.state.value}" if state == "saving" else state


def methods(process: Stepper) -> List[str]:
    return [request.method for request in process.sent]


class Checkpointed:
    """The possibilities of a world with a checkpoint, for random walks."""

    def __init__(
        self,
        responses: Any,
        states: Tuple[Any, ...],
        durations: Tuple[float, ...] = (0.0, 0.01, 1.0, 29.0, 31.0, 100.0),
    ) -> None:
        self._world = Possibilities(responses)
        self._states = states
        self._last: Tuple[Any, ...] = ()
        self._saves = self._loads = 0
        self.durations = durations

    def after(self, action: Optional[Action]) -> List[Report]:
        broken = Report("store_failed", (CheckpointError(),))
        if isinstance(action, Save):
            kept = Report("saved")
            lost = Report("store_failed", (CheckpointConflict(),))
            last = {**action.states[0], "at": 1000.0}
            self._last = (last, {**last, "state": "open"})
            self._saves += 1
            # Most saves succeed, so that walks come far.
            return [lost, broken] if self._saves % 4 == 0 else [kept]
        if isinstance(action, Load):
            loaded = [Loaded((it,), wall_time=1000.0) for it in (*self._states, *self._last)]
            self._loads += 1
            succeeded = [Report("loaded", (it,)) for it in loaded]
            return [broken] if self._loads % 16 == 0 else succeeded
        return self._world.after(action)

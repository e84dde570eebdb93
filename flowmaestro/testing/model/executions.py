"""Workflows, the triggers that start them, and their executions as they unfold in time.

An execution plays its workflow's plan (`plans.py`) on the timeline and tells one listener
everything that happens to it; what else is notified (open streams, webhooks) and in which words
is decided elsewhere.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, cast

from flowmaestro.testing.model.plans import Inputs, Node, Step, plan_of
from flowmaestro.testing.model.timeline import Timeline

Outputs = Callable[[Inputs], Dict[str, Any]]

PICKUP_SECONDS = 0.05
"""How long an execution is pending before a worker takes it."""
_STATUS_AFTER = {
    "execution:started": "running",
    "execution:paused": "paused",
    "execution:resumed": "running",
}
TERMINAL = frozenset({"completed", "failed", "cancelled"})
ENDINGS = frozenset(f"execution:{status}" for status in TERMINAL)


def greeting(inputs: Inputs) -> Dict[str, Any]:
    """What a workflow puts out unless it is told otherwise."""
    return {"message": f"Hello, {inputs.get('name', 'world')}!"}


@dataclass(frozen=True)
class InputField:
    """What a workflow says of one of its inputs."""

    type: str = "string"
    label: str = ""
    required: bool = False
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """A definition: `outputs` makes the result from the inputs; if it raises, the run fails.

    What happens in between is the `plan`, by default that of the `nodes`, which never leaves
    the node `hangs_at`.
    """

    id: str
    name: str
    created_at: float
    description: str = ""
    inputs: Mapping[str, InputField] = field(default_factory=dict[str, InputField])
    nodes: Sequence[Node] = ()
    outputs: Outputs = greeting
    hangs_at: Optional[str] = None
    plan: Optional[Sequence[Step]] = None

    version = 1

    def steps(self, inputs: Inputs) -> Sequence[Step]:
        """The plan of a run with these inputs; what a node's function raises is passed on."""
        if self.plan is not None:
            return self.plan
        return plan_of(self.nodes, deepcopy(inputs), hangs_at=self.hangs_at)

    @property
    def node_count(self) -> int:
        """How many nodes a run can come to."""
        return len(self.nodes) or len({step.node.id for step in self.plan or () if step.node})


@dataclass
class Trigger:
    """One way to start one workflow; a disabled trigger refuses to be fired."""

    id: str
    name: str
    type: str
    workflow: Workflow
    created_at: float
    enabled: bool = True
    times_fired: int = 0
    last_fired_at: Optional[float] = None


@dataclass
class Execution:
    """One run of a workflow; times are model times, `None` until they come."""

    id: str
    workflow: Workflow
    inputs: Inputs
    created_at: float
    trigger_id: Optional[str] = None
    status: str = "pending"
    outputs: Optional[Dict[str, Any]] = None
    error: Optional[str] = None
    current_node: Optional[Node] = None
    started_at: Optional[float] = None
    completed_at: Optional[float] = None

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in TERMINAL

    @property
    def duration(self) -> Optional[float]:
        """Seconds from start to end."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at


@dataclass(frozen=True)
class Happening:
    """Something that happened to an execution, under the name that the event stream gives it."""

    name: str
    execution: Execution
    at: float
    node: Optional[Node] = None
    percentage: Optional[int] = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def seconds(self) -> Optional[float]:
        """How long the node, or the whole execution, took; `None` for what is not an end."""
        if self.name in ("node:completed", "node:failed") and self.node is not None:
            return cast("float", self.node.seconds)  # the plan has called a function
        return self.execution.duration if self.name in ENDINGS else None

    @property
    def about(self) -> Optional[Node]:
        """The node that an event of a node is about."""
        return None if self.name.startswith("execution:") else self.node

    @property
    def current_node(self) -> Optional[str]:
        """The id of the node that an event of progress names."""
        return self.node.id if self.node is not None and self.percentage else None

    @property
    def more(self) -> Dict[str, Any]:
        """Fields of one kind of event, by their documented names."""
        workflow, node = self.execution.workflow, self.node
        if self.name == "execution:started":
            return {"workflow_name": workflow.name, "total_nodes": workflow.node_count}
        if self.name == "execution:progress" and self.percentage is not None:
            total = workflow.node_count
            return {"completed": round(self.percentage * total / 100), "total": total}
        if self.name == "execution:failed" and node is not None:
            return {"failed_node_id": node.id}
        if self.name == "execution:paused" and node is not None:
            return {
                "status": "paused",
                "reason": "user_input",
                "paused_at_node_id": node.id,
                "paused_at_node_name": node.name,
                "pause_context": {},
            }
        return {}

    @property
    def error(self) -> Optional[str]:
        """Why the node or the execution failed, for an event that says that it did."""
        return self.execution.error if self.name in ("node:failed", "execution:failed") else None


Listener = Callable[[Happening], None]


class ExecutionRunner:
    """Runs executions on a timeline and tells `listener` what happens to them."""

    def __init__(self, timeline: Timeline, listener: Listener) -> None:
        self._timeline = timeline
        self._listener = listener

    def start(
        self, execution: Execution, pickup: float = PICKUP_SECONDS, error: Optional[str] = None
    ) -> None:
        """Queue a pending execution; a worker takes it after `pickup` seconds.

        With an `error` it fails at its start.
        """
        plan: Sequence[Step] = ()
        try:
            plan = execution.workflow.steps(execution.inputs) if error is None else ()
        except Exception as raised:  # whatever a node's function raises is the run's failure
            error = f"{type(raised).__name__}: {raised}"
        if error is not None:
            plan = [Step("execution:started"), Step("execution:failed", error=error)]
        self._later(pickup, execution, lambda: self._play(execution, iter(plan)))

    def cancel(self, execution: Execution) -> None:
        """End an execution where it stands."""
        self._end(execution, "cancelled")

    def _later(self, delay: float, execution: Execution, play: Callable[[], None]) -> None:
        self._timeline.schedule(delay, lambda: None if execution.ended else play())

    def _play(self, execution: Execution, steps: Iterator[Step]) -> None:
        """Take the steps that come at once, and plan those that follow."""
        for step in steps:
            if step.seconds:
                self._later(step.seconds, execution, partial(self._go_on, execution, step, steps))
                return
            self._take(execution, step)

    def _go_on(self, execution: Execution, step: Step, rest: Iterator[Step]) -> None:
        self._take(execution, step)
        self._play(execution, rest)

    def _take(self, execution: Execution, step: Step) -> None:
        execution.error = step.error or execution.error
        if step.event == "execution:completed":
            self._succeed(execution, step.data)
            return
        if step.event in ENDINGS:
            self._end(execution, step.event.partition(":")[2], step.data)
            return
        if step.event == "execution:started":
            execution.started_at = self._timeline.now
        if step.event in _STATUS_AFTER:
            execution.status = _STATUS_AFTER[step.event]
        if step.event == "node:started":
            execution.current_node = step.node
        now = self._timeline.now
        self._listener(Happening(step.event, execution, now, step.node, step.percentage, step.data))

    def _succeed(self, execution: Execution, data: Mapping[str, Any]) -> None:
        try:
            execution.outputs = _checked(execution.workflow.outputs(deepcopy(execution.inputs)))
        except Exception as error:  # whatever a scripted workflow raises is its own failure
            execution.error = f"{type(error).__name__}: {error}"
            self._end(execution, "failed")
        else:
            execution.current_node, execution.error = None, None
            self._end(execution, "completed", data)

    def _end(
        self, execution: Execution, status: str, data: Optional[Mapping[str, Any]] = None
    ) -> None:
        execution.status = status
        execution.completed_at = now = self._timeline.now
        node = execution.current_node
        self._listener(Happening(f"execution:{status}", execution, now, node, data=data or {}))


def _checked(outputs: Any) -> Dict[str, Any]:
    if not isinstance(outputs, dict):
        raise TypeError(f"the workflow's function must return a dict, not {outputs!r}")
    json.dumps(outputs, allow_nan=False)
    return deepcopy(cast("Dict[str, Any]", outputs))

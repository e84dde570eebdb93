"""Workflows, and their executions as they unfold in time.

A workflow is a row of nodes, each of which takes some seconds. An execution walks that row on
the timeline and tells one listener everything that happens to it; who else hears of it (open
streams, webhooks) and in which words is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from flowmaestro.testing.timeline import Timeline

Inputs = Dict[str, Any]
Outputs = Callable[[Inputs], Dict[str, Any]]

PICKUP_SECONDS = 0.05
"""How long an execution is pending before a worker takes it."""
TERMINAL = frozenset({"completed", "failed", "cancelled"})
ENDINGS = frozenset(f"execution:{status}" for status in TERMINAL)


def greeting(inputs: Inputs) -> Dict[str, Any]:
    """What a workflow puts out unless it is told otherwise."""
    return {"message": f"Hello, {inputs.get('name', 'world')}!"}


@dataclass(frozen=True)
class Node:
    """One step of a workflow, taking `seconds`.

    With an `error` the execution fails here when the time is up. A node of type `user_input`
    pauses the execution for ever, since the API has no call that resumes one.
    """

    id: str
    name: str
    type: str = "transform"
    seconds: float = 0.1
    error: Optional[str] = None


@dataclass(frozen=True)
class InputField:
    """What a workflow says of one of its inputs."""

    type: str = "string"
    label: str = ""
    required: bool = False
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """A definition: `outputs` makes the result from the inputs; if it raises, the run fails."""

    id: str
    name: str
    created_at: float
    description: str = ""
    inputs: Mapping[str, InputField] = field(default_factory=dict[str, InputField])
    nodes: Sequence[Node] = ()
    outputs: Outputs = greeting


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

    @property
    def seconds(self) -> Optional[float]:
        """How long the node, or the whole execution, took; `None` for what is not an end."""
        if self.name in ("node:completed", "node:failed") and self.node is not None:
            return self.node.seconds
        return self.execution.duration if self.name in ENDINGS else None

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

    def start(self, execution: Execution, pickup: float = PICKUP_SECONDS) -> None:
        """Queue a pending execution; a worker takes it after `pickup` seconds."""
        self._later(pickup, execution, self._pick_up)

    def cancel(self, execution: Execution) -> None:
        """End an execution where it stands."""
        self._end(execution, "cancelled")

    def _later(self, delay: float, execution: Execution, step: Callable[[Execution], None]) -> None:
        def unless_ended() -> None:
            if not execution.ended:
                step(execution)

        self._timeline.schedule(delay, unless_ended)

    def _tell(
        self,
        name: str,
        execution: Execution,
        node: Optional[Node] = None,
        percentage: Optional[int] = None,
    ) -> None:
        self._listener(Happening(name, execution, self._timeline.now, node, percentage))

    def _pick_up(self, execution: Execution) -> None:
        execution.status = "running"
        execution.started_at = self._timeline.now
        self._tell("execution:started", execution)
        self._enter(execution, 0)

    def _enter(self, execution: Execution, index: int) -> None:
        nodes = execution.workflow.nodes
        if index == len(nodes):
            self._succeed(execution)
            return
        node = execution.current_node = nodes[index]
        self._tell("node:started", execution, node)
        if node.type == "user_input":
            execution.status = "paused"
            self._tell("execution:paused", execution, node)
            self._tell("user:input:required", execution, node)
            return
        self._later(node.seconds, execution, lambda run: self._leave(run, index))

    def _leave(self, execution: Execution, index: int) -> None:
        nodes = execution.workflow.nodes
        node = nodes[index]
        if node.error is not None:
            execution.error = node.error
            self._tell("node:failed", execution, node)
            self._end(execution, "failed")
            return
        self._tell("node:completed", execution, node)
        percentage = round(100 * (index + 1) / len(nodes))
        self._tell("execution:progress", execution, node, percentage)
        self._enter(execution, index + 1)

    def _succeed(self, execution: Execution) -> None:
        try:
            execution.outputs = execution.workflow.outputs(execution.inputs)
        except Exception as error:  # whatever a scripted workflow raises is its own failure
            execution.error = f"{type(error).__name__}: {error}"
            self._end(execution, "failed")
        else:
            execution.current_node = None
            self._end(execution, "completed")

    def _end(self, execution: Execution, status: str) -> None:
        execution.status = status
        execution.completed_at = self._timeline.now
        self._tell(f"execution:{status}", execution, execution.current_node)


def missing_inputs(workflow: Workflow, inputs: Inputs) -> Tuple[str, ...]:
    """The required inputs that are not there."""
    fields = workflow.inputs.items()
    return tuple(name for name, about in fields if about.required and name not in inputs)

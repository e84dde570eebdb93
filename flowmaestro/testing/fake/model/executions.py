"""Workflows, the triggers that start them, and their executions.

`ExecutionRunner` carries out the plan (`plans.py`) of an execution's workflow in the time of the
model, and passes each event to one listener. This listener, the service, notifies open streams and
webhooks, in the form that the dialect (`dialects.py`) defines.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Union, cast

from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.plans import (
    ENDINGS,
    Inputs,
    Node,
    NodeStep,
    PlannedEvent,
    plan_of,
)

Outputs = Callable[[Inputs], Dict[str, Any]]

PICKUP_SECONDS = 0.05
"""Seconds from the start of an execution until a worker takes it, by default."""
_STATUS_AFTER = {
    "execution:started": "running",
    "execution:paused": "paused",
    "execution:resumed": "running",
    **ENDINGS,
}


def greeting(inputs: Inputs) -> Dict[str, Any]:
    """Return the default outputs of a workflow: a message that greets the input `name`.

    Without this input, it greets the world.
    """
    return {"message": f"Hello, {inputs.get('name', 'world')}!"}


@dataclass(frozen=True)
class InputField:
    """The declaration of one input of a workflow."""

    type: str = "string"
    label: str = ""
    required: bool = False
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """A workflow. A run carries out the `plan`; without one, its `nodes`, one step after another.

    `outputs` makes the result of a run from its inputs. If it raises, or returns anything but a
    dict that JSON can express, the run fails.
    """

    id: str
    name: str
    created_at: float
    description: str = ""
    inputs: Mapping[str, InputField] = field(default_factory=dict[str, InputField])
    nodes: Sequence[NodeStep] = ()
    outputs: Outputs = greeting
    plan: Optional[Sequence[PlannedEvent]] = None

    version = 1

    def steps(self, inputs: Inputs) -> Sequence[PlannedEvent]:
        """Return the plan of a run with these inputs.

        Raises what `Node.timed` raises for one of the `nodes`.
        """
        if self.plan is not None:
            return self.plan
        for_functions = any(callable(node.seconds) for step in self.nodes for node in step)
        return plan_of(self.nodes, copy_of(inputs) if for_functions else inputs)

    @property
    def node_count(self) -> int:
        """The number of `nodes`; if there are none, of the different nodes in the `plan`."""
        return sum(map(len, self.nodes)) or len(
            {step.node.id for step in self.plan or () if step.node}
        )


@dataclass
class Trigger:
    """A trigger of one workflow. Executing a disabled trigger is refused."""

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
    """One run of a workflow.

    `started_at` is `None` before the event `execution:started`, `completed_at` before the end.
    `failed_nodes` holds, by its id, the error of each node that has failed in this run and has not
    completed since.
    """

    id: str
    workflow: Workflow
    inputs: Inputs
    created_at: float
    trigger_id: Optional[str] = None
    status: str = "pending"
    outputs: Optional[Dict[str, Any]] = None
    error: Optional[str] = None
    failed_nodes: Dict[str, str] = field(default_factory=dict[str, str])
    current_node: Optional[Node] = None
    started_at: Optional[float] = None
    completed_at: Optional[float] = None

    @property
    def ended(self) -> bool:
        """Whether the execution has ended."""
        return self.status in ENDINGS.values()

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the server can cancel the execution in its present status."""
        return not self.ended and self.status != "paused"

    @property
    def duration(self) -> Optional[float]:
        """Seconds from start to end; `None` if the execution has not ended or never started."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at


class ExecutionRunner:
    """Runs executions in the model's time, and calls `listener` with each of their events."""

    def __init__(
        self,
        model_time: ModelTime,
        listener: Callable[[Execution, PlannedEvent], None],
        node_error: Optional[str],
    ) -> None:
        self._model_time = model_time
        self._listener = listener
        self._node_error = node_error
        """The error of every node that fails; `None` for the error of the node itself."""
        self._results: Dict[str, Union[Dict[str, Any], Exception]] = {}
        """The outputs of running executions that an output node has made, or why it failed."""

    def start(
        self, execution: Execution, pickup: float = PICKUP_SECONDS, error: Optional[str] = None
    ) -> None:
        """Queue a pending execution. A worker takes it after `pickup` seconds.

        With an `error`, or if `Workflow.steps` raises, it fails as soon as it is taken.
        """
        self._follow(execution, iter(self._plan(execution, error)), pickup)

    def resume(self, execution: Execution, taken: int) -> None:
        """Continue an execution of an earlier service, which had taken `taken` steps of its plan.

        A step that was due before is taken now.
        """
        plan = self._plan(execution, None)
        due = execution.created_at + PICKUP_SECONDS + sum(step.seconds for step in plan[:taken])
        delay = due - self._model_time.now
        self._follow(execution, iter(plan[taken:]), delay, catches_up=True)

    def _plan(self, execution: Execution, error: Optional[str]) -> Sequence[PlannedEvent]:
        plan: Sequence[PlannedEvent] = ()
        try:
            plan = execution.workflow.steps(execution.inputs) if error is None else ()
        except Exception as raised:  # Any exception of a node's function makes the run fail.
            error = f"{type(raised).__name__}: {raised}"
        if error is not None:
            plan = [
                PlannedEvent("execution:started"),
                PlannedEvent("execution:failed", error=error),
            ]
        return plan

    def cancel(self, execution: Execution) -> None:
        """Cancel an execution now. Its remaining planned events are dropped."""
        self._take(execution, PlannedEvent("execution:cancelled"))

    def _follow(
        self,
        execution: Execution,
        plan: Iterator[PlannedEvent],
        delay: float = 0.0,
        *,
        catches_up: bool = False,
    ) -> None:
        """Schedule the next event of the plan, `delay` seconds later than planned.

        When it happens, the event after it is scheduled. Events of an ended execution are dropped.
        With `catches_up`, events that were due before now happen now.
        """
        planned = next(plan, None)
        if planned is None:
            return
        step: PlannedEvent = planned
        due = self._model_time.now + delay + step.seconds

        def take() -> None:
            if not execution.ended:
                self._take(execution, step)
                late = min(0.0, due - self._model_time.now) if catches_up else 0.0
                self._follow(execution, plan, late, catches_up=catches_up)

        self._model_time.schedule(delay + step.seconds, take)

    def _take(self, execution: Execution, step: PlannedEvent) -> None:
        now = self._model_time.now
        if step.event == "execution:completed":
            step = self._end(execution, step)
        elif step.event == "node:completed" and step.node and step.node.type == "output":
            made = self._result(execution)
            step = step._replace(outputs={} if isinstance(made, Exception) else made)
        elif step.event == "node:failed" and self._node_error and execution.workflow.plan is None:
            step = step._replace(error=self._node_error)
        execution.status = _STATUS_AFTER.get(step.event, execution.status)
        if step.event == "execution:started":
            execution.started_at = now
        elif step.event == "node:started":
            execution.current_node = step.node
        elif step.event == "node:completed" and step.node is not None:
            execution.failed_nodes.pop(step.node.id, None)
        elif step.event == "node:failed" and step.node is not None:
            execution.failed_nodes[step.node.id] = step.error or ""
        elif execution.ended:
            self._results.pop(execution.id, None)
            execution.completed_at = now
            if step.event == "execution:failed":
                execution.error = step.error or error_of_nodes(execution.failed_nodes)
        self._listener(execution, step)

    def _end(self, execution: Execution, step: PlannedEvent) -> PlannedEvent:
        """Set the outputs of the execution. Return `step`, its last event.

        If the workflow's `outputs` raise or are unusable, returns an `execution:failed` event
        instead.
        """
        made = self._result(execution)
        if isinstance(made, Exception):
            return PlannedEvent("execution:failed", error=f"{type(made).__name__}: {made}")
        execution.outputs = made
        execution.current_node = None
        return step

    def _result(self, execution: Execution) -> Union[Dict[str, Any], Exception]:
        """Return the outputs of a run, or what the workflow's function raised.

        The function is called once in a run.
        """
        if execution.id not in self._results:
            try:
                made = _checked(_outputs_of(execution))
            except Exception as error:  # Any exception of a test's function fails the run.
                self._results[execution.id] = error
            else:
                self._results[execution.id] = made
        return self._results[execution.id]


def _outputs_of(execution: Execution) -> Dict[str, Any]:
    outputs, inputs = execution.workflow.outputs, execution.inputs
    return greeting(inputs) if outputs is greeting else outputs(copy_of(inputs))


def copy_of(inputs: Inputs) -> Inputs:
    """Return a copy of inputs, which came as JSON, for a function of a test.

    For 1 MiB, `deepcopy` may take two seconds, in which a served fake answers nobody; this takes a
    twentieth.
    """
    copied: Inputs = json.loads(json.dumps(inputs))
    return copied


def error_of_nodes(failed_nodes: Mapping[str, str]) -> Optional[str]:
    """Return the error of an execution: a text with the errors of all failed nodes as JSON.

    Returns `None` if no node has failed.
    """
    if not failed_nodes:
        return None
    errors = json.dumps(failed_nodes, separators=(",", ":"), ensure_ascii=False)
    return f"Workflow completed with {len(failed_nodes)} failed nodes: {errors}"


def _checked(outputs: Any) -> Dict[str, Any]:
    if not isinstance(outputs, dict):
        raise TypeError(f"the workflow's function must return a dict, not {outputs!r}")
    json.dumps(outputs, allow_nan=False)
    return deepcopy(cast("Dict[str, Any]", outputs))

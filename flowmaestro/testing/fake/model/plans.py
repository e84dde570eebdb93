"""Plans of workflows: one step for each event, with the seconds since the step before.

Plans are made of nodes, each with its duration, or of scripted events. Contradictory plans are
refused here. Pure.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
    get_args,
)

from flowmaestro.testing.arguments import (
    check_function,
    check_json,
    check_seconds,
    several,
)
from flowmaestro_core.arguments import optional_text, text
from flowmaestro_core.types import ExecutionEventType

__tracebackhide__ = True  # pytest shows the lines of the test instead.

Inputs = Dict[str, Any]
Seconds = Union[float, Callable[[Inputs], float]]

PAUSING_TYPES = ("humanReview", "user_input")
"""Types of nodes that wait for a human. The deployed server uses the first."""
ENDINGS = {f"execution:{status}": status for status in ("completed", "failed", "cancelled")}
"""The status of an execution after each terminal event."""
_OF_NODES = ("node:started", "node:completed", "node:failed", "node:retry", "node:stream")
_PAUSES = {"execution:paused": True, "execution:resumed": False}
_WHILE_PAUSED = {"execution:resumed": True, "execution:paused": False, "execution:completed": False}
"""Whether an execution must be paused before this event (True), or must not be (False)."""
RETRY_DELAYS = (1.0, 2.0)
"""Seconds before the second and the third attempt of a node that fails, as on the deployed server.
"""
_NOT_OF_EXECUTIONS = ("connected", "stream:reconnected")
EVENTS = tuple(name for name in get_args(ExecutionEventType) if name not in _NOT_OF_EXECUTIONS)
"""The events that an execution can have."""


@dataclass(frozen=True)
class Node:
    """One step of a workflow. It takes `seconds`; its name is by default its id.

    `seconds` may be a function of the execution's inputs. If the function raises, or does not
    return a number of at least 0, the execution fails at its start. A node of `math.inf` seconds
    never ends.

    With an `error`, the node fails, and so does the execution. As on the deployed server, it fails
    after three attempts of `seconds` each, with pauses of 1 and 2 s. That server loses the text of
    the error: its events say `Activity task failed`. With `shapes="documented"`, they have the
    text.

    A node of type `humanReview` (or `user_input`) pauses the execution forever, because the API has
    no call that resumes an execution. A `skipped` node is on a branch that is not taken: it never
    starts. Raises `TypeError` or `ValueError` for an unusable argument, such as an empty id or
    negative seconds.
    """

    id: str
    name: str = ""
    type: str = "transform"
    seconds: Seconds = 0.1
    error: Optional[str] = None
    skipped: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise ValueError(f"a node's id must be a text that is not empty, not {self.id!r}")
        text(f"name of node {self.id!r}", self.name)
        text(f"type of node {self.id!r}", self.type)
        if callable(self.seconds):
            check_function(f"seconds of node {self.id!r}", self.seconds)
        else:
            check_seconds(f"seconds of node {self.id!r}", self.seconds, or_endless=True)
        optional_text(f"error of node {self.id!r}", self.error)
        object.__setattr__(self, "name", self.name or self.id)

    def timed(self, inputs: Inputs) -> Node:
        """Return the node with a number as `seconds`.

        If `seconds` is a function, it is called with `inputs`, and the number is its result.
        Raises what the function raises, and `TypeError` or `ValueError` if the result is not a
        number of at least 0.
        """
        return replace(self, seconds=self.seconds(inputs)) if callable(self.seconds) else self

    @property
    def total_seconds(self) -> float:
        """The seconds from its start to its end, with all attempts of a node that fails."""
        seconds = cast("float", self.seconds)
        if self.error is None:
            return seconds
        return seconds * (1 + len(RETRY_DELAYS)) + sum(RETRY_DELAYS)


NodeStep = Tuple[Node, ...]
"""The nodes that run at the same time, before those of the next step."""


@dataclass(frozen=True)
class ScriptedEvent:
    """One event of an execution, `seconds` after the one before.

    Attributes:
        type: the type of the event in a stream, such as `"node:completed"`.
        node: the id of the node that the event is about; `None` if it is about no single node.
        seconds: seconds since the event before; for the first one, since a worker has taken the
            execution, 0.05 s after its start.
        error: the error message of a failed node or execution.
        data: further keys of the event; they replace its usual keys of the same name.

    """

    type: str
    node: Optional[str] = None
    seconds: float = 0.0
    error: Optional[str] = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


class PlannedEvent(NamedTuple):
    """One event of the plan of an execution.

    Attributes:
        event: the type of the event in a stream, such as `node:completed`.
        seconds: seconds since the event before; for the first one, since a worker has taken the
            execution.
        node: the node that the event names, if any.
        completed: how many nodes have completed, for `execution:progress` in a plan of nodes; else
            `None`.
        finished: how many nodes have completed, failed or been skipped, likewise.
        error: the error message of a failed node or execution, if it has one.
        data: further keys of the event.
        outputs: the outputs of the node, if the run has made them.

    """

    event: str
    seconds: float = 0.0
    node: Optional[Node] = None
    completed: Optional[int] = None
    finished: int = 0
    error: Optional[str] = None
    data: Mapping[str, Any] = {}
    outputs: Optional[Mapping[str, Any]] = None


def plan_of(steps: Sequence[NodeStep], inputs: Inputs) -> List[PlannedEvent]:
    """Return the plan of steps that run one after another; the nodes of a step run together.

    It ends at the first step at which a node fails, pauses or hangs. Raises what `Node.timed`
    raises.
    """
    timed = [tuple(node.timed(inputs) for node in step) for step in steps]
    total = sum(map(len, timed))
    plan = [PlannedEvent("execution:started")]
    completed = finished = 0
    for index, step in enumerate(timed):
        nodes = [node for node in step if not node.skipped]
        if not nodes:
            continue
        plan += [PlannedEvent("node:started", node=node) for node in nodes]
        time = 0.0
        in_order = sorted(nodes, key=lambda it: it.total_seconds)
        last = in_order[-1]
        for node in in_order:
            if node.total_seconds == math.inf:
                return plan
            event = "node:completed" if node.error is None else "node:failed"
            plan.append(PlannedEvent(event, node.total_seconds - time, node, error=node.error))
            time = node.total_seconds
        completed += sum(node.error is None for node in nodes)
        if any(node.error is not None for node in nodes):
            # All nodes after this step depend on it, so the server skips them.
            plan.append(PlannedEvent("execution:progress", 0.0, last, completed, total))
            return [*plan, PlannedEvent("execution:failed")]
        pausing = next((node for node in nodes if node.type in PAUSING_TYPES), None)
        if pausing is not None:
            return [*plan, PlannedEvent("execution:paused", node=pausing)]
        finished = _finished(timed, index)
        plan.append(PlannedEvent("execution:progress", 0.0, last, completed, finished))
    return [*plan, PlannedEvent("execution:completed")]


def _finished(steps: Sequence[NodeStep], index: int) -> int:
    """Return how many nodes are over after the step at `index`, if none has failed.

    The skipped nodes that follow are over, too: the node that chooses a branch skips the others.
    """
    passed = sum(map(len, steps[: index + 1]))
    following = [node for step in steps[index + 1 :] for node in step]
    return passed + len([*takewhile(lambda node: node.skipped, following)])


def stops(node: Node) -> bool:
    """Return whether an execution fails, pauses or hangs at this node, whatever its inputs are.

    If `seconds` is a function, it is not called, and is taken to return a finite number.
    """
    stopping = node.error is not None or node.type in PAUSING_TYPES or node.seconds == math.inf
    return stopping and not node.skipped


def scripted_nodes(
    nodes: Sequence[Union[str, Node, Tuple[Union[str, Node], ...]]],
    *,
    fails_at: Optional[str],
    error: Optional[str],
    pauses_at: Optional[str],
    hangs_at: Optional[str],
) -> List[NodeStep]:
    """Return the steps of the nodes, of which one node may be set to fail, pause or hang.

    `fails_at`, `pauses_at` or `hangs_at` is the id of that node. `error` is the text of the
    failure; with `error` alone, the last node fails. Raises `TypeError` or `ValueError` for an
    unusable argument, and `ValueError` if the arguments contradict each other.
    """
    optional_text("error", error)
    given = several("nodes", nodes, "nodes")
    steps = [
        tuple(
            _node(f"nodes[{index}][{place}]", it)
            for place, it in enumerate(cast("Tuple[object, ...]", step))
        )
        if isinstance(step, tuple)
        else (_node(f"nodes[{index}]", step),)
        for index, step in enumerate(cast("List[object]", given))
    ]
    ids = [node.id for node in chain(*steps)]
    if len(set(ids)) < len(ids):
        raise ValueError(f"nodes must have different ids, not {', '.join(ids)}")
    places = {"fails_at": fails_at, "pauses_at": pauses_at, "hangs_at": hangs_at}
    named = {name: id for name, id in places.items() if id is not None}
    if len(named) > 1:
        raise ValueError(f"an execution stops only once: give one of {', '.join(named)}")
    if error is not None and not named:
        if not ids:
            raise ValueError("error needs a node at which the execution fails")
        named = {"fails_at": ids[-1]}
    for name, id in named.items():
        if id not in ids:
            known = f"one of {', '.join(ids)}" if ids else "the id of a node, and there are none"
            raise ValueError(f"{name} must be {known}, not {id!r}")
        if error is not None and name != "fails_at":
            raise ValueError("error is why an execution fails; this one pauses or hangs")
        at = next(index for index, step in enumerate(steps) if id in [it.id for it in step])
        before = next(filter(stops, chain(*steps[:at])), None)
        if before is not None:
            raise ValueError(f"{name}={id!r} is never reached: it stops at {before.id!r} before")
        steps[at] = tuple(
            _stopping(node, name, error) if node.id == id else node for node in steps[at]
        )
    return steps


def _node(where: str, given: object) -> Node:
    node = Node(given) if isinstance(given, str) else given
    if not isinstance(node, Node):
        raise TypeError(f"{where} must be a Node or the id of one, not {given!r}")
    return node


def _stopping(node: Node, name: str, error: Optional[str]) -> Node:
    """Return the node, set to fail, pause or hang, as the argument with this `name` says."""
    given = f"{name}={node.id!r}"
    if node.skipped:
        raise ValueError(f"{given} has no effect: this node is skipped")
    if name != "pauses_at" and node.type in PAUSING_TYPES:
        raise ValueError(f"{given} has no effect: this node pauses (type={node.type!r})")
    if name != "hangs_at" and node.seconds == math.inf:
        raise ValueError(f"{given} has no effect: this node never ends (seconds=inf)")
    if name == "fails_at":
        return replace(node, error=error or node.error or f"Node {node.id} failed")
    if name == "pauses_at":
        return replace(node, type=PAUSING_TYPES[0])
    return replace(node, seconds=math.inf)


def plan_by_events(events: Sequence[ScriptedEvent]) -> List[PlannedEvent]:
    """Return the plan of scripted events.

    If `execution:started` is not the first of them, that event is inserted. Without a terminal
    event at the end, the execution never ends by itself. Raises `TypeError` or `ValueError` for an
    unusable event, and `ValueError` if the events contradict each other.
    """
    plan: List[PlannedEvent] = []
    running: Dict[str, float] = {}
    time, paused = 0.0, False
    for index, event in enumerate(several("events", events, "ScriptedEvent")):
        where = f"events[{index}]"
        _check_event(where, event)
        if plan and plan[-1].event in ENDINGS:
            raise ValueError(
                f"{where} is {event.type} and follows {plan[-1].event}, which ends an execution"
            )
        if index and event.type == "execution:started":
            raise ValueError(f"{where} is execution:started, which can only be the first")
        if _WHILE_PAUSED.get(event.type, paused) is not paused:
            may = "cannot" if paused else "can only"
            raise ValueError(
                f"{where} is {event.type}, which {may} come while the execution is paused"
            )
        paused = _PAUSES.get(event.type, paused)
        time += event.seconds
        node = _node_of(where, event, running, time)
        error = event.error
        if event.type == "node:failed" and error is None:
            error = f"Node {event.node} failed"
        data = deepcopy(dict(event.data))
        plan.append(PlannedEvent(event.type, event.seconds, node, error=error, data=data))
    begun = bool(plan) and plan[0].event == "execution:started"
    return plan if begun else [PlannedEvent("execution:started"), *plan]


def _check_event(where: str, event: object) -> None:
    if not isinstance(event, ScriptedEvent):
        raise TypeError(f"{where} must be a ScriptedEvent, not {event!r}")
    if event.type not in EVENTS:
        raise ValueError(f"{where} is {event.type!r}, which is not one of {', '.join(EVENTS)}")
    check_seconds(f"seconds of {where}", event.seconds)
    optional_text(f"node of {where}", event.node)
    if event.node == "":
        raise ValueError(f"node of {where} must be a text that is not empty, not ''")
    optional_text(f"error of {where}", event.error)
    if not isinstance(event.data, Mapping):
        raise TypeError(f"data of {where} must be a dict, not {event.data!r}")
    check_json(f"data of {where}", dict(event.data))
    if event.data.get("type", event.type) != event.type:
        raise ValueError(f"data of {where} has the type {event.data['type']!r}, not {event.type!r}")
    if event.error is not None and not event.type.endswith(":failed"):
        raise ValueError(f"{where} has an error, but {event.type} is not a failure")


def _node_of(
    where: str, event: ScriptedEvent, running: Dict[str, float], time: float
) -> Optional[Node]:
    """Return the node of a scripted event, whose `seconds` are the time since its start.

    Return `None` if the event names no node. `running`, the start time of each running node, is
    updated. Raises `ValueError`, whose text names the event by `where`, for an event that must
    name its node and does not, or that cannot come at this point.
    """
    if event.node is None:
        if event.type in _OF_NODES:
            raise ValueError(f"{where} is {event.type} and must name its node")
        return None
    if event.type == "node:started":
        if event.node in running:
            raise ValueError(f"{where} starts the node {event.node!r}, which has not ended yet")
        running[event.node] = time
    elif event.node not in running:
        raise ValueError(f"{where} is about the node {event.node!r}, which has not been started")
    began = running[event.node]
    if event.type in ("node:completed", "node:failed"):
        del running[event.node]
    return Node(event.node, seconds=time - began)

"""The events of executions and threads: unions discriminated by `type`.

Both unions are closed over the names that the API documents, so that a type checker narrows
them; a name that is not among them passes through at run time all the same.
"""

from typing import Any, Dict, Literal, Optional, TypedDict, Union

from flowmaestro_core.types.resources import ExecutionStatus, TokenUsage

__all__ = [
    "Connected",
    "ExecutionCancelled",
    "ExecutionCompleted",
    "ExecutionEvent",
    "ExecutionEventType",
    "ExecutionFailed",
    "ExecutionPaused",
    "ExecutionProgress",
    "ExecutionResumed",
    "ExecutionStarted",
    "MessageCompleted",
    "MessageFailed",
    "MessageStarted",
    "MessageToken",
    "NodeCompleted",
    "NodeFailed",
    "NodeRetry",
    "NodeStarted",
    "NodeStream",
    "StreamReconnected",
    "ThreadConnected",
    "ThreadEvent",
    "ThreadEventType",
    "UserInputRequired",
    "UserInputResponse",
]


class StreamReconnected(TypedDict):
    """The SDK reconnected a lost stream; events in between may be missing."""

    type: Literal["stream:reconnected"]
    attempt: int


class _Event(TypedDict, total=False):
    timestamp: Union[int, str]
    """Unix time in milliseconds, as the deployed server has it, or ISO 8601."""


class Connected(_Event):
    """The subscription stands."""

    type: Literal["connected"]
    execution_id: str
    status: ExecutionStatus


class _OfExecution(_Event):
    execution_id: str


class _Started(_OfExecution):
    type: Literal["execution:started"]


class ExecutionStarted(_Started, total=False):
    """The execution has begun."""

    workflow_name: str
    total_nodes: int


class _Progress(_OfExecution):
    type: Literal["execution:progress"]


class ExecutionProgress(_Progress, total=False):
    """How far the execution has come, in per cent."""

    progress: float
    completed: int
    total: int
    current_node: str
    message: str


class _Paused(_OfExecution):
    type: Literal["execution:paused"]


class ExecutionPaused(_Paused, total=False):
    """The execution awaits a human's input.

    With `polled`, the stream did not bring this event, and only `status` is there beside it.
    """

    polled: bool
    status: ExecutionStatus
    reason: str
    paused_at_node_id: str
    paused_at_node_name: str
    pause_context: Dict[str, Any]


class _Resumed(_OfExecution):
    type: Literal["execution:resumed"]


class ExecutionResumed(_Resumed, total=False):
    """The execution goes on after a pause. With `polled`, only a poll has seen it."""

    polled: bool
    status: ExecutionStatus


class _Ended(_OfExecution):
    outputs: Optional[Dict[str, Any]]
    error: Optional[str]


class _Ending(_Ended, total=False):
    polled: bool
    status: ExecutionStatus
    completed_at: Optional[str]


class _Completed(_Ending):
    type: Literal["execution:completed"]


class ExecutionCompleted(_Completed, total=False):
    """Terminal: the execution succeeded, with `outputs`."""

    duration_ms: float


class _Failed(_Ending):
    type: Literal["execution:failed"]


class ExecutionFailed(_Failed, total=False):
    """Terminal: the execution failed, with `error`."""

    failed_node_id: str


class ExecutionCancelled(_Ending):
    """Terminal: the execution was cancelled."""

    type: Literal["execution:cancelled"]


class _OfNode(_OfExecution):
    node_id: str


class _Node(_OfNode, total=False):
    node_name: str
    node_type: str


class NodeStarted(_Node):
    """A node of the workflow has begun."""

    type: Literal["node:started"]


class _NodeCompleted(_Node):
    type: Literal["node:completed"]


class NodeCompleted(_NodeCompleted, total=False):
    """A node of the workflow is done."""

    outputs: Any
    duration_ms: float


class _NodeFailed(_Node):
    type: Literal["node:failed"]


class NodeFailed(_NodeFailed, total=False):
    """A node of the workflow failed."""

    error: Optional[str]


class _NodeRetry(_Node):
    type: Literal["node:retry"]


class NodeRetry(_NodeRetry, total=False):
    """A node of the workflow is tried again."""

    attempt: int
    error: Optional[str]


class _NodeStream(_Node):
    type: Literal["node:stream"]


class NodeStream(_NodeStream, total=False):
    """A piece of a node's output, as it comes."""

    chunk: str


class _InputRequired(_OfExecution):
    type: Literal["user:input:required"]


class UserInputRequired(_InputRequired, total=False):
    """The execution asks a human."""

    node_id: str
    node_name: str
    node_type: str
    prompt: str


class _InputResponse(_OfExecution):
    type: Literal["user:input:response"]


class UserInputResponse(_InputResponse, total=False):
    """A human answered the execution."""

    node_id: str


ExecutionEvent = Union[
    Connected,
    ExecutionStarted,
    ExecutionProgress,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionCancelled,
    NodeStarted,
    NodeCompleted,
    NodeFailed,
    NodeRetry,
    NodeStream,
    UserInputRequired,
    UserInputResponse,
    StreamReconnected,
]

ExecutionEventType = Literal[
    "connected",
    "execution:started",
    "execution:progress",
    "execution:paused",
    "execution:resumed",
    "execution:completed",
    "execution:failed",
    "execution:cancelled",
    "node:started",
    "node:completed",
    "node:failed",
    "node:retry",
    "node:stream",
    "user:input:required",
    "user:input:response",
    "stream:reconnected",
]


class _ThreadConnected(_Event):
    type: Literal["connected"]


class ThreadConnected(_ThreadConnected, total=False):
    """The subscription to a thread stands."""

    thread_id: str


class _OfMessage(_Event, total=False):
    thread_id: Optional[str]
    message_id: Optional[str]
    execution_id: Optional[str]


class MessageStarted(_OfMessage):
    """The agent begins to answer."""

    type: Literal["message:started"]


class MessageToken(_OfMessage):
    """A piece of the agent's answer."""

    type: Literal["message:token"]
    token: str


class MessageCompleted(_OfMessage):
    """Terminal: the whole answer."""

    type: Literal["message:completed"]
    content: Optional[str]
    usage: TokenUsage


class _MessageFailed(_OfMessage):
    type: Literal["message:failed"]


class MessageFailed(_MessageFailed, total=False):
    """Terminal: the agent could not answer."""

    error: Optional[str]


ThreadEvent = Union[
    ThreadConnected,
    MessageStarted,
    MessageToken,
    MessageCompleted,
    MessageFailed,
    StreamReconnected,
]

ThreadEventType = Literal[
    "connected",
    "message:started",
    "message:token",
    "message:completed",
    "message:failed",
    "stream:reconnected",
]

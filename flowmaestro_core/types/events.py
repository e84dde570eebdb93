"""The events of executions and threads: unions discriminated by `type`.

Both unions list the names that the API documents, and `stream:reconnected`, which the SDK adds. So
a type checker can narrow them. An event with another name passes through at run time all the same.
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
    """Number of the reconnection, from 1."""


class _Event(TypedDict, total=False):
    timestamp: Union[int, str]
    """Unix time in milliseconds, as the deployed server has it, or ISO 8601."""


class Connected(_Event):
    """The stream is subscribed to the events of the execution."""

    type: Literal["connected"]
    execution_id: str
    status: ExecutionStatus
    """Status of the execution at that moment."""


class _OfExecution(_Event):
    execution_id: str


class _Started(_OfExecution):
    type: Literal["execution:started"]


class ExecutionStarted(_Started, total=False):
    """The execution has begun."""

    workflow_name: str
    """The name of the workflow."""
    total_nodes: int
    """Number of nodes of the workflow."""


class _Progress(_OfExecution):
    type: Literal["execution:progress"]


class ExecutionProgress(_Progress, total=False):
    """Progress of the execution."""

    progress: float
    """Progress in per cent, from 0 to 100; nodes that failed or were skipped count, too."""
    completed: int
    """Number of nodes that have completed. A node that failed or was skipped does not count."""
    total: int
    """Number of nodes of the workflow."""
    current_node: str
    """The node that works now; the deployed server does not say."""
    message: str
    """Text to show to people; the deployed server sends none."""


class _Paused(_OfExecution):
    type: Literal["execution:paused"]


class ExecutionPaused(_Paused, total=False):
    """The execution awaits a human's input.

    A `node:completed` of the node that waits comes before it, with `metadata`.

    With `polled`, the stream did not send this event: the SDK made it from a poll. Besides `type`
    and `polled`, it then has only `execution_id` and `status`.
    """

    polled: bool
    """True if the SDK made this event from a poll."""
    status: ExecutionStatus
    """`paused`."""
    reason: str
    """Reason of the pause, with the question to the person: `Waiting for human review: …`."""
    paused_at_node_id: str
    """The node that waits."""
    paused_at_node_name: str
    """The name of that node."""
    pause_context: Dict[str, Any]
    """Form of the answer: `variableName`, `inputType`. The question is in `reason`."""


class _Resumed(_OfExecution):
    type: Literal["execution:resumed"]


class ExecutionResumed(_Resumed, total=False):
    """The execution continues after a pause. With `polled`, the SDK made this event from a poll."""

    polled: bool
    """True if the SDK made this event from a poll."""
    status: ExecutionStatus
    """Status of the execution after the pause."""


class _Ended(_OfExecution):
    outputs: Optional[Dict[str, Any]]
    """Outputs of the workflow, by name; usually `None` if it did not complete."""
    completed_at: Optional[str]
    """Time of its end, ISO 8601.

    `None` while the stream is live, because the deployed server does not send it, and of a
    cancelled execution.
    """
    error: Optional[str]
    """Reason of the failure, for people; usually `None` if it did not fail.

    Of the node that failed, the deployed server only says `Activity task failed`.
    """


class _Ending(_Ended, total=False):
    polled: bool
    """True if the SDK made this event from a poll."""
    status: ExecutionStatus
    """Final status."""


class _Completed(_Ending):
    type: Literal["execution:completed"]


class ExecutionCompleted(_Completed, total=False):
    """Terminal: the execution succeeded, with `outputs`."""

    duration_ms: float
    """Time that it took, in milliseconds."""


class _Failed(_Ending):
    type: Literal["execution:failed"]


class ExecutionFailed(_Failed, total=False):
    """Terminal: the execution failed, with `error`."""

    failed_node_id: str
    """The node that failed."""


class ExecutionCancelled(_Ending):
    """Terminal: the execution was cancelled."""

    type: Literal["execution:cancelled"]


class _OfNode(_OfExecution):
    node_id: str
    """The id of the node within its workflow."""


class _Node(_OfNode, total=False):
    node_name: str
    """The name that the workflow's editor shows."""
    node_type: str
    """Kind of the node, such as `input`, `llm` or `http`."""


class NodeStarted(_Node):
    """A node of the workflow has begun."""

    type: Literal["node:started"]


class _NodeCompleted(_Node):
    type: Literal["node:completed"]


class NodeCompleted(_NodeCompleted, total=False):
    """A node of the workflow is done, or waits for a human: then `metadata` has `paused`."""

    outputs: Any
    """Outputs of the node. Of one that waits: `waitingFor`, `inputType` and `prompt`."""
    metadata: Dict[str, Any]
    """`{"paused": True}` if the node waits for a human; else it is usually missing."""
    duration_ms: float
    """Time that it took, in milliseconds."""


class _NodeFailed(_Node):
    type: Literal["node:failed"]


class NodeFailed(_NodeFailed, total=False):
    """A node of the workflow failed, after its last attempt."""

    error: Optional[str]
    """Reason of the failure, for people; missing or `None` if the server gives none.

    The deployed server says `Activity task failed`, whatever the reason was.
    """


class _NodeRetry(_Node):
    type: Literal["node:retry"]


class NodeRetry(_NodeRetry, total=False):
    """A node of the workflow is retried."""

    attempt: int
    """The number of the new attempt."""
    error: Optional[str]
    """Reason of the last failure, for people; missing or `None` if the server gives none."""


class _NodeStream(_Node):
    type: Literal["node:stream"]


class NodeStream(_NodeStream, total=False):
    """A piece of a node's output, as it comes."""

    chunk: str
    """The next part of the output."""


class _InputRequired(_OfExecution):
    type: Literal["user:input:required"]


class UserInputRequired(_InputRequired, total=False):
    """The execution asks a human."""

    node_id: str
    """The node that asks."""
    node_name: str
    """The name of that node."""
    node_type: str
    """Kind of the node."""
    prompt: str
    """Question to the person."""


class _InputResponse(_OfExecution):
    type: Literal["user:input:response"]


class UserInputResponse(_InputResponse, total=False):
    """A human gave the input that the execution asked for."""

    node_id: str
    """The node that asked."""


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
    """The stream is subscribed to the events of the thread."""

    thread_id: str


class _OfMessage(_Event, total=False):
    thread_id: Optional[str]
    message_id: Optional[str]
    """The id of the answer; missing or `None` if the server does not say."""
    execution_id: Optional[str]
    """The execution that makes the answer; missing or `None` if the server does not say."""


class MessageStarted(_OfMessage):
    """The agent begins to answer."""

    type: Literal["message:started"]


class MessageToken(_OfMessage):
    """A piece of the agent's answer."""

    type: Literal["message:token"]
    token: str
    """The next part of the answer's text."""


class MessageCompleted(_OfMessage):
    """Terminal: the whole answer."""

    type: Literal["message:completed"]
    content: Optional[str]
    """The whole text; `None` if there is none."""
    usage: TokenUsage
    """Tokens spent on the answer."""


class _MessageFailed(_OfMessage):
    type: Literal["message:failed"]


class MessageFailed(_MessageFailed, total=False):
    """Terminal: the agent could not answer."""

    error: Optional[str]
    """Reason of the failure, for people; missing or `None` if the server gives none."""


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

"""The API's resources."""

from typing import Any, Dict, List, Literal, Optional, TypedDict, Union

__all__ = [
    "Agent",
    "ApiError",
    "CancelledExecution",
    "CompletedExecution",
    "DeletedResource",
    "ExecuteTriggerResponse",
    "ExecuteWorkflowResponse",
    "Execution",
    "ExecutionStatus",
    "FailedExecution",
    "KnowledgeBase",
    "KnowledgeBaseResult",
    "Memory",
    "MemoryResult",
    "MemorySearch",
    "MemoryStats",
    "PaginationInfo",
    "QueryKnowledgeBaseResponse",
    "ResponseMeta",
    "SendMessageResponse",
    "TestWebhookResponse",
    "Thread",
    "ThreadMessage",
    "ThreadStatus",
    "TokenUsage",
    "Trigger",
    "UnfinishedExecution",
    "Webhook",
    "WebhookDelivery",
    "WebhookEventType",
    "WebhookWithSecret",
    "Workflow",
    "WorkflowInput",
]

ExecutionStatus = Literal["pending", "running", "paused", "completed", "failed", "cancelled"]
"""`completed`, `failed` and `cancelled` are final. `paused` awaits a human's input."""

ThreadStatus = Literal["active", "archived", "deleted"]

WebhookEventType = Literal[
    "execution.started",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "thread.message.created",
    "thread.message.completed",
    "thread.message.failed",
    "agent.execution.started",
    "agent.execution.completed",
    "agent.execution.failed",
    "test",
]


class ResponseMeta(TypedDict):
    """What an envelope says of the reply itself; a deletion's may say nothing."""

    request_id: Optional[str]
    timestamp: Optional[str]


class PaginationInfo(TypedDict):
    """Where a page lies.

    Keys that the server left out are derived from the others, or `None` if they cannot be.
    """

    page: Optional[int]
    per_page: Optional[int]
    total_count: Optional[int]
    total_pages: Optional[int]
    has_more: Optional[bool]
    has_next: Optional[bool]
    has_prev: Optional[bool]


class ApiError(TypedDict):
    """The `error` object of an error reply."""

    code: str
    message: str
    details: Optional[Dict[str, Any]]


class DeletedResource(TypedDict):
    """What deleting a resource leaves of it."""

    id: str
    deleted: bool


class WorkflowInput(TypedDict, total=False):
    """One input of a workflow."""

    type: str
    label: str
    required: bool
    description: str


class Workflow(TypedDict):
    """A workflow. `input_schema` is a JSON Schema object describing `inputs`.

    It has `"x-unverified": true` where the SDK derived it from `inputs`: their keys are ids of
    nodes, and need not be the names that a run reads.
    """

    id: str
    name: str
    description: Optional[str]
    version: int
    inputs: Optional[Dict[str, WorkflowInput]]
    input_schema: Optional[Dict[str, Any]]
    created_at: str
    updated_at: str


class ExecuteWorkflowResponse(TypedDict):
    """A started execution."""

    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    inputs: Dict[str, Any]


class _Execution(TypedDict):
    id: str
    workflow_id: str
    inputs: Dict[str, Any]
    started_at: Optional[str]
    completed_at: Optional[str]
    created_at: str


class CompletedExecution(_Execution):
    """A run that succeeded."""

    status: Literal["completed"]
    outputs: Dict[str, Any]
    error: None


class FailedExecution(_Execution):
    """A run that failed; `error` says why."""

    status: Literal["failed"]
    outputs: Optional[Dict[str, Any]]
    error: str


class UnfinishedExecution(_Execution):
    """A run that goes on, or was cancelled; `completed_at` may stay `None` then."""

    status: Literal["pending", "running", "paused", "cancelled"]
    outputs: Optional[Dict[str, Any]]
    error: Optional[str]


Execution = Union[CompletedExecution, FailedExecution, UnfinishedExecution]
"""One run of a workflow. All keys are always there; `status` says which of the three it is."""


class _Cancelled(TypedDict):
    id: str
    status: ExecutionStatus


class CancelledExecution(_Cancelled, total=False):
    """The outcome of a cancellation; servers differ in what comes with the status."""

    workflow_id: str
    cancelled_at: str
    message: str


class Agent(TypedDict):
    """An agent."""

    id: str
    name: str
    description: Optional[str]
    system_prompt: Optional[str]
    model: str
    provider: str
    temperature: Optional[float]
    max_tokens: Optional[int]
    available_tools: Optional[List[Any]]
    created_at: str
    updated_at: str


class Memory(TypedDict):
    """What an agent remembers of one user."""

    agent_id: Optional[str]
    user_id: str
    working_memory: Optional[str]
    metadata: Optional[Dict[str, Any]]
    created_at: str
    updated_at: str


class MemoryResult(TypedDict):
    """One hit of a search in an agent's memory, and the messages around it."""

    id: Optional[str]
    content: str
    similarity: float
    role: Optional[str]
    execution_id: Optional[str]
    context_before: Optional[List[Dict[str, Any]]]
    context_after: Optional[List[Dict[str, Any]]]


class MemorySearch(TypedDict):
    """The hits of a search in an agent's memory, best first."""

    query: str
    agent_id: Optional[str]
    result_count: Optional[int]
    results: List[MemoryResult]


class MemoryStats(TypedDict):
    """Figures about an agent's memory."""

    agent_id: Optional[str]
    working_memory_count: Optional[int]
    embedding_count: Optional[int]
    memory_config: Optional[Dict[str, Any]]


class Thread(TypedDict):
    """A conversation with an agent."""

    id: str
    agent_id: str
    title: Optional[str]
    status: ThreadStatus
    metadata: Optional[Dict[str, Any]]
    created_at: str
    updated_at: Optional[str]
    last_message_at: Optional[str]


class ThreadMessage(TypedDict):
    """One message of a thread."""

    id: str
    thread_id: Optional[str]
    role: Literal["user", "assistant", "system", "tool"]
    content: str
    tool_calls: Optional[List[Dict[str, Any]]]
    created_at: str


class TokenUsage(TypedDict):
    """Tokens spent on a message; each `None` where the server did not say."""

    prompt_tokens: Optional[int]
    completion_tokens: Optional[int]
    total_tokens: Optional[int]


class SendMessageResponse(TypedDict):
    """The agent's answer; `content` is `None` when there is none (yet)."""

    thread_id: str
    message_id: Optional[str]
    execution_id: Optional[str]
    status: Optional[Literal["pending", "processing", "completed", "failed"]]
    role: Optional[str]
    content: Optional[str]
    tool_calls: Optional[List[Dict[str, Any]]]
    usage: TokenUsage
    message: Optional[Dict[str, Any]]
    iterations: Optional[int]
    tool_calls_count: Optional[int]
    created_at: Optional[str]


class Trigger(TypedDict):
    """A trigger of a workflow. `type` and `trigger_type` are the same."""

    id: str
    workflow_id: str
    name: str
    type: str
    trigger_type: str
    enabled: bool
    last_triggered_at: Optional[str]
    trigger_count: Optional[int]
    created_at: str
    updated_at: Optional[str]


class ExecuteTriggerResponse(ExecuteWorkflowResponse):
    """An execution that a trigger started."""

    trigger_id: str


class KnowledgeBase(TypedDict):
    """A knowledge base."""

    id: str
    name: str
    description: Optional[str]
    embedding_model: Optional[str]
    chunk_size: Optional[int]
    chunk_overlap: Optional[int]
    document_count: int
    chunk_count: int
    created_at: str
    updated_at: str


class KnowledgeBaseResult(TypedDict):
    """One hit. `id` and `chunk_id` are the same, and so are `score` and `similarity`."""

    id: str
    chunk_id: str
    document_id: str
    document_name: str
    content: str
    similarity: float
    score: float
    metadata: Optional[Dict[str, Any]]


class QueryKnowledgeBaseResponse(TypedDict):
    """The hits of a search in a knowledge base, best first."""

    results: List[KnowledgeBaseResult]
    query: str
    knowledge_base_id: Optional[str]
    top_k: Optional[int]


class Webhook(TypedDict):
    """A webhook subscription."""

    id: str
    name: str
    url: str
    events: List[WebhookEventType]
    headers: Optional[Dict[str, str]]
    is_active: bool
    created_at: Optional[str]
    updated_at: Optional[str]


class WebhookWithSecret(Webhook):
    """A webhook as its creation returns it: the one time that its secret is shown."""

    secret: str


class TestWebhookResponse(TypedDict):
    """How a test delivery went."""

    success: bool
    status_code: Optional[int]
    response_time_ms: Optional[int]
    error: Optional[str]
    message: Optional[str]
    error_message: Optional[str]


class WebhookDelivery(TypedDict):
    """One delivery of an event to a webhook.

    `error_message` stays set on a delivery that failed first and succeeded later.
    """

    id: str
    webhook_id: Optional[str]
    event_type: str
    status: Optional[str]
    attempts: Optional[int]
    response_status: Optional[int]
    response_time_ms: Optional[int]
    error_message: Optional[str]
    created_at: Optional[str]
    last_attempt_at: Optional[str]

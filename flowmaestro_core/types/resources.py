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
    """Facts about the reply itself. Each is `None` if the server did not send it."""

    request_id: Optional[str]
    """The id to report to support; `None` if the response to a deletion has no body."""
    timestamp: Optional[str]
    """Time of the reply, ISO 8601."""


class PaginationInfo(TypedDict):
    """Position of a page among all pages.

    Keys that the server left out are derived from the others, or `None` if they cannot be.
    """

    page: Optional[int]
    """The number of this page, from 1."""
    per_page: Optional[int]
    """Largest number of items of a page."""
    total_count: Optional[int]
    """Number of items on all pages.

    In a list of executions of the deployed server, it is exact only with `workflow_id` and without
    `status`.
    """
    total_pages: Optional[int]
    """Number of pages."""
    has_more: Optional[bool]
    """Whether another page follows; the same as `has_next`."""
    has_next: Optional[bool]
    """Whether another page follows; the same as `has_more`."""
    has_prev: Optional[bool]
    """Whether a page precedes this one."""


class ApiError(TypedDict):
    """The `error` object of an error reply."""

    code: str
    """Machine-readable kind of the error, such as `validation_error` or `resource_not_found`."""
    message: str
    """Explanation for people."""
    details: Optional[Dict[str, Any]]
    """Further facts, such as `limit` and `window` of a 429; `None` if there is nothing."""


class DeletedResource(TypedDict):
    """The `data` of the reply to a deletion."""

    id: str
    deleted: bool
    """True, as a rule."""


class WorkflowInput(TypedDict, total=False):
    """The declaration of one input that a workflow takes."""

    type: str
    """Kind of the input. Its values are not documented."""
    label: str
    """Label of the input node, for people."""
    required: bool
    """Whether a run needs it. The server does not check."""
    description: str
    """Purpose."""


class Workflow(TypedDict):
    """A workflow. `input_schema` is a JSON Schema object that describes the inputs of a run.

    If the server sends `inputs` instead, the SDK derives the schema from them, and marks it with
    `"x-unverified": true`. The keys of `inputs` are ids of nodes. A run may read its inputs under
    other names.
    """

    id: str
    name: str
    description: Optional[str]
    """Purpose; `None` if there is none."""
    version: int
    """The number of its current version."""
    inputs: Optional[Dict[str, WorkflowInput]]
    """Its input nodes by their ids.

    `None` in a list, if there are none, or if the server sends `input_schema` instead.
    """
    input_schema: Optional[Dict[str, Any]]
    """A JSON Schema object for the inputs of a run; `None` in a list, and if none are declared."""
    created_at: str
    updated_at: str


class ExecuteWorkflowResponse(TypedDict):
    """A started execution."""

    execution_id: str
    """The id of the execution that was started."""
    workflow_id: str
    status: ExecutionStatus
    """`pending`, as a rule."""
    inputs: Dict[str, Any]
    """The inputs as the server has stored them."""


class _Execution(TypedDict):
    id: str
    workflow_id: str
    inputs: Dict[str, Any]
    """The inputs as the server has stored them."""
    started_at: Optional[str]
    """Time of its start, ISO 8601; `None` if it has not started."""
    completed_at: Optional[str]
    """Time of its end, ISO 8601; `None` before, and on the deployed server if it was cancelled."""
    created_at: str


class CompletedExecution(_Execution):
    """A run that succeeded."""

    status: Literal["completed"]
    outputs: Dict[str, Any]
    """Outputs of the workflow, by name."""
    error: None


class FailedExecution(_Execution):
    """A run that failed; `error` says why."""

    status: Literal["failed"]
    outputs: Optional[Dict[str, Any]]
    """Outputs from before the failure; `None` as a rule."""
    error: str
    """Reason of the failure, for people. The text of the failed node is inside."""


class UnfinishedExecution(_Execution):
    """A run that has not ended, or was cancelled.

    `completed_at` may stay `None` after a cancellation.
    """

    status: Literal["pending", "running", "paused", "cancelled"]
    outputs: Optional[Dict[str, Any]]
    """`None` until it completes."""
    error: Optional[str]
    """`None`, except where a cancellation has a reason."""


Execution = Union[CompletedExecution, FailedExecution, UnfinishedExecution]
"""One run of a workflow. All keys are always there; `status` says which of the three it is."""


class _Cancelled(TypedDict):
    id: str
    status: ExecutionStatus
    """`cancelled`, or the status that the execution had reached before."""


class CancelledExecution(_Cancelled, total=False):
    """The outcome of a cancellation. Which of the optional keys it has depends on the server.

    If the reply was lost, it may be the execution as polled afterwards, with the keys of
    `Execution`.
    """

    workflow_id: str
    cancelled_at: str
    """Time of the cancellation, ISO 8601; only the documented API sends it."""
    message: str
    """The deployed server's comment on the cancellation."""


class Agent(TypedDict):
    """An agent."""

    id: str
    name: str
    description: Optional[str]
    """Purpose; `None` if there is none."""
    system_prompt: Optional[str]
    """The instructions that each of its answers follows; `None` in a list."""
    model: str
    """The name of its language model."""
    provider: str
    """Provider of the model. Its values are not documented."""
    temperature: Optional[float]
    """Temperature of the model. Its range is not documented. `None` if the server sends none."""
    max_tokens: Optional[int]
    """Largest number of tokens of an answer; `None` if the server sends none."""
    available_tools: Optional[List[Any]]
    """The tools that it may use; `None` in a list. Their keys are not documented."""
    created_at: str
    updated_at: str


class Memory(TypedDict):
    """Memory of an agent about one user."""

    agent_id: Optional[str]
    """The agent that remembers; `None` if the server leaves it out."""
    user_id: str
    working_memory: Optional[str]
    """Notes of the agent about the user, as text; `None` if there are none."""
    metadata: Optional[Dict[str, Any]]
    """Data that a program stored with it; `None` if there is none."""
    created_at: str
    updated_at: str


class MemoryResult(TypedDict):
    """One hit of a search in an agent's memory, and the messages around it."""

    id: Optional[str]
    content: str
    """The text of the message that was found."""
    similarity: float
    """Similarity to the query; more is better. Its range is not documented."""
    role: Optional[str]
    """Author, `user` or `assistant`; `None` if the server leaves it out."""
    execution_id: Optional[str]
    """The execution in which it was written; `None` if the server leaves it out."""
    context_before: Optional[List[Dict[str, Any]]]
    """Messages before it; `None` if the server sends none. They may hold embeddings as text."""
    context_after: Optional[List[Dict[str, Any]]]
    """Messages after it; `None` if the server sends none. They may hold embeddings as text."""


class MemorySearch(TypedDict):
    """The hits of a search in an agent's memory, best first."""

    query: str
    """Text of the search."""
    agent_id: Optional[str]
    result_count: Optional[int]
    """Number of hits; `None` if the server does not count them."""
    results: List[MemoryResult]
    """The hits, best first."""


class MemoryStats(TypedDict):
    """Figures about an agent's memory."""

    agent_id: Optional[str]
    working_memory_count: Optional[int]
    """Number of working memories; `None` if the server does not say."""
    embedding_count: Optional[int]
    """Number of embeddings; `None` if the server does not say."""
    memory_config: Optional[Dict[str, Any]]
    """Settings of the memory, `type` and `max_messages`; `None` if the server does not say."""


class Thread(TypedDict):
    """A conversation with an agent."""

    id: str
    agent_id: str
    title: Optional[str]
    """Its title; `None` if it has none."""
    status: ThreadStatus
    """Whether it can be continued: `active`, `archived` or `deleted`."""
    metadata: Optional[Dict[str, Any]]
    """Data that a program stored with it; `None` if there is none.

    The deployed server stores none.
    """
    created_at: str
    updated_at: Optional[str]
    last_message_at: Optional[str]
    """Time of its last message, ISO 8601; `None` if there is none."""


class ThreadMessage(TypedDict):
    """One message of a thread."""

    id: str
    thread_id: Optional[str]
    """Its thread; `None` if the server leaves it out."""
    role: Literal["user", "assistant", "system", "tool"]
    """Author."""
    content: str
    """Its text."""
    tool_calls: Optional[List[Dict[str, Any]]]
    """Uses of tools; `None` if there are none. Their keys are not documented."""
    created_at: str


class TokenUsage(TypedDict):
    """Tokens spent on a message. Each count is `None` if the server did not send it."""

    prompt_tokens: Optional[int]
    """Tokens that the model read."""
    completion_tokens: Optional[int]
    """Tokens that the model wrote."""
    total_tokens: Optional[int]
    """Tokens that the model read and wrote, together."""


class SendMessageResponse(TypedDict):
    """The agent's answer; `content` is `None` if it has no text, or is still to come."""

    thread_id: str
    message_id: Optional[str]
    """The id of the answer; `None` if the server does not say."""
    execution_id: Optional[str]
    """The execution that made the answer; `None` if the server does not say."""
    status: Optional[Literal["pending", "processing", "completed", "failed"]]
    """`completed` as a rule; `None` if the server does not say."""
    role: Optional[str]
    """`assistant`; `None` if there is no answer."""
    content: Optional[str]
    """The answer's text; `None` if there is none yet."""
    tool_calls: Optional[List[Dict[str, Any]]]
    """Uses of tools; `None` if there are none. Their keys are not documented."""
    usage: TokenUsage
    """Tokens spent on the answer."""
    message: Optional[Dict[str, Any]]
    """The answer as the deployed server sends it; `None` on the documented API."""
    iterations: Optional[int]
    """Number of iterations of the agent. What counts as one is not documented. `None` if the server
    does not say."""
    tool_calls_count: Optional[int]
    """Number of uses of a tool; `None` if the server does not say."""
    created_at: Optional[str]


class Trigger(TypedDict):
    """A trigger of a workflow. `type` and `trigger_type` are the same."""

    id: str
    workflow_id: str
    name: str
    type: str
    """Kind of the trigger. Its values are not documented."""
    trigger_type: str
    """The same as `type`."""
    enabled: bool
    """Whether it can fire. `triggers.execute` of one that is disabled raises `ValidationError`."""
    last_triggered_at: Optional[str]
    """Time when it last fired, ISO 8601; `None` if never."""
    trigger_count: Optional[int]
    """Number of times that it has fired; `None` if the server does not say."""
    created_at: str
    updated_at: Optional[str]


class ExecuteTriggerResponse(ExecuteWorkflowResponse):
    """An execution that a trigger started, with the id of the trigger."""

    trigger_id: str


class KnowledgeBase(TypedDict):
    """A knowledge base."""

    id: str
    name: str
    description: Optional[str]
    """Purpose; `None` if there is none."""
    embedding_model: Optional[str]
    """The model that makes its texts searchable; `None` in a list of the deployed server."""
    chunk_size: Optional[int]
    """Size of a part of a document, in an undocumented unit; `None` if the server does not say."""
    chunk_overlap: Optional[int]
    """Overlap of two parts, in the same unit; `None` if the server does not say."""
    document_count: int
    """Number of its documents."""
    chunk_count: int
    """Number of parts of its documents."""
    created_at: str
    updated_at: str


class KnowledgeBaseResult(TypedDict):
    """One hit. `id` and `chunk_id` are the same, and so are `score` and `similarity`."""

    id: str
    chunk_id: str
    document_id: str
    """The document that holds the part."""
    document_name: str
    """Name of that document."""
    content: str
    """The text of the part."""
    similarity: float
    """Similarity to the query; more is better. The same as `score`. Its range is not documented."""
    score: float
    """The same as `similarity`."""
    metadata: Optional[Dict[str, Any]]
    """Data stored with the part; `None` if there is none."""


class QueryKnowledgeBaseResponse(TypedDict):
    """The hits of a search in a knowledge base, best first."""

    results: List[KnowledgeBaseResult]
    """The hits, best first."""
    query: str
    """Text of the search."""
    knowledge_base_id: Optional[str]
    top_k: Optional[int]
    """Largest number of hits; `None` if the server does not say."""


class Webhook(TypedDict):
    """A webhook subscription."""

    id: str
    name: str
    url: str
    """Address of your receiver."""
    events: List[WebhookEventType]
    """The events that are delivered."""
    headers: Optional[Dict[str, str]]
    """Header fields of each delivery; `None` in a list, and if there are none.

    A `repr` hides the values that may be credentials.
    """
    is_active: bool
    """Whether events are delivered."""
    created_at: Optional[str]
    updated_at: Optional[str]


class WebhookWithSecret(Webhook):
    """A webhook as its creation returns it: the one time that its secret is shown."""

    secret: str
    """The key of the signature. Store it: it is not shown again."""


class TestWebhookResponse(TypedDict):
    """Outcome of a test delivery."""

    success: bool
    """Whether your receiver answered with 2xx."""
    status_code: Optional[int]
    """Status of its answer; `None` if it did not answer, or if the server does not say."""
    response_time_ms: Optional[int]
    """Time that it took, in milliseconds; `None` if the server does not say."""
    error: Optional[str]
    """Reason why it did not answer, from the deployed server; else `None`."""
    message: Optional[str]
    """Comment of the deployed server on the test; `None` on the documented API."""
    error_message: Optional[str]
    """Reason of the failure; `None` if it succeeded."""


class WebhookDelivery(TypedDict):
    """One delivery of an event to a webhook.

    `error_message` stays set on a delivery that failed first and succeeded later.
    """

    id: str
    webhook_id: Optional[str]
    """The webhook; `None` if the server leaves it out."""
    event_type: str
    """Event that was delivered."""
    status: Optional[str]
    """State of the delivery; `None` on the deployed server."""
    attempts: Optional[int]
    """Number of attempts; `None` if the server does not say."""
    response_status: Optional[int]
    """Status of your receiver's answer to the last attempt; `None` if it did not answer."""
    response_time_ms: Optional[int]
    """Time that the last attempt took, in milliseconds; `None` if the server does not say."""
    error_message: Optional[str]
    """Reason of a failed attempt; `None` if none failed."""
    created_at: Optional[str]
    last_attempt_at: Optional[str]
    """Time of the last attempt, ISO 8601; `None` if there was none."""

"""A program written for `flowmaestro` 0.1.0 runs on this one.

The tables are the public surface of 0.1.0: names, constructors, and every method with its
parameters. An upgrade of the distribution puts this package in the place of that one, so what
was accepted then is accepted now. More may be accepted now, and more may be there.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any, Callable, Dict, Tuple

import anyio
import pytest

import flowmaestro
import flowmaestro.errors
import flowmaestro.resources
import flowmaestro.types
from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport

NAMES = [
    "AsyncFlowMaestroClient",
    "AuthenticationError",
    "AuthorizationError",
    "ConnectionError",
    "FlowMaestroClient",
    "FlowMaestroError",
    "NotFoundError",
    "RateLimitError",
    "ServerError",
    "StreamError",
    "TimeoutError",
    "ValidationError",
    "__version__",
]

TYPES = [
    "Agent",
    "ApiError",
    "ExecuteTriggerResponse",
    "ExecuteWorkflowResponse",
    "Execution",
    "ExecutionEvent",
    "ExecutionEventType",
    "ExecutionStatus",
    "KnowledgeBase",
    "KnowledgeBaseResult",
    "OnCloseCallback",
    "OnErrorCallback",
    "OnEventCallback",
    "OnTokenCallback",
    "PaginationInfo",
    "QueryKnowledgeBaseResponse",
    "ResponseMeta",
    "SendMessageResponse",
    "TestWebhookResponse",
    "Thread",
    "ThreadEvent",
    "ThreadEventType",
    "ThreadMessage",
    "ThreadStatus",
    "Trigger",
    "Webhook",
    "WebhookEventType",
    "Workflow",
    "WorkflowInput",
]

RESOURCES = [
    "AsyncAgents",
    "AsyncExecutions",
    "AsyncKnowledgeBases",
    "AsyncThreads",
    "AsyncTriggers",
    "AsyncWebhooks",
    "AsyncWorkflows",
    "SyncAgents",
    "SyncExecutions",
    "SyncKnowledgeBases",
    "SyncThreads",
    "SyncTriggers",
    "SyncWebhooks",
    "SyncWorkflows",
]

CLIENT = "api_key, *, base_url=None, timeout=None, max_retries=None, headers=None"

ERRORS: Dict[str, str] = {
    "FlowMaestroError": (
        "message, code='unknown_error', status_code=None, request_id=None, details=None"
    ),
    "AuthenticationError": (
        "message='Authentication failed', code='authentication_error', request_id=None, "
        "details=None"
    ),
    "AuthorizationError": (
        "message='Authorization failed', code='authorization_error', request_id=None, details=None"
    ),
    "NotFoundError": (
        "message='Resource not found', code='not_found', request_id=None, details=None"
    ),
    "ValidationError": (
        "message='Validation failed', code='validation_error', request_id=None, details=None"
    ),
    "RateLimitError": (
        "message='Rate limit exceeded', code='rate_limit_exceeded', request_id=None, "
        "details=None, retry_after=None"
    ),
    "ServerError": (
        "message='Server error', code='server_error', status_code=500, request_id=None, "
        "details=None"
    ),
    "TimeoutError": "message='Request timed out'",
    "ConnectionError": "message='Unable to connect to FlowMaestro API'",
    "StreamError": "message='Stream error', details=None",
}
STATUSES = {
    "AuthenticationError": 401,
    "AuthorizationError": 403,
    "NotFoundError": 404,
    "ValidationError": 400,
    "RateLimitError": 429,
    "ServerError": 500,
}

METHODS: Dict[str, str] = {
    "workflows.list": "*, page=None, per_page=None",
    "workflows.get": "workflow_id",
    "workflows.execute": "workflow_id, *, inputs=None",
    "executions.list": "*, page=None, per_page=None, workflow_id=None, status=None",
    "executions.get": "execution_id",
    "executions.cancel": "execution_id",
    "executions.wait_for_completion": "execution_id, *, poll_interval=1.0, timeout=300.0",
    "executions.stream": "execution_id",
    "agents.list": "*, page=None, per_page=None",
    "agents.get": "agent_id",
    "agents.create_thread": "agent_id, *, metadata=None",
    "threads.get": "thread_id",
    "threads.list_messages": "thread_id, *, page=None, per_page=None",
    "threads.send_message": "thread_id, content, *, stream=False",
    "threads.send_message_stream": "thread_id, content",
    "threads.stream": "thread_id",
    "threads.delete": "thread_id",
    "triggers.list": "*, page=None, per_page=None",
    "triggers.execute": "trigger_id, *, inputs=None",
    "knowledge_bases.list": "*, page=None, per_page=None",
    "knowledge_bases.get": "knowledge_base_id",
    "knowledge_bases.query": "knowledge_base_id, query, *, top_k=None",
    "webhooks.list": "*, page=None, per_page=None",
    "webhooks.get": "webhook_id",
    "webhooks.create": "name, url, events, *, headers=None",
    "webhooks.delete": "webhook_id",
    "webhooks.test": "webhook_id",
}
ITERATING = {"executions.stream", "threads.send_message_stream", "threads.stream"}


def signature(written: str) -> inspect.Signature:
    """The signature that a parameter list in Python's own notation stands for."""
    arguments = ast.parse(f"def f({written}): ...").body[0].args  # type: ignore[attr-defined]
    defaults = [ast.literal_eval(default) for default in arguments.defaults]
    empty = inspect.Parameter.empty
    padded = [empty] * (len(arguments.args) - len(defaults)) + defaults
    positional = [
        inspect.Parameter(arg.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for arg, default in zip(arguments.args, padded)
    ]
    named = [
        inspect.Parameter(
            arg.arg,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if default is None else ast.literal_eval(default),
        )
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
    ]
    return inspect.Signature([*positional, *named])


def assert_accepts(ours: inspect.Signature, theirs: inspect.Signature) -> None:
    """Every call that fits `theirs` fits `ours`, and means the same.

    Each parameter is there, at the same place if it may be given by place, by the same name, and
    optional if it was; nothing new is required.
    """
    by_place = [p.name for p in ours.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    for place, (name, parameter) in enumerate(theirs.parameters.items()):
        found = ours.parameters.get(name)
        assert found is not None, name
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert by_place[place : place + 1] == [name]
        if parameter.default is not parameter.empty:
            assert found.default is not found.empty, name
    for name, parameter in ours.parameters.items():
        known = name in theirs.parameters or parameter.default is not parameter.empty
        assert known or parameter.kind is parameter.VAR_KEYWORD, f"{name} is newly required"


@pytest.mark.parametrize("name", NAMES)
def test_the_package_has_its_names(name: str) -> None:
    assert name in flowmaestro.__all__
    assert hasattr(flowmaestro, name)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (flowmaestro.types, TYPES),
        (flowmaestro.resources, RESOURCES),
        (flowmaestro.errors, [*ERRORS, "parse_api_error"]),
    ],
    ids=["types", "resources", "errors"],
)
def test_the_modules_have_their_names(module: Any, names: list[str]) -> None:
    assert set(names) <= set(module.__all__)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("client", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_clients_are_made_the_same_way(client: Callable[..., Any]) -> None:
    assert_accepts(inspect.signature(client), signature(CLIENT))
    client("fm_live_k", base_url=None, timeout=None, max_retries=None, headers=None)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_made_the_same_way(name: str) -> None:
    kind, theirs = getattr(flowmaestro.errors, name), signature(ERRORS[name])
    assert_accepts(inspect.signature(kind), theirs)
    assert issubclass(kind, flowmaestro.FlowMaestroError)
    error = kind("words", *([] if len(theirs.parameters) < 4 else ["a_code"]))
    assert error.message == "words"
    assert error.args[0] == "words"
    assert error.status_code == STATUSES.get(name)
    assert error.request_id is None
    assert error.details is None
    if len(theirs.parameters) >= 4:
        assert str(error) == "[a_code] words"
        assert repr(error).startswith(f"{name}(message='words', code='a_code', status_code=")


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "FlowMaestroError"])
def test_errors_have_the_same_defaults(name: str) -> None:
    error = getattr(flowmaestro.errors, name)()
    for parameter in signature(ERRORS[name]).parameters.values():
        assert getattr(error, parameter.name) == parameter.default


def test_error_codes_of_the_network() -> None:
    assert flowmaestro.TimeoutError().code == "timeout"
    assert flowmaestro.ConnectionError().code == "connection_error"
    assert flowmaestro.StreamError().code == "stream_error"


@pytest.mark.parametrize(
    ("status", "name"),
    [*((status, name) for name, status in STATUSES.items()), (418, "FlowMaestroError")],
)
def test_parse_api_error(status: int, name: str) -> None:
    body = {"error": {"code": "c", "message": "m", "details": {"retry_after": 7}}}
    error = flowmaestro.errors.parse_api_error(status, body, "req_1")
    assert type(error).__name__ == name
    assert (error.code, error.message, error.request_id) == ("c", "m", "req_1")


def method_of(client: Any, name: str) -> Callable[..., Any]:
    resource, method = name.split(".")
    found: Callable[..., Any] = getattr(getattr(client, resource), method)
    return found


@pytest.fixture(params=["blocking", "awaiting"])
def client(request: pytest.FixtureRequest) -> Any:
    fake = FakeFlowMaestro()
    if request.param == "blocking":
        return FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))
    return AsyncFlowMaestroClient(fake.api_key, transport=AsyncMemoryTransport(fake))


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_same_arguments(name: str, client: Any) -> None:
    method = method_of(client, name)
    assert_accepts(inspect.signature(method), signature(METHODS[name]))
    for parameter in signature(METHODS[name]).parameters.values():
        if parameter.default not in (None, parameter.empty):
            assert inspect.signature(method).parameters[parameter.name].default == parameter.default
    awaiting = isinstance(client, AsyncFlowMaestroClient)
    assert inspect.iscoroutinefunction(method) == (awaiting and name not in ITERATING)


WALK: Tuple[Tuple[str, Tuple[Any, ...], Dict[str, Any]], ...] = (
    ("workflows.list", (), {"page": 1, "per_page": 5}),
    ("workflows.get", ("wf_123",), {}),
    ("workflows.execute", ("wf_123",), {"inputs": {"name": "John"}}),
    ("executions.list", (), {"workflow_id": "wf_123", "status": "completed"}),
    ("executions.stream", ("exec_xyz789",), {}),
    ("executions.wait_for_completion", ("exec_xyz789",), {"poll_interval": 1.0, "timeout": 9.0}),
    ("executions.get", ("exec_xyz789",), {}),
    ("agents.list", (), {}),
    ("agents.get", ("agent_abc123",), {}),
    ("agents.create_thread", ("agent_abc123",), {"metadata": {"user_id": "user_456"}}),
    ("threads.get", ("thread_xyz789",), {}),
    ("threads.send_message", ("thread_xyz789", "Hello"), {"stream": False}),
    ("threads.send_message_stream", ("thread_xyz789", "Hello"), {}),
    ("threads.list_messages", ("thread_xyz789",), {"page": 1, "per_page": 5}),
    ("threads.delete", ("thread_xyz789",), {}),
    ("triggers.list", (), {}),
    ("triggers.execute", ("trigger_abc123",), {"inputs": {}}),
    ("knowledge_bases.list", (), {}),
    ("knowledge_bases.get", ("kb_abc123",), {}),
    ("knowledge_bases.query", ("kb_abc123", "password"), {"top_k": 2}),
    ("webhooks.list", (), {}),
    ("webhooks.create", ("n", "https://hooks.example.com/n", ["execution.completed"]), {}),
    ("webhooks.get", ("wh_abc123",), {}),
    ("webhooks.test", ("wh_abc123",), {}),
    ("webhooks.delete", ("wh_abc123",), {}),
)
"""A program that calls what there was to call, in an order that makes sense."""


def assert_as_it_was(name: str, value: Any) -> None:
    if name in ITERATING:
        assert value[-1]["type"] in ("execution:completed", "message:completed")
    elif name == "executions.wait_for_completion":
        assert value["status"] == "completed"
    else:
        assert isinstance(value, dict)
        assert "data" in value


def test_a_blocking_program_runs() -> None:
    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        for name, args, options in WALK:
            value = method_of(client, name)(*args, **options)
            assert_as_it_was(name, list(value) if name in ITERATING else value)


def test_an_awaiting_program_runs() -> None:
    async def main() -> None:
        fake = FakeFlowMaestro()
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            for name, args, options in WALK:
                called = method_of(client, name)(*args, **options)
                if name in ITERATING:
                    assert_as_it_was(name, [event async for event in called])
                else:
                    assert_as_it_was(name, await called)

    anyio.run(main)


@pytest.mark.parametrize("shapes", ["deployed", "documented"])
def test_messages_are_where_the_published_example_reads_them(shapes: Any) -> None:
    fake = FakeFlowMaestro(shapes=shapes)
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        client.threads.send_message("thread_xyz789", "Hello")
        data: Any = client.threads.list_messages("thread_xyz789")["data"]
    assert [message["role"] for message in data["messages"]][-2:] == ["user", "assistant"]
    assert list(data) == data["messages"]


def test_the_old_cancellation_still_cancels() -> None:
    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        assert client.executions.cancel("exec_xyz789")["data"]["status"] == "cancelled"

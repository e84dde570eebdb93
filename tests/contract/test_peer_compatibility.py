"""A program written for `flowmaestro` 0.1.0 runs on this one.

The tables are the public surface of 0.1.0: names, constructors, and every method with its
parameters. An upgrade of the distribution puts this package in the place of that one, so what
was accepted then is accepted now. More may be accepted now, and more may be there.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict

import pytest

import flowmaestro
import flowmaestro.errors
import flowmaestro.resources
import flowmaestro.types
from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient

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
    f"{kind}{name}"
    for kind in ("Async", "Sync")
    for name in (
        *("Agents", "Executions", "KnowledgeBases", "Threads"),
        *("Triggers", "Webhooks", "Workflows"),
    )
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
NAMES = ["AsyncFlowMaestroClient", "FlowMaestroClient", "__version__", *ERRORS]

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


def signature(written: str) -> inspect.Signature:
    """The signature that a parameter list in Python's own notation stands for."""
    return inspect.signature(eval(f"lambda {written}: None"))


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


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_same_arguments(name: str) -> None:
    """Both clients have the same: `tests/house/test_public_surface.py`."""
    resource, _, method = name.partition(".")
    client = FlowMaestroClient("fm_live_k", transport=lambda request: pytest.fail("sent"))
    ours = inspect.signature(getattr(getattr(client, resource), method))
    theirs = signature(METHODS[name])
    assert_accepts(ours, theirs)
    for parameter in theirs.parameters.values():
        if parameter.default not in (None, parameter.empty):
            assert ours.parameters[parameter.name].default == parameter.default

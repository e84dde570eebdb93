"""What users of other SDKs write by habit, and what to write here instead. Pure.

The tables are consulted only after Python's own error, for a name that does not exist. So
signatures and the time of a call stay as they are.
"""

from __future__ import annotations

import re
from functools import wraps
from typing import Any, Callable, Mapping, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_SET_FOR_ONE_CALL = "set it for one call with client.with_options({0}=...)"
_ON_A_TRANSPORT = "pass transport=SocketTransport({0}=...), or AnyioTransport for the async client"
_OWN_STACK = "pass transport=, such as RequestsTransport(session) or AiohttpTransport(session)"
_USE = "use {0}="

OF_CLIENT: Mapping[str, str] = {
    # requests, httpx
    "verify": _ON_A_TRANSPORT.format("verify"),
    "proxy": _ON_A_TRANSPORT.format("proxy"),
    "proxies": _ON_A_TRANSPORT.format("proxy"),
    "cert": _ON_A_TRANSPORT.format("client_cert"),
    "trust_env": _ON_A_TRANSPORT.format("trust_env"),
    "session": _OWN_STACK,
    # openai, anthropic
    "http_client": _OWN_STACK,
    "default_headers": _USE.format("headers"),
    "extra_headers": _USE.format("headers"),
    # stripe, boto3
    "key": _USE.format("api_key"),
    "token": _USE.format("api_key"),
    "max_network_retries": _USE.format("max_retries"),
    "retries": _USE.format("max_retries"),
    "endpoint_url": _USE.format("base_url"),
    "url": _USE.format("base_url"),
    "host": _USE.format("base_url"),
}
"""For unknown arguments of a client, and of its `with_options`: what to write instead."""

OF_METHODS: Mapping[str, str] = {
    "timeout": _SET_FOR_ONE_CALL.format("timeout"),
    "max_retries": _SET_FOR_ONE_CALL.format("max_retries"),
    "headers": _SET_FOR_ONE_CALL.format("headers"),
    "extra_headers": _SET_FOR_ONE_CALL.format("headers"),
    "api_key": _SET_FOR_ONE_CALL.format("api_key"),
    "input": _USE.format("inputs"),
    "params": _USE.format("inputs"),
    "variables": _USE.format("inputs"),
    "payload": _USE.format("inputs"),
    "limit": _USE.format("per_page"),
    "page_size": _USE.format("per_page"),
    "stream": "use the method whose name has stream in it",
}
"""For unknown arguments of the methods of a client: what to write instead."""

_METHODS: Mapping[str, Mapping[str, str]] = {
    "workflows": {
        "retrieve": "get",
        "start": "execute",
        "invoke": "run",
        "call": "run",
        "list_all": "iterate",
        "executions": "client.executions.list(workflow_id=...)",
    },
    "executions": {
        "retrieve": "get",
        "wait": "wait_for_completion",
        "poll": "wait_for_completion",
        "result": "wait_for_completion",
        "events": "stream",
        "list_all": "iterate",
        "create": "client.workflows.execute",
    },
    "agents": {
        "retrieve": "get",
        "chat": "client.threads.send_message, on a thread of client.agents.create_thread",
        "run": "client.threads.send_message, on a thread of client.agents.create_thread",
        "send_message": "client.threads.send_message",
        "list_all": "iterate",
    },
    "threads": {
        "retrieve": "get",
        "create": "client.agents.create_thread",
        "send": "send_message",
        "chat": "send_message",
        "messages": "list_messages",
    },
    "triggers": {"fire": "execute", "run": "execute", "list_all": "iterate"},
    "knowledge_bases": {"retrieve": "get", "search": "query", "list_all": "iterate"},
    "webhooks": {
        "retrieve": "get",
        "verify": "flowmaestro.webhooks.verify",
        "construct_event": "flowmaestro.webhooks.parse",
        "list_all": "iterate",
    },
    "client": {
        "runs": "client.executions",
        "chat": "client.threads.send_message_stream",
        "messages": "client.threads.list_messages",
        "completions": "client.workflows.run",
        "run": "client.workflows.run",
        "execute": "client.workflows.execute",
        "get": 'client.request("GET", path)',
        "post": 'client.request("POST", path, json=...)',
    },
}

_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


def add_hint(error: TypeError, hints: Mapping[str, str]) -> None:
    """Add what to write instead to Python's own error about an unknown argument, in place.

    Any other error stays as it is. Call this in the function whose call raised `error`, so that an
    error from within the called function is recognised by its traceback.
    """
    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        return
    found = _UNKNOWN_ARGUMENT.search(str(error))
    hint = hints.get(found.group(1)) if found else None
    if hint:
        error.args = (f"{error}; {hint}",)


def with_hints(hints: Mapping[str, str]) -> Callable[[F], F]:
    """Return a decorator that adds `hints` to the errors about unknown arguments of a function."""

    def decorate(function: F) -> F:
        @wraps(function)
        def hinting(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                add_hint(error, hints)
                raise

        return cast("F", hinting)

    return decorate


def unknown_attribute(owner: object, group: str, name: str) -> AttributeError:
    """Return the error for an attribute that does not exist, with what to write instead.

    `group` is `client`, or the name of a resource, such as `workflows`.
    """
    said = f"{type(owner).__name__!r} object has no attribute {name!r}"
    instead = _METHODS.get(group, {}).get(name, "")
    if instead.isidentifier():
        instead = f"client.{group}.{instead}"
    return AttributeError(f"{said}; use {instead}" if instead else said)

"""The types of a client's resources, for annotations: `def report(agents: SyncAgents) -> None`.

Each class is made when it is first read. Only then are the endpoints of its resource, and the
machines that they need, imported.
"""

from __future__ import annotations

from types import new_class
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from flowmaestro_core import resources as core
    from flowmaestro_core.operation import Async, Sync

    class SyncAgents(core.Agents[Sync]):
        """`client.agents` of a sync client."""

    class AsyncAgents(core.Agents[Async]):
        """`client.agents` of an async client."""

    class SyncExecutions(core.Executions[Sync]):
        """`client.executions` of a sync client."""

    class AsyncExecutions(core.Executions[Async]):
        """`client.executions` of an async client."""

    class SyncKnowledgeBases(core.KnowledgeBases[Sync]):
        """`client.knowledge_bases` of a sync client."""

    class AsyncKnowledgeBases(core.KnowledgeBases[Async]):
        """`client.knowledge_bases` of an async client."""

    class SyncThreads(core.Threads[Sync]):
        """`client.threads` of a sync client."""

    class AsyncThreads(core.Threads[Async]):
        """`client.threads` of an async client."""

    class SyncTriggers(core.Triggers[Sync]):
        """`client.triggers` of a sync client."""

    class AsyncTriggers(core.Triggers[Async]):
        """`client.triggers` of an async client."""

    class SyncWebhooks(core.Webhooks[Sync]):
        """`client.webhooks` of a sync client."""

    class AsyncWebhooks(core.Webhooks[Async]):
        """`client.webhooks` of an async client."""

    class SyncWorkflows(core.Workflows[Sync]):
        """`client.workflows` of a sync client."""

    class AsyncWorkflows(core.Workflows[Async]):
        """`client.workflows` of an async client."""


__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flowmaestro_core import operation, resources

    marker = operation.Async if name.startswith("Async") else operation.Sync
    resource = getattr(resources, name[len(marker.__name__) :])
    about = {"__module__": __name__, "__doc__": resource.__doc__}
    made = new_class(name, (resource[marker],), exec_body=lambda body: body.update(about))
    return globals().setdefault(name, made)  # Two threads that make it get the same class.


def __dir__() -> List[str]:
    return __all__

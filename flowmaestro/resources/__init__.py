"""The types of a client's resources, for annotations: `def report(agents: SyncAgents) -> None`.

Each is imported, and with it the machines that it needs, when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from flowmaestro.resources.agents import AsyncAgents, SyncAgents
    from flowmaestro.resources.executions import AsyncExecutions, SyncExecutions
    from flowmaestro.resources.knowledge_bases import AsyncKnowledgeBases, SyncKnowledgeBases
    from flowmaestro.resources.threads import AsyncThreads, SyncThreads
    from flowmaestro.resources.triggers import AsyncTriggers, SyncTriggers
    from flowmaestro.resources.webhooks import AsyncWebhooks, SyncWebhooks
    from flowmaestro.resources.workflows import AsyncWorkflows, SyncWorkflows

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

_MODULES = {
    "Agents": "agents",
    "Executions": "executions",
    "KnowledgeBases": "knowledge_bases",
    "Threads": "threads",
    "Triggers": "triggers",
    "Webhooks": "webhooks",
    "Workflows": "workflows",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The whole package first: threads that each began with another module of it could deadlock,
    # and Python would give one of them a half-made module.
    import_module("flowmaestro_core.resources")
    module = _MODULES[name.removeprefix("Async").removeprefix("Sync")]
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __dir__() -> List[str]:
    return __all__

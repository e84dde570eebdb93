"""The types of a client's resources, for annotations: `def report(agents: SyncAgents) -> None`."""

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

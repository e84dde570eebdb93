"""The seven resources: every endpoint of the API, written once as a pure builder."""

from flowmaestro_core.resources.agents import Agents
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.knowledge_bases import KnowledgeBases
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.resources.triggers import Triggers
from flowmaestro_core.resources.webhooks import Webhooks
from flowmaestro_core.resources.workflows import Workflows

__all__ = [
    "Agents",
    "Executions",
    "KnowledgeBases",
    "Threads",
    "Triggers",
    "Webhooks",
    "Workflows",
]

"""The types of `client.agents`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.agents import Agents

SyncAgents = Agents[Sync]
AsyncAgents = Agents[Async]

__all__ = ["Agents", "AsyncAgents", "SyncAgents"]

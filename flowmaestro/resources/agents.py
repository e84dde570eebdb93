"""The types of `client.agents`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.agents import Agents


class SyncAgents(Agents[Sync]):
    """`client.agents` of a sync client."""


class AsyncAgents(Agents[Async]):
    """`client.agents` of an async client."""


__all__ = ["Agents", "AsyncAgents", "SyncAgents"]

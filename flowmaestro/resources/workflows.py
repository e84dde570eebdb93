"""The types of `client.workflows`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.workflows import Workflows


class SyncWorkflows(Workflows[Sync]):
    """`client.workflows` of a sync client."""


class AsyncWorkflows(Workflows[Async]):
    """`client.workflows` of an async client."""


__all__ = ["AsyncWorkflows", "SyncWorkflows", "Workflows"]

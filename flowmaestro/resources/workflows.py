"""The types of `client.workflows`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.workflows import Workflows

SyncWorkflows = Workflows[Sync]
AsyncWorkflows = Workflows[Async]

__all__ = ["AsyncWorkflows", "SyncWorkflows", "Workflows"]

"""The types of `client.executions`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.executions import Executions

SyncExecutions = Executions[Sync]
AsyncExecutions = Executions[Async]

__all__ = ["AsyncExecutions", "Executions", "SyncExecutions"]

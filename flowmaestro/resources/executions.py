"""The types of `client.executions`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.executions import Executions


class SyncExecutions(Executions[Sync]):
    """`client.executions` of a sync client."""


class AsyncExecutions(Executions[Async]):
    """`client.executions` of an async client."""


__all__ = ["AsyncExecutions", "Executions", "SyncExecutions"]

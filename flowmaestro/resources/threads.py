"""The types of `client.threads`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.threads import Threads


class SyncThreads(Threads[Sync]):
    """`client.threads` of a sync client."""


class AsyncThreads(Threads[Async]):
    """`client.threads` of an async client."""


__all__ = ["AsyncThreads", "SyncThreads", "Threads"]

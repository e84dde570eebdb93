"""The types of `client.threads`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.threads import Threads

SyncThreads = Threads[Sync]
AsyncThreads = Threads[Async]

__all__ = ["AsyncThreads", "SyncThreads", "Threads"]

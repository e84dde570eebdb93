"""The types of `client.triggers`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.triggers import Triggers

SyncTriggers = Triggers[Sync]
AsyncTriggers = Triggers[Async]

__all__ = ["AsyncTriggers", "SyncTriggers", "Triggers"]

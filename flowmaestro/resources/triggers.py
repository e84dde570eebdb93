"""The types of `client.triggers`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.triggers import Triggers


class SyncTriggers(Triggers[Sync]):
    """`client.triggers` of a sync client."""


class AsyncTriggers(Triggers[Async]):
    """`client.triggers` of an async client."""


__all__ = ["AsyncTriggers", "SyncTriggers", "Triggers"]

"""The types of `client.webhooks`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.webhooks import Webhooks


class SyncWebhooks(Webhooks[Sync]):
    """`client.webhooks` of a sync client."""


class AsyncWebhooks(Webhooks[Async]):
    """`client.webhooks` of an async client."""


__all__ = ["AsyncWebhooks", "SyncWebhooks", "Webhooks"]

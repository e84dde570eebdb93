"""The types of `client.webhooks`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.webhooks import Webhooks

SyncWebhooks = Webhooks[Sync]
AsyncWebhooks = Webhooks[Async]

__all__ = ["AsyncWebhooks", "SyncWebhooks", "Webhooks"]

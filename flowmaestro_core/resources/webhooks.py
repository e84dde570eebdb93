"""Webhooks: subscriptions by which FlowMaestro calls you."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from flowmaestro_core.arguments import check_several, flag, header_fields, optional_text, text
from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.http.secrets import credentials_in
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.json_values import list_or_empty, object_or_empty
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.listing import page_of, walk
from flowmaestro_core.types import (
    DeletedResource,
    TestWebhookResponse,
    Webhook,
    WebhookDelivery,
    WebhookEventType,
    WebhookWithSecret,
)
from flowmaestro_core.webhooks import SecretDict


class Webhooks(Resource[D]):
    """`client.webhooks`. Needs the scope `webhooks:read`; changing them, `webhooks:write`."""

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Webhook]]:
        """List webhooks, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page; the server clamps it to 1-100, its default is 20.

        """
        return _page(page, per_page)

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[Webhook]:
        """Iterate over all webhooks, page after page.

        Args:
            per_page: how many to get with one request, as in `list`.

        """
        return walk(_page, per_page)

    @endpoint
    def get(self, webhook_id: str) -> Call[Reply[Webhook]]:
        """Get one webhook.

        Args:
            webhook_id: the webhook's id.

        Raises:
            NotFoundError: there is no such webhook.

        """
        return Call("GET", _webhook(webhook_id), shape=_one_webhook)

    @endpoint
    def create(
        self,
        name: str,
        url: str,
        events: Sequence[WebhookEventType],
        *,
        headers: Optional[Mapping[str, str]] = None,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[WebhookWithSecret]]:
        """Subscribe a URL of yours to events.

        `data["secret"]` is shown this once: store it, `flowmaestro.webhooks.verify` needs it.

        Args:
            name: what to call the webhook.
            url: where to deliver.
            events: which events, such as `["execution.completed"]`.
            headers: custom header fields for every delivery.
            idempotency_key: sent as `Idempotency-Key`, the same on every attempt; a random
                one when left out.

        """
        return Call(
            "POST",
            "/webhooks",
            json_body(
                name=text("name", name),
                url=text("url", url),
                events=_event_list(events),
                headers=_delivery_headers(headers),
            ),
            repeatable=False,
            shape=partial(_guarded, partial(shapes.resource, WebhookWithSecret)),
            idempotency_key=idempotency_key,
            secrets=_secrets(url, headers),
        )

    @endpoint
    def update(
        self,
        webhook_id: str,
        *,
        name: Optional[str] = None,
        url: Optional[str] = None,
        events: Optional[Sequence[WebhookEventType]] = None,
        headers: Optional[Mapping[str, str]] = None,
        is_active: Optional[bool] = None,
    ) -> Call[Reply[Webhook]]:
        """Change a webhook; what is left out stays as it is.

        Args:
            webhook_id: the webhook's id.
            name: what to call the webhook.
            url: where to deliver.
            events: which events, such as `["execution.completed"]`.
            headers: custom header fields for every delivery.
            is_active: whether to deliver at all.

        """
        body = json_body(
            name=optional_text("name", name),
            url=optional_text("url", url),
            events=None if events is None else _event_list(events),
            headers=_delivery_headers(headers),
            is_active=flag("is_active", is_active),
        )
        return Call(
            "PATCH",
            _webhook(webhook_id),
            body,
            shape=_one_webhook,
            secrets=_secrets(url or "", headers),
        )

    @endpoint
    def delete(self, webhook_id: str) -> Call[Reply[DeletedResource]]:
        """Delete a webhook.

        Args:
            webhook_id: the webhook's id.

        Raises:
            NotFoundError: there is no such webhook.

        """
        return Call(
            "DELETE",
            _webhook(webhook_id),
            shape=partial(shapes.deleted, webhook_id),
            confirmation=Confirmation(404),
        )

    @endpoint
    def test(
        self, webhook_id: str, *, idempotency_key: Optional[str] = None
    ) -> Call[Reply[TestWebhookResponse]]:
        """Have a test event delivered; `data["success"]` says how it went.

        Each call delivers once, so it is tried again only while it is certain that nothing
        was delivered.

        Args:
            webhook_id: the webhook's id.
            idempotency_key: sent as `Idempotency-Key`, the same on every attempt; a random
                one when left out.

        """
        return Call(
            "POST",
            _webhook(webhook_id) + "/test",
            repeatable=False,
            shape=shapes.tested_webhook,
            idempotency_key=idempotency_key,
        )

    @endpoint
    def list_deliveries(
        self, webhook_id: str, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[WebhookDelivery]]:
        """List the deliveries to a webhook, one page at a time.

        Args:
            webhook_id: the webhook's id.
            page: which page, from 1.
            per_page: how many on a page; the server clamps it to 1-100, its default is 20.

        """
        return _delivery_page(webhook_id, page, per_page)

    @iterating_endpoint
    def iterate_deliveries(
        self, webhook_id: str, *, per_page: Optional[int] = None
    ) -> Pages[WebhookDelivery]:
        """Iterate over all deliveries to a webhook, page after page.

        Args:
            webhook_id: the webhook's id.
            per_page: how many to get with one request, as in `list_deliveries`.

        """
        return walk(partial(_delivery_page, webhook_id), per_page)


def _page(page: Optional[int], per_page: Optional[int]) -> Call[Page[Webhook]]:
    return page_of("/webhooks", page, per_page, shape=_webhooks)


def _delivery_page(
    webhook_id: str, page: Optional[int], per_page: Optional[int]
) -> Call[Page[WebhookDelivery]]:
    where = _webhook(webhook_id) + "/deliveries"
    return page_of(where, page, per_page, shape=partial(shapes.page, WebhookDelivery))


def _guarded(shape: Callable[[Dict[str, Any]], None], body: Dict[str, Any]) -> None:
    """`shape`, and no webhook shows its secrets."""
    shape(body)
    data = body.get("data")
    if isinstance(data, list):
        body["data"] = list(map(_guard, list_or_empty(data)))
    else:
        body["data"] = _guard(data)


def _guard(webhook: Any) -> Any:
    return SecretDict(object_or_empty(webhook)) if isinstance(webhook, dict) else webhook


_one_webhook = partial(_guarded, partial(shapes.resource, Webhook))
_webhooks = partial(_guarded, partial(shapes.page, Webhook))


def _secrets(url: str, headers: Optional[Mapping[str, str]]) -> Tuple[Tuple[str, str], ...]:
    return (*credentials_in(url), *(headers or {}).items())


def _webhook(webhook_id: str) -> str:
    return path("/webhooks/{webhook_id}", webhook_id=webhook_id)


def _delivery_headers(headers: Optional[Mapping[str, str]]) -> Optional[Dict[str, str]]:
    return None if headers is None else dict(header_fields(headers).pairs)


def _event_list(events: Sequence[WebhookEventType]) -> List[str]:
    check_several("events", events, of="event names")
    return [text("an event of events", event) for event in events]

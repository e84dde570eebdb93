"""Webhooks: subscriptions by which FlowMaestro calls you."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type

from flowmaestro_core.arguments import check_several, flag, header_fields, optional_text, text
from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.http.messages import Fields
from flowmaestro_core.http.secrets import credentials_in
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.json_values import JsonObject, list_or_empty, object_or_empty
from flowmaestro_core.payloads.reply import Page, Reply, Shape
from flowmaestro_core.resources.listing import iterate_pages, list_call
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
    """`client.webhooks`. Reading needs the scope `webhooks:read`.

    `create`, `update`, `delete` and `test` need `webhooks:write`.
    """

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Webhook]]:
        """List webhooks, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        return list_call("/webhooks", page, per_page, _WEBHOOK)

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[Webhook]:
        """Iterate over all webhooks, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(Webhooks.list, per_page)

    @endpoint
    def get(self, webhook_id: str) -> Call[Reply[Webhook]]:
        """Get one webhook. Raises `NotFoundError` if there is none."""
        return Call("GET", _webhook(webhook_id), shape=_WEBHOOK)

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

        Only this reply has the webhook's secret, in `data["secret"]`. Store it:
        `flowmaestro.webhooks.verify` needs it.

        Args:
            name: what to call the webhook.
            url: where to deliver.
            events: which events, such as `["execution.completed"]`.
            headers: custom header fields for every delivery.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

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
            shape=_guarded(WebhookWithSecret),
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
            shape=_WEBHOOK,
            secrets=_secrets(url or "", headers),
        )

    @endpoint
    def delete(self, webhook_id: str) -> Call[Reply[DeletedResource]]:
        """Delete a webhook. Raises `NotFoundError` if there is none.

        But after an attempt that may have deleted it, because its reply was lost or a server error,
        a 404 counts as success.
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
        """Deliver a test event; `data["success"]` says whether the receiver accepted it.

        Each call delivers an event, so the SDK retries only if certainly nothing was delivered.

        Args:
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

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
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        where = _webhook(webhook_id) + "/deliveries"
        return list_call(where, page, per_page, shapes.resource(WebhookDelivery))

    @iterating_endpoint
    def iterate_deliveries(
        self, webhook_id: str, *, per_page: Optional[int] = None
    ) -> Pages[WebhookDelivery]:
        """Iterate over all deliveries to a webhook, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(partial(Webhooks.list_deliveries, webhook_id), per_page)


def _guarded(kind: Type[Any]) -> Shape:
    """Return a shape for a reply with one webhook or a list of them.

    The shape adds the missing keys of `kind`, the `TypedDict` of the webhooks, and makes each
    webhook a `SecretDict`, whose `repr` redacts its secrets.
    """
    complete = shapes.resource(kind)

    def shape(body: JsonObject) -> None:
        complete(body)
        data = body.get("data")
        is_list = isinstance(data, list)
        body["data"] = list(map(_guard, list_or_empty(data))) if is_list else _guard(data)

    return shape


def _guard(webhook: Any) -> Any:
    return SecretDict(object_or_empty(webhook)) if isinstance(webhook, dict) else webhook


_WEBHOOK = _guarded(Webhook)


def _secrets(url: str, headers: Optional[Mapping[str, str]]) -> Fields:
    return (*credentials_in(url), *(headers or {}).items())


def _webhook(webhook_id: str) -> str:
    return path("/webhooks/{webhook_id}", webhook_id=webhook_id)


def _delivery_headers(headers: Optional[Mapping[str, str]]) -> Optional[Dict[str, str]]:
    return None if headers is None else dict(header_fields(headers).pairs)


def _event_list(events: Sequence[WebhookEventType]) -> List[str]:
    check_several("events", events, of="event names")
    return [text("an event of events", event) for event in events]

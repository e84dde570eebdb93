"""The endpoints of webhooks and their deliveries."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, cast
from urllib.parse import urlsplit

from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.refusals import invalid
from flowmaestro.testing.fake.model.replies import Answer, Respond
from flowmaestro.testing.fake.model.routing import EndpointRoute, Outcome, deleted, every, one
from flowmaestro.testing.fake.model.service import Service
from flowmaestro.testing.fake.model.webhooks import EVENTS, Delivery, Webhook

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"([!-~]([ \t!-~]*[!-~])?)?")


def create_webhook(service: Service, call: EndpointRequest) -> Outcome:
    """Create a webhook. Only this response contains its secret."""
    now = service.model_time.now
    webhook = Webhook(
        id=service.new_id(),
        name=call.text("name", "Name is required"),
        url=_url(call),
        events=_events(call, f". Valid types: {', '.join(EVENTS)}"),
        headers=_headers(service, call),
        secret=service.new_secret("whsec_"),
        created_at=now,
        updated_at=now,
    )
    if not webhook.events:
        raise invalid("At least one event type is required")
    service.webhooks[webhook.id] = webhook
    shown = service.dialect.webhook(webhook)
    del shown["updated_at"]
    return Answer(201, {"data": {**shown, "secret": webhook.secret}})


def update_webhook(service: Service, call: EndpointRequest) -> Outcome:
    """Change a webhook: those of name, URL, events, headers and `is_active` that the body has."""
    webhook = service.webhooks.find(call.id)
    changes: Dict[str, Any] = {
        name: read(call) for name, read in _CHANGEABLE.items() if name in call.body
    }
    if "headers" in call.body:
        changes["headers"] = _headers(service, call)
    if "is_active" in call.body:
        changes["active"] = call.body["is_active"] is True
    for name, value in changes.items():
        setattr(webhook, name, value)
    webhook.updated_at = service.model_time.now
    shown = service.dialect.webhook(webhook)
    del shown["created_at"]
    return Answer(200, {"data": shown})


def delete_webhook(service: Service, call: EndpointRequest) -> Outcome:
    """Delete a webhook."""
    webhook = service.webhooks.find(call.id)
    del service.webhooks[webhook.id]
    return deleted(service, webhook.id)


def test_webhook(service: Service, call: EndpointRequest) -> Outcome:
    """Send a test event, and return its outcome. The status is 200 even if the delivery failed."""
    webhook = service.webhooks.find(call.id)

    def later(respond: Respond) -> None:
        def on_attempted(delivery: Delivery) -> None:
            respond(Answer(200, {"data": service.dialect.tested(delivery)}))

        service.deliveries.test(webhook, on_attempted)

    return later


def list_deliveries(service: Service, call: EndpointRequest) -> Outcome:
    """List the deliveries to a webhook, except tests, the newest first."""
    deliveries = reversed(service.webhooks.find(call.id).deliveries)
    rows = [service.dialect.delivery(delivery) for delivery in deliveries]
    return Answer(200, service.dialect.listed(rows, call.query))


def _name(call: EndpointRequest) -> str:
    name: object = call.body["name"]
    if not isinstance(name, str):
        raise invalid("Name must be a string")
    return name


def _url(call: EndpointRequest) -> str:
    """Return the URL in the body, as given.

    Raises a 400 refusal unless it is visible ASCII and has a scheme, a host, and no invalid port.
    """
    url: object = call.body.get("url")
    try:
        parts = urlsplit(url) if isinstance(url, str) and _VISIBLE_ASCII.fullmatch(url) else None
        usable = parts is not None and parts.scheme and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise invalid("Invalid URL format")
    return cast("str", url)


def _headers(service: Service, call: EndpointRequest) -> Dict[str, str]:
    if service.dialect.accepts_any_headers and isinstance(call.body.get("headers"), list):
        return {}
    headers = call.mapping("headers")
    for name, value in headers.items():
        if not (_TOKEN.fullmatch(name) and isinstance(value, str) and _FIELD.fullmatch(value)):
            raise invalid("headers is not usable", headers=f"not a header field: {name}")
    return headers


def _events(call: EndpointRequest, hint: str = "") -> List[str]:
    events: object = call.body.get("events")
    if not isinstance(events, list):
        raise invalid("At least one event type is required")
    unknown = [str(event) for event in cast("List[object]", events) if event not in EVENTS]
    if unknown:
        raise invalid(f"Invalid event types: {', '.join(unknown)}{hint}")
    return cast("List[str]", events)


_CHANGEABLE: Dict[str, Callable[[EndpointRequest], Any]] = {
    "name": _name,
    "url": _url,
    "events": _events,
}
_WEBHOOK = "/webhooks/{id}"
_READ, _WRITE = ("webhooks:read",), ("webhooks:write",)
ROUTES = (
    EndpointRoute("GET", "/webhooks", every("webhooks", "webhook_row"), _READ),
    EndpointRoute("POST", "/webhooks", create_webhook, _WRITE),
    EndpointRoute("GET", _WEBHOOK, one("webhooks", "webhook"), _READ),
    EndpointRoute("PATCH", _WEBHOOK, update_webhook, _WRITE),
    EndpointRoute("DELETE", _WEBHOOK, delete_webhook, _WRITE),
    EndpointRoute("POST", f"{_WEBHOOK}/test", test_webhook, _WRITE),
    EndpointRoute("GET", f"{_WEBHOOK}/deliveries", list_deliveries, _READ),
)

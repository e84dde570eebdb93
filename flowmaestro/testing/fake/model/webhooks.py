"""Webhooks: subscriptions, signed deliveries, and the times of retries.

The model only knows which deliveries are due. A driver carries them out and reports the outcomes.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, List, Literal, Optional, Tuple, get_args

from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.replies import JsonObject, encode
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.types import WebhookEventType

EVENTS = tuple(event for event in get_args(WebhookEventType) if event != "test")
"""The events that a webhook can subscribe to."""

RETRY_DELAYS = (120.0, 240.0, 480.0, 960.0)
"""Seconds from a transient failure to the next attempt (`docs/api-facts.md`).

If the attempt after the last of them fails, too, the delivery is given up.
"""

RECEIVER_SECONDS = 10.0
"""Seconds that a receiver may take to answer."""

DeliveryState = Literal["pending", "delivered", "failed"]


@dataclass
class Delivery:
    """The delivery of one event to one webhook.

    `request` is the signed POST of the latest attempt, or of the first one before there was any.
    A retry has the same delivery id and `created_at`, but the keys of its body in another order,
    and therefore another signature. `status_code` is the status of the response to the latest
    attempt, `None` if there was none; `error` is the error of the latest failed attempt.
    """

    id: str
    webhook_id: str
    event: str
    request: Request
    retry: Request = field(repr=False)
    created_at: float
    retry_delays: Tuple[float, ...] = field(default=RETRY_DELAYS, repr=False)
    state: DeliveryState = "pending"
    attempts: int = 0
    status_code: Optional[int] = None
    error: Optional[str] = None
    sent_at: float = 0.0
    ended_at: Optional[float] = None
    on_attempted: Optional[Callable[[Delivery], None]] = field(default=None, repr=False)

    @property
    def response_time_ms(self) -> Optional[int]:
        """Milliseconds that the last attempt took; `None` before it and while it is in flight."""
        return None if self.ended_at is None else round(1000 * (self.ended_at - self.sent_at))


@dataclass
class Webhook:
    """A subscription. Its repr shows neither the secret nor the header fields."""

    id: str
    name: str
    url: str
    events: List[str]
    headers: Dict[str, str] = field(repr=False)
    secret: str = field(repr=False)
    created_at: float
    updated_at: float
    active: bool = True
    deliveries: List[Delivery] = field(default_factory=list[Delivery], repr=False)


def sign(secret: str, payload: bytes) -> str:
    """Return the `X-FlowMaestro-Signature` of a body: `v1=` and HMAC-SHA256 in hex."""
    return "v1=" + hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


class DeliveryQueue:
    """Makes webhook deliveries, returns those that are due, and records their outcomes."""

    def __init__(self, model_time: ModelTime, new_id: Callable[[], str]) -> None:
        self._finished: OrderedDict[str, Delivery] = OrderedDict()
        """The deliveries that have ended, by id, in the order of their latest end.

        One that is sent again stays here, as `pending`, until it ends again.
        """
        self._most: Optional[int] = None
        self._model_time = model_time
        self._new_id = new_id
        self._numbers = itertools.count(1)
        self._ready: List[Delivery] = []

    def send(self, webhook: Webhook, event: str, data: JsonObject) -> None:
        """Add a delivery to `webhook.deliveries`. It is due at once."""
        webhook.deliveries.append(self._make(webhook, event, data))

    def _make(self, webhook: Webhook, event: str, data: JsonObject) -> Delivery:
        created_at = self._model_time.iso()
        body = {"id": self._new_id(), "event": event, "created_at": created_at, "data": data}
        id = str(next(self._numbers))
        first, retry = (
            _signed(webhook, event, id, it) for it in (body, dict(sorted(body.items())))
        )
        delivery = Delivery(id, webhook.id, event, first, retry, self._model_time.now)
        self._ready.append(delivery)
        return delivery

    def test(self, webhook: Webhook, on_attempted: Callable[[Delivery], None]) -> None:
        """Add a test delivery, due at once. It has no retries, and is not in `webhook.deliveries`.

        `on_attempted` is called with the delivery after the attempt.
        """
        delivery = self._make(webhook, "test", {"webhook_id": webhook.id, "message": "Test"})
        delivery.retry_delays = ()
        delivery.on_attempted = on_attempted

    @property
    def finished(self) -> List[Delivery]:
        """Copies of the deliveries that have ended, the oldest end first.

        A delivery that is being sent again is not among them.
        """
        kept = self._finished.values()
        return [replace(it, on_attempted=None) for it in kept if it.state != "pending"]

    def keep_last(self, most: int) -> None:
        """Keep only the last `most` of `finished` from now on."""
        self._most = most
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while self._most is not None and len(self._finished) > self._most:
            self._finished.popitem(last=False)

    def repeat(self, delivery: Delivery) -> None:
        """Make an ended delivery due for one more attempt, without retries.

        `delivery` may be a copy. Raises `ValueError` while the delivery is pending.
        """
        delivery = self._finished.get(delivery.id, delivery)
        if delivery.state == "pending":
            raise ValueError(f"delivery {delivery.id} is still pending")
        delivery.state = "pending"
        delivery.retry_delays = ()
        self._ready.append(delivery)

    def take_due(self) -> List[Delivery]:
        """Return the deliveries to attempt now. Each is returned once for each attempt."""
        due, self._ready = self._ready, []
        for delivery in due:
            if delivery.attempts:
                delivery.request = delivery.retry
            delivery.attempts += 1
            delivery.sent_at = self._model_time.now
            delivery.ended_at = None
        return due

    def put_back(self, deliveries: List[Delivery]) -> None:
        """Make deliveries due again that `take_due` has returned and nothing has attempted."""
        for delivery in deliveries:
            delivery.attempts -= 1
        self._ready[:0] = deliveries

    def delivered(self, delivery: Delivery, status: Optional[int]) -> None:
        """Record an attempt: the receiver answered with `status`; `None` for no response.

        Plan a retry after a transient failure, if retries are left.
        """
        delivery.status_code = status
        delivery.ended_at = self._model_time.now
        if status is not None and 200 <= status < 300:
            self._finish(delivery, "delivered")
            return
        delivery.error = "fetch failed" if status is None else f"HTTP {status}"
        temporary = status is None or status >= 500 or status in (408, 425, 429)
        if temporary and delivery.attempts <= len(delivery.retry_delays):
            delay = delivery.retry_delays[delivery.attempts - 1]
            self._model_time.schedule(delay, lambda: self._ready.append(delivery))
        else:
            self._finish(delivery, "failed")

    def _finish(self, delivery: Delivery, state: DeliveryState) -> None:
        delivery.state = state
        self._finished[delivery.id] = delivery
        self._finished.move_to_end(delivery.id)
        self._forget_oldest()
        if delivery.on_attempted is not None:
            delivery.on_attempted(delivery)


def _signed(webhook: Webhook, event: str, delivery_id: str, body: JsonObject) -> Request:
    payload = encode(body)
    headers = Headers(
        [
            ("Content-Type", "application/json"),
            ("User-Agent", "FlowMaestro-Webhooks/1.0"),
            *webhook.headers.items(),
            ("X-FlowMaestro-Event", event),
            ("X-FlowMaestro-Delivery-ID", delivery_id),
            ("X-FlowMaestro-Signature", sign(webhook.secret, payload)),
        ]
    )
    return Request("POST", webhook.url, headers, payload)

"""Receive webhooks: verify that a delivery is authentic, and parse it.

```python
from flowmaestro import webhooks

event = webhooks.parse(request_body, request_headers["X-FlowMaestro-Signature"], secret)
```

Pass the body's bytes unchanged: the signature covers them, and re-serialised JSON may differ.
"""

from __future__ import annotations

import time
from typing import Iterable, Optional, Union

from flowmaestro_core.arguments import check_seconds
from flowmaestro_core.errors import WebhookVerificationError
from flowmaestro_core.webhooks import (
    DELIVERY_ID_HEADER,
    SIGNATURE_HEADER,
    WebhookEvent,
    authenticated,
    check_fresh,
    read_event,
)

__all__ = [
    "DELIVERY_ID_HEADER",
    "SIGNATURE_HEADER",
    "WebhookEvent",
    "WebhookVerificationError",
    "parse",
    "verify",
]


def verify(
    payload: Union[bytes, str],
    signature: Union[bytes, str],
    secret: Union[str, Iterable[str]],
    tolerance: Optional[float] = None,
) -> None:
    """Check that a delivery is authentic. Raise if it is not, so that no result can be ignored.

    Args:
        payload: the request's body, unchanged.
        signature: the value of `X-FlowMaestro-Signature`, `bytes` (as in ASGI) or `str`.
        secret: the webhook's secret, shown when the webhook was created; or several, such as the
            old and the new one while you replace it. One of them must have made the signature.
        tolerance: seconds; refuse a delivery whose `created_at` is further from now than this.

    Raises:
        WebhookVerificationError: the signature is missing or wrong; or, with a tolerance, the
            payload is not an event, or its `created_at` is too old, too new or not a time.
        TypeError: the payload is of a wrong type, or the tolerance is not a number.
        ValueError: a secret is empty or not a `str`, or there is none; or the tolerance is not
            positive and finite.

    """
    checked = authenticated(payload, signature, secret)
    del secret  # A traceback of the errors raised below would show it.
    body = _checked(checked, tolerance)
    if tolerance is not None:
        check_fresh(read_event(body), time.time(), tolerance)


def parse(
    payload: Union[bytes, str],
    signature: Union[bytes, str],
    secret: Union[str, Iterable[str]],
    tolerance: Optional[float] = None,
) -> WebhookEvent:
    """Verify a delivery, and return its event.

    Args:
        payload: the request's body, unchanged.
        signature: the value of `X-FlowMaestro-Signature`, `bytes` (as in ASGI) or `str`.
        secret: the webhook's secret, shown when the webhook was created; or several, such as the
            old and the new one while you replace it. One of them must have made the signature.
        tolerance: seconds; refuse a delivery whose `created_at` is further from now than this.

    Raises:
        WebhookVerificationError: the signature is missing or wrong, or the payload is not an event;
            or, with a tolerance, its `created_at` is too old, too new or not a time.
        TypeError: the payload is of a wrong type, or the tolerance is not a number.
        ValueError: a secret is empty or not a `str`, or there is none; or the tolerance is not
            positive and finite.

    """
    checked = authenticated(payload, signature, secret)
    del secret  # A traceback of the errors raised below would show it.
    event = read_event(_checked(checked, tolerance))
    if tolerance is not None:
        check_fresh(event, time.time(), tolerance)
    return event


def _checked(checked: Union[bytes, Exception], tolerance: Optional[float]) -> bytes:
    """Return `checked` if it is the body of an authentic delivery; raise it if it is an error.

    Before that, raise `TypeError` or `ValueError` for an invalid `tolerance`. The age of the
    delivery is not checked here.
    """
    if tolerance is not None:
        check_seconds("tolerance", tolerance)
    if isinstance(checked, Exception):
        raise checked
    return checked

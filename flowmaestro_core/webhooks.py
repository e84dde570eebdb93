"""Webhooks that do not show their secrets, and the check that a delivery is authentic.

FlowMaestro signs the bytes of a delivery's body with the webhook's secret (HMAC-SHA256) and
sends `X-FlowMaestro-Signature: v1=<hex>`.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Tuple, TypedDict, Union, cast

from flowmaestro_core.errors import WebhookVerificationError
from flowmaestro_core.http.dates import parse_timestamp
from flowmaestro_core.http.secrets import REDACTED, showable_url, showable_value
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import decode_json
from flowmaestro_core.types import WebhookEventType

SIGNATURE_HEADER = "X-FlowMaestro-Signature"
"""Name of the header field with the signature of a delivery."""
DELIVERY_ID_HEADER = "X-FlowMaestro-Delivery-ID"
"""Name of the header field with the id of a delivery."""
LONGEST_SIGNATURE = 4096
"""The most characters that a signature header may have. One signature has 67, so there is room for
dozens of secrets that are being rotated; each one costs a comparison."""


class WebhookEvent(TypedDict):
    """The body of a delivery.

    The server may deliver an event more than once, and anybody who saw a delivery can send it
    again. The `id` of the event is signed and stays the same: use it to recognise repeats. The id
    of the delivery, in a header, is not signed.
    """

    id: str
    """Id of the event. It is signed; the id of the delivery is not."""
    event: WebhookEventType
    """Type of the event, such as `execution.completed`."""
    created_at: str
    """Time of the first attempt, ISO 8601; a retry has the same."""
    data: Dict[str, Any]
    """What the event is about; `{}` if the delivery has no `data`."""


class SecretDict(Dict[str, Any]):
    """A webhook whose `repr`, `str` and log lines do not show its secrets.

    The secrets are the value of `secret`, the values of header fields that may hold a credential,
    and parts of the URL: the user, the fragment, and the values of query parameters, except a few
    such as `page`. Otherwise it is a plain dict: equality, JSON, pickle, and `data["secret"]` use
    the secret values.
    """

    def copy(self) -> SecretDict:
        """Return a `SecretDict` with the same items."""
        return SecretDict(self)

    def __repr__(self) -> str:
        return repr({name: _shown(name, value) for name, value in self.items()})


def sign(payload: bytes, secret: str) -> str:
    """Return the value of `X-FlowMaestro-Signature` for the bytes of a delivery's body."""
    import hmac  # Loads OpenSSL: with the first delivery, not with `client.webhooks`.

    # `strict` would raise for a lone surrogate, and the error would hold the secret.
    key = secret.encode("utf-8", "surrogatepass")
    digest = hmac.new(key, payload, "sha256").hexdigest()
    return f"v1={digest}"


def authenticated(
    payload: Union[bytes, str], signature: Union[bytes, str], secret: Union[str, Iterable[str]]
) -> Union[bytes, Exception]:
    """Return the payload's bytes if one of the `v1` signatures is valid, else the error to raise.

    A signature is valid if it was made with `secret`, or with one of several.

    The error is returned, not raised, so no frame in its traceback holds the secret or the valid
    signature. It is a `WebhookVerificationError`; a `TypeError` for a payload that is neither text
    nor `bytes`, `bytearray` or `memoryview`; a `ValueError` for a secret that is not text, or
    empty, or if there is none. All signatures are compared with all secrets, each in constant time.
    """
    import hmac

    if isinstance(payload, str):
        payload = payload.encode("utf-8", "surrogatepass")
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        kind = type(payload).__name__
        return TypeError(f"payload must be the body's bytes as they came, not {kind}")
    secrets = _secrets(secret)
    if not secrets:
        return ValueError(
            "secret must be the webhook's secret, a non-empty str, or a list of such secrets"
        )
    if isinstance(signature, bytes):
        signature = signature.decode("latin-1")
    if not isinstance(signature, str):
        return WebhookVerificationError(f"The delivery has no {SIGNATURE_HEADER}")
    if len(signature) > LONGEST_SIGNATURE:
        return WebhookVerificationError(
            f"{SIGNATURE_HEADER} is longer than {LONGEST_SIGNATURE} characters"
        )
    raw = bytes(payload)
    expected = [sign(raw, each).encode("ascii") for each in secrets]
    offered = [part.strip().encode("utf-8", "replace") for part in signature.split(",")]
    # A list, not `any` of a generator: the time must not tell which secret has matched.
    matches = [hmac.compare_digest(right, one) for right in expected for one in offered]
    if not any(matches):
        return WebhookVerificationError("The signature does not match the payload and the secret")
    return raw


def _secrets(secret: object) -> Tuple[str, ...]:
    """Return the secrets; `()` if there are none, or if one is not text, or is empty.

    Also return `()` for a mapping: its keys are names, which others can guess.
    """
    if isinstance(secret, (bytes, bytearray, Mapping)) or not isinstance(secret, Iterable):
        return ()
    items = cast("Iterable[object]", secret)
    secrets = (secret,) if isinstance(secret, str) else tuple(items)
    valid = tuple(each for each in secrets if isinstance(each, str) and each)
    return valid if len(valid) == len(secrets) else ()


def read_event(payload: bytes) -> WebhookEvent:
    """Return the event in a delivery's body.

    Raises `WebhookVerificationError` if the body is not an event, or if its `data` is not an
    object, such as null. If the event has no `data`, its `data` becomes `{}`.
    """
    try:
        body = decode_json(payload)
    except ValueError as error:
        raise WebhookVerificationError("The payload is not JSON") from error
    event = object_or_empty(body)
    if not all(text_or_empty(event.get(key)) for key in ("id", "event", "created_at")):
        raise WebhookVerificationError(
            "The payload is not a webhook event; it lacks id, event or created_at"
        )
    if not isinstance(event.setdefault("data", {}), dict):
        raise WebhookVerificationError("The payload is not a webhook event: data is not an object")
    return cast("WebhookEvent", event)


def check_fresh(event: WebhookEvent, now: float, tolerance: float) -> None:
    """Raise `WebhookVerificationError` if an event is too old, or too new.

    Its `created_at` may be up to `tolerance` seconds before or after `now` (Unix time). A
    `created_at` that is not an ISO 8601 time raises the same error.
    """
    try:
        age = now - parse_timestamp(event["created_at"])
    except ValueError as error:
        raise WebhookVerificationError("created_at is not an ISO 8601 time") from error
    if abs(age) > tolerance:
        raise WebhookVerificationError(
            f"The delivery was made {abs(age):.0f} s {'after' if age < 0 else 'before'} now; "
            f"the tolerance is {tolerance:g} s"
        )


def _shown(name: str, value: Any) -> Any:
    if name == "url" and isinstance(value, str):
        return showable_url(value)
    if name == "headers" and isinstance(value, dict):
        fields = cast("Dict[str, Any]", value)
        return {key: showable_value(key, fields[key]) for key in fields}
    return REDACTED if name == "secret" and value is not None else value

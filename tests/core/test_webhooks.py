from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, List, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.errors import WebhookVerificationError
from flowmaestro_core.webhooks import (
    LONGEST_SIGNATURE,
    authenticated,
    check_fresh,
    read_event,
    sign,
)

SECRET = "whsec_0123456789"
EVENT = {
    "id": "evt_1",
    "event": "execution.completed",
    "created_at": "2024-05-01T12:00:00Z",
    "data": {"execution_id": "exec_1"},
}
PAYLOAD = json.dumps(EVENT).encode()
MADE_AT = datetime(2024, 5, 1, 12, tzinfo=timezone.utc).timestamp()


def check_signature(payload: Any, signature: Any, secret: Any) -> bytes:
    checked = authenticated(payload, signature, secret)
    if isinstance(checked, Exception):
        raise checked
    return checked


def an_event(**changes: Any) -> Any:
    return read_event(json.dumps({**EVENT, **changes}).encode())


@given(payload=st.binary(), secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_signature_is_hmac_sha256_in_hex(payload: bytes, secret: str) -> None:
    signature = sign(payload, secret)
    expected = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    assert signature == f"v1={expected}"
    assert check_signature(payload, signature, secret) == payload


@pytest.mark.parametrize("payload", [PAYLOAD, PAYLOAD.decode(), bytearray(PAYLOAD)])
def test_a_payload_may_be_bytes_or_text(payload: Union[bytes, str]) -> None:
    assert check_signature(payload, sign(PAYLOAD, SECRET), SECRET) == PAYLOAD


def test_one_valid_signature_of_several_is_enough() -> None:
    offered = f"v1={'0' * 64}, {sign(PAYLOAD, SECRET)} ,v2=abc"
    assert check_signature(PAYLOAD, offered, SECRET) == PAYLOAD


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "v1=",
        sign(PAYLOAD, SECRET)[3:],
        sign(PAYLOAD, SECRET)[:-1],
        sign(PAYLOAD, SECRET) + "0",
        sign(PAYLOAD, SECRET).replace("v1", "v2"),
        sign(PAYLOAD, "another secret"),
        sign(PAYLOAD + b" ", SECRET),
        "v1=é\ud800",
    ],
)
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with pytest.raises(WebhookVerificationError, match="does not match") as refusal:
        check_signature(PAYLOAD, signature, SECRET)
    assert SECRET not in str(refusal.value)
    assert sign(PAYLOAD, SECRET)[3:] not in str(refusal.value)


@given(payload=st.binary(min_size=1), place=st.integers(0, 1000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(payload: bytes, place: int, bit: int) -> None:
    changed = bytearray(payload)
    changed[place % len(payload)] ^= 1 << bit
    with pytest.raises(WebhookVerificationError):
        check_signature(bytes(changed), sign(payload, SECRET), SECRET)


def test_text_that_is_no_unicode_is_refused_like_any_other() -> None:
    with pytest.raises(WebhookVerificationError, match="does not match"):
        check_signature("\ud800", sign(b"?", SECRET), SECRET)
    with pytest.raises(WebhookVerificationError, match="does not match"):
        check_signature(PAYLOAD, sign(PAYLOAD, SECRET), SECRET + "\udcff")


@pytest.mark.parametrize("signature", [None, ["v1=00"], 5])
def test_a_missing_signature_is_refused(signature: Any) -> None:
    with pytest.raises(WebhookVerificationError, match="has no X-FlowMaestro-Signature"):
        check_signature(PAYLOAD, signature, SECRET)


def test_a_signature_may_come_as_bytes() -> None:
    check_signature(PAYLOAD, sign(PAYLOAD, SECRET).encode(), SECRET)
    with pytest.raises(WebhookVerificationError, match="does not match"):
        check_signature(PAYLOAD, b"v1=\xff", SECRET)


@pytest.mark.parametrize("secrets", [("old", SECRET), [SECRET, "new"], {SECRET}])
def test_one_of_several_secrets_must_have_signed(secrets: Any) -> None:
    assert check_signature(PAYLOAD, sign(PAYLOAD, SECRET), secrets) == PAYLOAD
    both = f"{sign(PAYLOAD, 'other')},{sign(PAYLOAD, SECRET)}"
    assert check_signature(PAYLOAD, both, iter(secrets)) == PAYLOAD
    with pytest.raises(WebhookVerificationError, match="does not match"):
        check_signature(PAYLOAD, sign(PAYLOAD, "other"), secrets)


def test_every_secret_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: List[bytes] = []

    def noting(expected: bytes, offered: bytes) -> bool:
        compared.append(expected)
        return expected == offered

    monkeypatch.setattr(hmac, "compare_digest", noting)
    check_signature(PAYLOAD, sign(PAYLOAD, "a"), ["a", "b", "c"])
    assert compared == [sign(PAYLOAD, each).encode() for each in "abc"]


@pytest.mark.parametrize(
    "secret", ["", None, b"secret", [], [""], [SECRET, ""], [SECRET, b"x"], {SECRET: 1}, 5]
)
def test_a_secret_is_text(secret: Any) -> None:
    with pytest.raises(ValueError, match="secret must be"):
        check_signature(PAYLOAD, sign(PAYLOAD, SECRET), secret)


@pytest.mark.parametrize("payload", [EVENT, None, 5, [1, 2]])
def test_a_payload_that_was_decoded_already_is_refused(payload: Any) -> None:
    with pytest.raises(TypeError, match="payload must be the body's bytes as they came"):
        check_signature(payload, sign(PAYLOAD, SECRET), SECRET)


def test_the_event_in_a_payload() -> None:
    assert read_event(PAYLOAD) == EVENT
    del_data = {key: value for key, value in EVENT.items() if key != "data"}
    assert read_event(json.dumps(del_data).encode())["data"] == {}
    assert an_event(extra=1)["extra"] == 1


@pytest.mark.parametrize("payload", [b"", b"<html>", b"\xff", b"{", b"[" * 100_000])
def test_payload_that_is_not_json_is_refused(payload: bytes) -> None:
    with pytest.raises(WebhookVerificationError, match="not JSON"):
        read_event(payload)


@pytest.mark.parametrize(
    "body", [None, [], "text", 5, {}, {**EVENT, "id": ""}, {**EVENT, "event": 5}, {"id": "x"}]
)
def test_json_of_another_shape_is_no_event(body: Any) -> None:
    with pytest.raises(WebhookVerificationError, match="not a webhook event"):
        read_event(json.dumps(body).encode())


@pytest.mark.parametrize(
    "created_at",
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01T12:00:00z",
        "2024-05-01T12:00:00+00:00",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T12:00:00",
        "2024-05-01 12:00:00.0Z",
        "2024-05-01T12:00:00.000Z",
        "2024-05-01T12:00:00.000000000Z",
    ],
)
def test_forms_of_a_time(created_at: str) -> None:
    event = an_event(created_at=created_at)
    check_fresh(event, MADE_AT, 0.5)
    check_fresh(event, MADE_AT + 300, 300)
    check_fresh(event, MADE_AT - 300, 300)
    with pytest.raises(WebhookVerificationError, match="301 s before now; the tolerance is 300 s"):
        check_fresh(event, MADE_AT + 301, 300)
    with pytest.raises(WebhookVerificationError, match="301 s after now; the tolerance is 300 s"):
        check_fresh(event, MADE_AT - 301, 300)


@given(
    moment=st.datetimes(
        min_value=datetime(1970, 1, 2),
        max_value=datetime(2200, 1, 1),
        timezones=st.integers(-14 * 60, 14 * 60).map(
            lambda minutes: timezone(timedelta(minutes=minutes))
        ),
    ),
    decimals=st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_any_iso_time_is_read(moment: datetime, decimals: str) -> None:
    event = an_event(created_at=moment.isoformat(timespec=decimals))
    check_fresh(event, moment.timestamp(), 1.0)
    with pytest.raises(WebhookVerificationError):
        check_fresh(event, moment.timestamp() + 60, 58.0)


@pytest.mark.parametrize(
    "created_at", ["yesterday", "1714564800", "2024-13-01T00:00:00Z", "Z", "."]
)
def test_a_time_that_is_none_is_refused(created_at: str) -> None:
    with pytest.raises(WebhookVerificationError, match="not an ISO 8601 time"):
        check_fresh(an_event(created_at=created_at), MADE_AT, 1e12)


@given(payload=st.binary(), created_at=st.text(min_size=1))
def test_no_payload_raises_anything_else(payload: bytes, created_at: str) -> None:
    for delivered in (payload, json.dumps({**EVENT, "created_at": created_at}).encode()):
        with suppress(WebhookVerificationError):
            check_fresh(read_event(delivered), MADE_AT, 1.0)


def test_a_signature_header_of_any_length_is_refused_at_once() -> None:
    right = sign(PAYLOAD, SECRET)
    longest = f"{right},".ljust(LONGEST_SIGNATURE, "x")
    assert check_signature(PAYLOAD, longest, SECRET) == PAYLOAD
    with pytest.raises(WebhookVerificationError, match="longer than 4096"):
        check_signature(PAYLOAD, longest + "x", SECRET)


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_data_that_is_not_an_object_is_not_an_event(data: Any) -> None:
    with pytest.raises(WebhookVerificationError, match="data is not an object"):
        an_event(data=data)

"""A failed check of a webhook shows its secret nowhere, not even in the frames of its traceback."""

from __future__ import annotations

import pytest

from flowmaestro import webhooks
from flowmaestro_core.webhooks import sign

SECRET = "whsec_0123456789abcdef"
BODY = b'{"id": "1", "event": "test", "created_at": "2020-01-01T00:00:00Z", "data": {}}'
RIGHT = sign(BODY, SECRET)


def locals_of_our_frames(error):
    frame = error.__traceback__.tb_next  # The first one is the test's own.
    while frame is not None:
        yield repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


@pytest.mark.parametrize("check", [webhooks.verify, webhooks.parse])
@pytest.mark.parametrize(
    ("body", "signature", "secret", "tolerance"),
    [
        (BODY, "v1=" + "0" * 64, SECRET, None),
        (BODY, None, SECRET, None),
        (BODY, "x" * 5000, SECRET, None),
        ({"parsed": 1}, RIGHT, SECRET, None),
        (BODY, RIGHT, SECRET.encode(), None),
        (BODY, RIGHT, SECRET + "\udcff", None),  # A byte of a variable that is not UTF-8.
        (BODY, RIGHT, SECRET, 60),
        (BODY, RIGHT, SECRET, -1),
        (b"{", sign(b"{", SECRET), SECRET, 60),
    ],
)
def test_no_frame_holds_the_secret_or_the_right_signature(
    check, body, signature, secret, tolerance
):
    with pytest.raises((webhooks.WebhookVerificationError, TypeError, ValueError)) as caught:
        check(body, signature, secret, tolerance)
    for shown in locals_of_our_frames(caught.value):
        assert SECRET not in shown
        assert signature == RIGHT or RIGHT not in shown

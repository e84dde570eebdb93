"""Keys, scopes and rate limits."""

from __future__ import annotations

import json

import pytest

from flowmaestro.testing.fake.model import seeds
from flowmaestro_core.http.messages import Headers, Request


def ask(caller, *pairs):
    url = "https://h/api/v1/workflows"
    reply = caller.fake.handle(Request("GET", url, Headers(pairs)), caller.now)
    code = json.loads(reply.body).get("error", {}).get("code")
    return reply.status, code, "X-RateLimit-Limit" in reply.headers


@pytest.mark.parametrize("key", ["fm_live_...", "fm_live_your_api_key", "...", seeds.READ_ONLY_KEY])
def test_valid_key_is_accepted_in_both_headers(caller, key):
    assert ask(caller, ("X-API-Key", key)) == (200, None, True)
    assert ask(caller, ("Authorization", f"Bearer {key}")) == (200, None, True)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("fm_live_nobody", "invalid_api_key"),
        ("", "invalid_api_key"),
        (seeds.EXPIRED_KEY, "expired_api_key"),
        (seeds.REVOKED_KEY, "revoked_api_key"),
    ],
)
def test_invalid_key_is_refused_with_its_code(caller, key, code):
    assert ask(caller, ("X-API-Key", key)) == (401, code, False)
    assert ask(caller, ("Authorization", f"Bearer {key}")) == (401, code, False)


def test_request_without_key_is_refused(caller):
    assert ask(caller) == (401, "invalid_api_key", False)
    assert ask(caller, ("Authorization", "Basic abc")) == (401, "invalid_api_key", False)


def test_the_bearer_counts_only_without_the_other(caller):
    good, bad = caller.fake.api_key, "fm_live_nobody"
    assert ask(caller, ("X-API-Key", good), ("Authorization", f"Bearer {bad}"))[0] == 200
    assert ask(caller, ("X-API-Key", bad), ("Authorization", f"Bearer {good}"))[0] == 401


def test_test_keys_are_refused_where_deployed(caller, shapes):
    assert ask(caller, ("X-API-Key", seeds.TEST_KEY))[0] == (401 if shapes == "deployed" else 200)


def test_a_read_only_key(caller):
    caller.key = seeds.READ_ONLY_KEY
    reply = caller.call("POST", "/workflows/wf_123/execute", {})
    details = json.loads(reply.body)["error"]["details"]
    assert reply.status == 403
    assert details["required_scopes"] == ["workflows:execute", "workflows:read"]
    assert details["missing_scopes"] == ["workflows:execute"]
    assert "executions:read" in details["your_scopes"]


def test_a_minute_is_a_fixed_window(make_caller, shapes):
    caller = make_caller(shapes)
    caller.fake.rate_limit(per_minute=2)
    left = [caller.call("GET", "/agents").headers["X-RateLimit-Remaining"] for _ in range(2)]
    assert left == ["1", "0"]
    caller.pass_time(30.5)
    refused = caller.call("GET", "/agents")
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "30"
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["X-RateLimit-Reset"] == "1700000060"
    error = json.loads(refused.body)["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["details"] == {"limit": 2, "window": "minute", "retry_after": 30}
    other = caller.fake.add_key()
    assert ask(caller, ("X-API-Key", other))[0] == 200, "each key has limits of its own"
    caller.pass_time(29.5)
    assert caller.call("GET", "/agents").status == 200


def test_a_day_can_be_used_up(make_caller):
    caller = make_caller()
    caller.fake.rate_limit(per_day=1)
    caller.call("GET", "/agents")
    caller.pass_time(400)
    refused = caller.call("GET", "/agents")
    details = json.loads(refused.body)["error"]["details"]
    assert details == {"limit": 1, "window": "day", "retry_after": 86_000}
    assert refused.headers["X-RateLimit-Remaining-Day"] == "0"
    assert refused.headers["X-RateLimit-Remaining"] == "6000"


def test_no_secret_in_a_repr(caller):
    hook = caller.data("POST", "/webhooks", {
        "name": "a", "url": "http://h/", "events": ["execution.completed"],
    })  # fmt: skip
    caller.call("POST", f"/webhooks/{hook['id']}/test")
    shown = repr(caller.fake) + repr(caller.fake.deliveries) + repr(vars(caller.fake))
    assert caller.fake.api_key not in repr(caller.fake) + repr(caller.fake.deliveries)
    assert hook["secret"] not in shown

"""Which names are secret, and what of a URL may be shown."""

from __future__ import annotations

import dataclasses

import pytest

from flowmaestro_core.http.messages import Request
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.secrets import is_secret_field, is_secret_member, showable_url
from flowmaestro_core.options import ClientOptions

KEY = "fm_live_hush_hush"


@pytest.mark.parametrize(
    "name",
    """
    Authorization Proxy-Authorization X-API-Key x-apikey Cookie Set-Cookie X-Auth-Token
    X-FlowMaestro-Signature Session-Id My-Secret X-Password X-Passphrase Client-Credential
    Ocp-Apim-Subscription-Key X-Access-Key Private-Thing
    Bearer X-Pass Pwd X-JWT OTP
    """.split(),  # noqa: SIM905 - a list of words
)
def test_fields_that_carry_credentials(name: str) -> None:
    assert is_secret_field(name)
    assert is_secret_field(name.lower())
    assert is_secret_field(name.upper())


@pytest.mark.parametrize(
    "name",
    """
    Accept Content-Type Idempotency-Key idempotency_key User-Agent X-Request-ID Retry-After
    X-RateLimit-Remaining Last-Event-ID Via Location X-Compass Footprint X-Pass-Through
    """.split(),  # noqa: SIM905
)
def test_fields_that_do_not(name: str) -> None:
    assert not is_secret_field(name)


@pytest.mark.parametrize(
    "name",
    """
    secret signingSecret API-KEY access_token user_password passCode api_token apiToken slackToken
    githubtoken csrf_token SASToken ssh_key licensekey masterKey SSHKey x-functions-key key_id_key
    auth oauth pass pwd jwt otp smtpAuth db_pass id_token_hint
    """.split(),  # noqa: SIM905
)
def test_members_of_json_that_may_be_credentials(name: str) -> None:
    assert is_secret_member(name)


def test_a_name_may_hold_a_space() -> None:
    assert is_secret_member("PRIVATE KEY")


@pytest.mark.parametrize(
    "name",
    """
    token tokens page_token nextPageToken continuationToken total_tokens key keys keyword monkey
    idempotency_key idempotencyKey sessionId passed name author
    """.split(),  # noqa: SIM905
)
def test_members_that_are_not(name: str) -> None:
    assert not is_secret_member(name)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.test/x", "https://api.test/x"),
        ("https://api.test/x?", "https://api.test/x?"),
        ("https://api.test/x?a=1&b=2&a=", "https://api.test/x?a=***&b=***&a=***"),
        ("https://api.test/x?a=b=c?d", "https://api.test/x?a=***"),
        ("https://me:pw@api.test:8443/x@y", "https://api.test:8443/x@y"),
        ("https://api.test:8443/x@y", "https://api.test:8443/x@y"),
        ("https://me:p/w@api.test/x", "https://api.test/x"),
        ("https://me:p@w@api.test/?q=me@home", "https://api.test/?q=***"),
        ("https://api.test/a://b@c", "https://api.test/a://b@c"),
        ("/x@y?a=1", "/x@y?a=***"),
        ("https://api.test/x?bare&a=1&&b", "https://api.test/x?***&a=***&&***"),
        ("/x?page=2&per_page=100&limit=5", "/x?page=2&per_page=100&limit=5"),
        (
            "/x?status=failed&workflow_id=wf_1&offset=0",
            "/x?status=failed&workflow_id=wf_1&offset=0",
        ),
        ("/x?page=s3cr3t&status=A1&per_page=", "/x?page=***&status=***&per_page=***"),
        ("/x?workflow_id=fm_live_0123456789", "/x?workflow_id=***"),
        ("/x?mypage=1&page=1=2", "/x?mypage=***&page=***"),
        ("https://api.test/x#access_token=1?a", "https://api.test/x#***"),
        ("https://api.test/x?a=1#b", "https://api.test/x?a=***#***"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert showable_url(url) == shown
    assert repr(Request("GET", url, {})) == f"<Request GET {shown}, 0 bytes>"


def test_options_keep_the_key_to_themselves() -> None:
    options = ClientOptions(KEY, headers={"X-Own-Token": "tell_nobody", "X-Plain": "seen"})
    assert options.api_key == KEY
    for shown in (options, dataclasses.asdict(options), dataclasses.astuple(options)):
        assert KEY not in repr(shown)
        assert "tell_nobody" not in repr(shown)
        assert "seen" in repr(shown)
    assert "api_key" not in {field.name for field in dataclasses.fields(options)}
    assert options != ClientOptions(KEY + "_", headers=options.headers)


def test_a_scrubber_without_further_secrets_is_the_same_one() -> None:
    """To compile its pattern takes ten times as long as a call."""
    scrubber = SecretScrubber((("X-API-Key", KEY),))
    assert scrubber.with_secrets_of(()) is scrubber
    assert scrubber.with_secrets_of((("X-Own-Token", "tell_nobody"),)).line("tell_nobody") == "***"

"""`doctor`: what is wrong, and what to do."""

from __future__ import annotations

import json
import os
import ssl
import time

import certifi
import pytest

from flowmaestro import __version__
from flowmaestro.cli import doctor as doctor_module
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro.testing.conformance.scripted_server import (
    Authority,
    ScriptedServer,
    answering,
    reply,
)


@pytest.fixture(autouse=True)
def _no_proxy_and_no_certificates(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "_ca_bundle")) or name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def doctor(here):
    return lambda url, key, *more: here("doctor", "--base-url", url, "--api-key", key, *more)


def findings(done):
    """Return what was found, by the names of the checks."""
    return {it["check"]: it for it in json.loads(done.out)}


def test_doctor_exits_0_if_every_check_is_good(doctor):
    fake = FakeFlowMaestro(epoch=time.time())
    with running_server(fake) as url:
        done = doctor(url, fake.api_key)
        listed = json.loads(doctor(url, fake.api_key, "--json").out)
    assert (done.status, done.err) == (0, "")
    checks = [line.split()[1] for line in done.out.splitlines()]
    assert checks[:4] == ["flowmaestro", "python", "extras", "system"]
    assert checks[4:] == ["server", "proxy", "key", "connection", "clock", "rate", "scopes"]
    assert [finding["state"] for finding in listed] == ["ok"] * 11
    assert listed[0] == {"check": "flowmaestro", "state": "ok", "found": __version__, "advice": ""}
    assert "every command works with this key" in done.out
    assert fake.executions == []
    assert fake.api_key not in done.out


@pytest.mark.parametrize("tells_all", [True, False])
@pytest.mark.parametrize(
    ("scopes", "works"),
    [
        ("workflows:read", "list workflows"),
        ("workflows:read workflows:execute executions:read",
         "run, map, mcp, types, watch, list workflows, list executions"),
        ("agents:read agents:execute threads:write", "chat, list agents"),
        ("knowledge-bases:read knowledge-bases:query", "query, list knowledge-bases"),
    ],
)  # fmt: skip
def test_doctor_tells_which_commands_work_with_the_scopes_of_a_key(
    doctor, scopes, works, tells_all, monkeypatch
):
    fake = FakeFlowMaestro(epoch=time.time())
    key, handle = fake.add_key("fm_live_few", scopes=scopes.split()), fake.handle

    def say_less(request, now):
        reply = handle(request, now)
        reply.body = reply.body.replace(b'"your_scopes"', b'"other"')
        return reply

    if not tells_all:
        monkeypatch.setattr(fake, "handle", say_less)
    with running_server(fake) as url:
        done = doctor(url, key)
        (finding,) = json.loads(doctor(url, key, "--json").out)[-1:]
    assert done.status == 0
    assert finding["found"].startswith("the key lacks ")
    assert finding["advice"].startswith(f"Work: {works}. Do not: ")
    assert fake.executions == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "Run `flowmaestro login`, set FLOWMAESTRO_API_KEY, or give --api-key."),
        ("fm_live_wrong", "Check the key for typing errors, or make a new one."),
        ("fm_test_wrong", "The server refuses test keys today; make a live key."),
    ],
)
def test_without_a_good_key_all_is_checked_that_needs_none(doctor, key, said):
    with running_server(FakeFlowMaestro(epoch=1_000_000_000)) as url:  # it stands in 2001
        done = doctor(url, key)
        listed = json.loads(doctor(url, key, "--json").out)
    assert done.status == 4
    assert said in done.out
    assert "✓ connection  the server answered in " in done.out
    assert "this machine's clock is " in done.out
    failed = [finding["check"] for finding in listed if finding["state"] == "failed"]
    assert sorted(failed) == ["clock", "key"]
    checks = [finding["check"] for finding in listed]
    assert len(checks) == len(set(checks))


def test_a_server_that_is_not_flowmaestro_is_reported(doctor):
    page = reply(b"<html>Welcome to our hotel</html>")
    with ScriptedServer(answering(page, page)) as server:
        done = doctor(server.url, "fm_live_any")
    assert done.status == 1
    assert "Is this the base URL of a FlowMaestro server?" in done.out


def test_a_wrong_clock_is_reported(doctor):
    fake = FakeFlowMaestro(epoch=1_000_000_000)  # the server stands in 2001
    with running_server(fake) as url:
        done = doctor(url, fake.api_key)
    assert done.status == 1
    assert "this machine's clock is" in done.out
    assert "s ahead" in done.out


def test_a_spent_rate_limit_is_reported(command, fake):
    fake.fail_next(1, 429, path="/workflows", retry_after=7)
    done = command("doctor", "--api-key", fake.api_key)
    assert done.status == 5
    assert done.out.endswith("✗ rate limit  Too Many Requests\n              Try again in 7 s.\n")


@pytest.mark.parametrize("name", ["", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_untrusted_certificate_and_the_variable_that_decides_are_named(
    doctor, monkeypatch, tmp_path, name
):
    authority, bundle = Authority(tmp_path), certifi.where()
    if name:
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        monkeypatch.setenv(name, bundle)
    with ScriptedServer(answering(reply()), tls=authority.server_context()) as server:
        done = doctor(server.url, "fm_live_any")
    assert done.status == 6
    assert "✗ connection  the certificate is not trusted: " in done.out
    if name:
        assert f"✓ trust       the certificates in {bundle} ({name})" in done.out
        assert f"to {bundle}, or unset {name}." in done.out
    else:
        assert "Point SSL_CERT_FILE to its authority." in done.out


@pytest.mark.parametrize("value", ["/nowhere", "/nowhere:/nowhere/else"])
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_no_certificates_is_a_warning(doctor, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    trust = findings(doctor("https://127.0.0.1:9", "fm_live_any", "--json"))["trust"]
    assert trust["state"] == "warning"
    assert trust["found"].startswith("the certificates of the system")
    assert trust["advice"] == f"There is no {value}: correct {name}, or unset it."


def test_a_file_of_profiles_that_cannot_be_read_has_advice(here, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "flowmaestro" / "profiles.json").mkdir(parents=True)
    key = findings(here("doctor", "--base-url", "http://127.0.0.1:9", "--json"))["key"]
    assert "profiles.json cannot be read: " in key["found"]
    assert key["advice"] == "Correct that, set FLOWMAESTRO_API_KEY, or give --api-key."


def test_a_file_of_certificates_that_cannot_be_read_fails(doctor, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    done = doctor("https://127.0.0.1:9", "fm_live_any", "--json")
    last = json.loads(done.out)[-1]
    assert (done.status, last["check"], last["state"]) == (6, "trust", "failed")
    assert last["found"].startswith("REQUESTS_CA_BUNDLE: '/nowhere' cannot be read as CA cert")
    assert last["advice"] == "Correct the variable, or unset it."


def test_a_key_that_no_header_can_hold_is_a_finding(doctor):
    with running_server(FakeFlowMaestro(epoch=time.time())) as url:
        done = doctor(url, "fm_live_a\nb", "--json")
    found = findings(done)
    assert (done.status, found["key"]["state"]) == (2, "failed")
    assert found["key"]["found"].startswith("the key from --api-key must consist of visible ASCII")
    assert "connection" in found


@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        (10, "the certificate is not valid today: certificate has expired", "clock right?"),
        (62, "the certificate is for another host: Hostname mismatch", "Correct the host name"),
    ],
)
def test_an_expired_certificate_and_a_wrong_name_have_their_own_advice(code, said, advice):
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, said.partition(": ")[2]
    found, what_to_do = doctor_module._distrusted(error)
    assert found == said
    assert advice in what_to_do


def test_http_to_a_remote_host_is_a_warning(command, fake):
    done = command("doctor", "--base-url", "http://api.example.com", "--api-key", fake.api_key)
    assert "! server      http://api.example.com (--base-url)\n" in done.out
    assert "Use https://: without TLS" in done.out


def test_a_plain_server_on_an_https_url_is_explained(doctor):
    with running_server(FakeFlowMaestro()) as url:
        url = url.replace("http:", "https:")
        done = doctor(url, "fm_live_any")
    assert done.status == 6
    assert f"✗ connection  {url} speaks plain HTTP, not TLS\n" in done.out
    assert "_ssl.c" not in done.out


@pytest.mark.parametrize(
    ("proxy", "url", "said"),
    [
        ("http://127.0.0.1:9", "http://api.example", "nothing listens at http://127.0.0.1:9"),
        ("{url}", "http://api.example", "{url} asks for a password"),
        ("{url}", "https://api.example", "{url} refuses: CONNECT was answered with status 407"),
        ("socks5://a:1", "https://api.example", "SOCKS is not supported"),
        ("not a proxy", "https://api.example", "must be the URL of a proxy such as http://user"),
        ("", "https://no.invalid", "no address is known for https://no.invalid"),
    ],
)
def test_a_connection_failure_is_explained(doctor, monkeypatch, proxy, url, said):
    refusal = reply(b"", status="407 Proxy Authentication Required")
    with ScriptedServer(answering(refusal)) as server:
        monkeypatch.setenv("all_proxy", proxy.replace("{url}", server.url))
        done = doctor(url, "fm_live_any")
    assert (done.status, done.err) == (6, "")
    assert said.replace("{url}", server.url) in done.out
    assert done.out.splitlines()[-1].startswith(" " * 14)  # what to do

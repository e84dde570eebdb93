"""`doctor`: what stands between this machine and the server, in plain words."""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import chain
from typing import Any, Dict, Iterator, List, NamedTuple, cast
from urllib.parse import urlsplit

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import AUTHENTICATION, FAILED, NETWORK, RATE_LIMIT, CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.cli.entry import status_of
from flowmaestro.cli.session import client_for, print_json
from flowmaestro.errors import AuthorizationError, FlowMaestroError
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_transports.http11.proxies import Proxies

LARGEST_SKEW = 60.0
"""Seconds that this machine's clock may be off before it is worth a word."""


class Finding(NamedTuple):
    """One thing that was checked: whether it is good, what was seen, what to do."""

    check: str
    good: bool
    found: str
    advice: str = ""
    status: int = FAILED


def doctor_command(options: argparse.Namespace) -> None:
    """Print what was checked; `CommandFailed` with the status of the first bad finding."""
    findings: List[Finding] = []
    screen = console(sys.stdout)
    url = options.base_url or os.environ.get("FLOWMAESTRO_BASE_URL") or DEFAULT_BASE_URL
    with client_for(options) as client:
        for finding in chain(_settings(options, url), _server(client, url)):
            findings.append(finding)
            if not options.json:
                good, symbols = finding.good, screen.symbols
                lead = f"{symbols.good if good else symbols.bad} {finding.check:12}"
                style, indent = "green" if good else "red", len(lead)
                screen.line((lead, style), finding.found, indent=indent)
                if finding.advice:
                    screen.line(" " * indent, finding.advice, indent=indent)
    if options.json:
        print_json([finding._asdict() for finding in findings])
    bad = [finding for finding in findings if not finding.good]
    if bad:
        raise CommandFailed(status=bad[0].status)


def _settings(options: argparse.Namespace, url: str) -> Iterator[Finding]:
    origin = "--base-url" if options.base_url else "FLOWMAESTRO_BASE_URL"
    origin = "default" if url == DEFAULT_BASE_URL else origin
    parts = urlsplit(url)
    host, is_bare = parts.hostname or "", parts.scheme == "http"
    advice = "Use https://: without TLS, others on the way can read the key."
    is_safe = not is_bare or host in ("localhost", "127.0.0.1", "::1")
    yield Finding("server", True, f"{showable_url(url)} ({origin})", "" if is_safe else advice)
    proxy = Proxies().proxy_for(parts.scheme, host, parts.port or (80 if is_bare else 443))
    yield Finding("proxy", True, f"{proxy.url} (from the environment)" if proxy else "none")
    source = "--api-key" if options.api_key else "FLOWMAESTRO_API_KEY"
    key = options.api_key or os.environ.get("FLOWMAESTRO_API_KEY", "")
    if key.startswith("fm_test_"):
        advice = "The server refuses test keys today; make a live key."
        yield Finding("key", False, f"a test key, from {source}", advice, AUTHENTICATION)
    else:
        form = "a live key" if key.startswith("fm_live_") else "a key of an unusual form"
        yield Finding("key", True, f"{form}, from {source}")


def _server(client: FlowMaestroClient, url: str) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        reply = client.with_options(max_retries=0).workflows.list(per_page=1)
    except FlowMaestroError as error:
        yield _refusal(error)
        return
    found = f"the server answered in {time.monotonic() - began:.2f} s"
    found += ", and its certificate is trusted" if url.lower().startswith("https:") else ""
    yield Finding("connection", True, found)
    sent = parse_http_date(reply.headers.get("date") or "")
    if sent is not None:
        skew = time.time() - sent
        found = f"within {LARGEST_SKEW:.0f} s of the server's"
        advice = ""
        if abs(skew) > LARGEST_SKEW:
            found = f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
            advice = "Set it right: webhook freshness checks and dates depend on it."
        yield Finding("clock", not advice, found, advice)
    limit = reply.rate_limit
    if limit.remaining is not None:
        found = f"{limit.remaining} of {limit.limit} requests left in this minute"
        yield Finding("rate limit", True, found)
    yield _scopes(client)


def _scopes(client: FlowMaestroClient) -> Finding:
    """Which parts of the API the key may read."""
    missing: List[str] = []
    for name in ("executions", "agents", "triggers", "knowledge_bases", "webhooks"):
        try:
            getattr(client, name).list(per_page=1)
        except AuthorizationError as error:
            details = cast("Dict[str, Any]", error.details or {})
            missing += details.get("missing_scopes") or [f"{name.replace('_', '-')}:read"]
        except FlowMaestroError as error:
            return _refusal(error)
    if not missing:
        return Finding("scopes", True, "the key may read everything")
    found = "the key lacks " + ", ".join(dict.fromkeys(missing))
    advice = "Add these scopes to the key if you need them."
    return Finding("scopes", True, found, advice)


def _refusal(error: FlowMaestroError) -> Finding:
    """What a failed call means, and what to do."""
    status, text = status_of(error), error.message
    check, advice = {
        AUTHENTICATION: ("key", "Check the key for typing errors, or make a new one."),
        RATE_LIMIT: ("rate limit", f"Try again in {error.retry_after or 60:.0f} s."),
        NETWORK: ("connection", "Check the host name, the network, the proxy and the firewall."),
    }.get(status, ("server", "Is this the base URL of a FlowMaestro server?"))
    if isinstance(error, AuthorizationError):
        check, advice = "scopes", "Add the scope to the key."
    elif status == NETWORK and "certificate" in text.lower():
        advice = "The server's certificate is not trusted: is a company proxy in between? "
        advice += "Point SSL_CERT_FILE to its certificate authority."
    return Finding(check, False, text, advice, status)

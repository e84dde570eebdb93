"""`doctor`: what stands between this machine and the server, in plain words."""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import chain
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import AUTHENTICATION, FAILED, NETWORK, RATE_LIMIT, CommandFailed
from flowmaestro.cli.console import Console, console
from flowmaestro.cli.session import client_for, print_json
from flowmaestro.errors import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    FlowMaestroError,
    RateLimitError,
    TimeoutError,
)
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.secrets import showable_url

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
    with client_for(options) as client:
        for finding in chain(_settings(options), _server(client)):
            findings.append(finding)
            if not options.json:
                _show(screen, finding)
    if options.json:
        print_json([finding._asdict() for finding in findings])
    bad = [finding for finding in findings if not finding.good]
    if bad:
        raise CommandFailed(status=bad[0].status)


def _show(screen: Console, finding: Finding) -> None:
    symbols = screen.symbols
    sign, style = (symbols.good, "green") if finding.good else (symbols.bad, "red")
    lead = f"{sign} {finding.check:12}"
    screen.line((lead, style), finding.found, indent=len(lead))
    if finding.advice:
        screen.line(" " * len(lead), finding.advice, indent=len(lead))


def _settings(options: argparse.Namespace) -> List[Finding]:
    key = options.api_key or os.environ.get("FLOWMAESTRO_API_KEY", "")
    source = "--api-key" if options.api_key else "FLOWMAESTRO_API_KEY"
    given = options.base_url or os.environ.get("FLOWMAESTRO_BASE_URL")
    origin = "--base-url" if options.base_url else "FLOWMAESTRO_BASE_URL" if given else "default"
    url = given or DEFAULT_BASE_URL
    findings = [
        Finding("server", True, f"{showable_url(url)} ({origin})"),
        Finding("proxy", True, _proxy_for(url)),
    ]
    if key.startswith("fm_test_"):
        advice = "The server refuses test keys today; make a live key."
        findings.append(Finding("key", False, f"a test key, from {source}", advice, AUTHENTICATION))
    else:
        form = "a live key" if key.startswith("fm_live_") else "a key of an unusual form"
        findings.append(Finding("key", True, f"{form}, from {source}"))
    return findings


def _proxy_for(url: str) -> str:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return "none"
    return f"{showable_url(proxy)} (from the environment)"


def _server(client: FlowMaestroClient) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        reply = client.with_options(max_retries=0).workflows.list(per_page=1)
    except FlowMaestroError as error:
        yield _refusal(error)
        return
    took = time.monotonic() - began
    yield Finding("connection", True, f"the server answered in {took:.2f} s")
    skew = _skew(reply.headers.get("date"))
    if skew is not None and abs(skew) > LARGEST_SKEW:
        found = f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        advice = "Set it right: webhook freshness checks and dates depend on it."
        yield Finding("clock", False, found, advice)
    elif skew is not None:
        yield Finding("clock", True, f"within {LARGEST_SKEW:.0f} s of the server's")
    limit = reply.rate_limit
    if limit.remaining is not None:
        found = f"{limit.remaining} of {limit.limit} requests left in this minute"
        yield Finding("rate limit", True, found)
    yield _scopes(client)


def _scopes(client: FlowMaestroClient) -> Finding:
    """Which parts of the API the key may read."""
    readings: Dict[str, Callable[..., Any]] = {
        "executions:read": client.executions.list,
        "agents:read": client.agents.list,
        "triggers:read": client.triggers.list,
        "knowledge-bases:read": client.knowledge_bases.list,
        "webhooks:read": client.webhooks.list,
    }
    missing: List[str] = []
    for scope, read in readings.items():
        try:
            read(per_page=1)
        except AuthorizationError as error:
            details = cast("Dict[str, Any]", error.details or {})
            missing += details.get("missing_scopes") or [scope]
        except FlowMaestroError as error:
            return _refusal(error)
    if not missing:
        return Finding("scopes", True, "the key may read everything")
    found = "the key lacks " + ", ".join(dict.fromkeys(missing))
    advice = "Add these scopes to the key if you need them."
    return Finding("scopes", True, found, advice)


def _refusal(error: FlowMaestroError) -> Finding:
    """What a failed call means, and what to do."""
    text = error.message
    if isinstance(error, AuthenticationError):
        advice = "Check the key for typing errors, or make a new one."
        return Finding("key", False, text, advice, AUTHENTICATION)
    if isinstance(error, AuthorizationError):
        return Finding("scopes", False, text, "Add the scope to the key.", AUTHENTICATION)
    if isinstance(error, RateLimitError):
        advice = f"Try again in {error.retry_after or 60:.0f} s."
        return Finding("rate limit", False, text, advice, RATE_LIMIT)
    if isinstance(error, (ConnectionError, TimeoutError)):
        advice = "Check the host name, the network, the proxy and the firewall."
        if "certificate" in text.lower():
            advice = "The server's certificate is not trusted: is a company proxy in between? "
            advice += "Point SSL_CERT_FILE to its certificate authority."
        return Finding("connection", False, text, advice, NETWORK)
    advice = "Is this the base URL of a FlowMaestro server?"
    return Finding("server", False, str(error), advice, FAILED)


def _skew(date: Optional[str]) -> Optional[float]:
    """Seconds that this machine's clock is ahead of the server's."""
    sent = None if date is None else parse_http_date(date)
    return None if sent is None else time.time() - sent

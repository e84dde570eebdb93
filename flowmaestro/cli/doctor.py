"""`doctor`: checks of the key, the server and the connection, with advice on what is wrong."""

from __future__ import annotations

import argparse
import os
import platform
import socket
import ssl
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, cast
from urllib.parse import urlsplit

from flowmaestro import FlowMaestroClient, __version__
from flowmaestro.cli import AUTHENTICATION, FAILED, NETWORK, RATE_LIMIT, USAGE, CommandFailed
from flowmaestro.cli.arguments import LISTED
from flowmaestro.cli.console import Lines
from flowmaestro.cli.credentials import Credentials, credentials_of, url_of
from flowmaestro.cli.entry import status_of
from flowmaestro.cli.output import print_json
from flowmaestro.errors import AuthorizationError, FlowMaestroError, NotFoundError
from flowmaestro_core.arguments import check_token
from flowmaestro_core.defaults import DEFAULT_BASE_URL, DEFAULT_TIMEOUT
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.messages import Request, TransportFailure
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.payloads.json_values import list_or_empty
from flowmaestro_transports.defaults import default_transport
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.tls import tls_when_needed

LARGEST_SKEW = 60.0
"""Seconds that this machine's clock may be off before it is reported. A `Date` has whole seconds,
and its reply may have taken some. Less than a minute harms nothing that the SDK does."""
_PROXY_ADVICE = "Does the proxy ask for a password? Write http://user:password@host:port."
_CHECK_THE_WAY = "Check the host name, the network, the proxy and the firewall."


OK, WARNING, BAD = "ok", "warning", "failed"
_NO_ID = "00000000-0000-0000-0000-000000000000"
_EXTRAS = ("aiohttp", "requests", "trio", "rich", "keyring", "mcp", "opentelemetry-api")
"""A package of each extra."""
_RUN = "workflows:read workflows:execute executions:read"
_NEEDED = {
    **dict.fromkeys(("run", "map", "mcp"), _RUN),
    "types": "workflows:read executions:read",
    "watch": "executions:read",
    "cancel": "executions:read executions:cancel",
    "chat": "agents:read agents:execute threads:write",
    "query": "knowledge-bases:read knowledge-bases:query",
    "fire": "triggers:read triggers:execute",
    **{f"list {kind}": f"{kind}:read" for kind in LISTED},
    "get threads": "threads:read",
}
"""The scopes that each command needs. `get` needs those of `list`."""
_SCOPES = tuple(dict.fromkeys(" ".join(_NEEDED.values()).split()))
_PROBES: Dict[str, Callable[[FlowMaestroClient], Any]] = {
    "workflows:read": lambda client: client.workflows.list(per_page=1),
    "executions:read": lambda client: client.executions.list(per_page=1),
    "agents:read": lambda client: client.agents.list(per_page=1),
    "triggers:read": lambda client: client.triggers.list(per_page=1),
    "knowledge-bases:read": lambda client: client.knowledge_bases.list(per_page=1),
    "webhooks:read": lambda client: client.webhooks.list(per_page=1),
    "threads:read": lambda client: client.threads.get(_NO_ID),
    "workflows:execute": lambda client: client.workflows.execute(_NO_ID),
    "executions:cancel": lambda client: client.executions.cancel(_NO_ID),
    "triggers:execute": lambda client: client.triggers.execute(_NO_ID),
    "knowledge-bases:query": lambda client: client.knowledge_bases.query(_NO_ID, "?"),
    "agents:execute": lambda client: client.threads.send_message(_NO_ID, "?"),
}
"""A call that needs a scope, by the scope. None can change anything: there is no such id."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Finding(NamedTuple):
    """The result of one check: its name, its state, what was seen, and what to do.

    The state is `ok`, `warning` or `failed`. If checks failed, the command ends with the highest
    `exit_status` of these.
    """

    check: str
    state: str
    found: str
    advice: str = ""
    exit_status: int = FAILED


def doctor_command(options: argparse.Namespace) -> None:
    """Run the checks and print their results. Without a connection, leave out the rest.

    Raises `CommandFailed` with the highest exit status of the failed checks, if any failed, and for
    a malformed base URL.
    """
    findings: List[Finding] = []
    screen = Lines(sys.stdout)
    refusal: Optional[Finding] = None
    try:
        used = credentials_of(options)
    except CommandFailed as error:
        url, source = url_of(options)
        used = Credentials(None, url or DEFAULT_BASE_URL, "", source)
        hint = error.hint or "correct that, set FLOWMAESTRO_API_KEY, or give --api-key"
        advice = f"{hint[:1].upper()}{hint[1:]}."
        refusal = Finding("key", BAD, str(error), advice, error.status)
    if used.api_key:
        try:
            check_token(f"the key from {used.key_source}", used.api_key)
        except ValueError as error:
            used.api_key = None
            refusal = Finding("key", BAD, str(error), "Copy it again, whole.", USAGE)
    with FlowMaestroClient(used.api_key or "none", base_url=used.base_url, max_retries=0) as client:
        for finding in _findings(client, used, refusal):
            findings.append(finding)
            if options.output is None:
                signs = {OK: screen.symbols.good, WARNING: "!", BAD: screen.symbols.bad}
                lead = f"{signs[finding.state]} {finding.check:12}"
                screen.line(lead, finding.found, indent=len(lead))
                if finding.advice:
                    screen.line(" " * len(lead), finding.advice, indent=len(lead))
            if finding.state == BAD and finding.exit_status == NETWORK:
                break  # Without a connection no other check can be made.
    if options.output is not None:
        names = ("check", "state", "found", "advice")
        print_json([dict(zip(names, finding)) for finding in _worst(findings)])
    bad = [finding.exit_status for finding in findings if finding.state == BAD]
    if bad:
        raise CommandFailed(status=max(bad))


def _worst(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Return one finding for each check: the last one that is not OK, else the first.

    A check can have several findings: the form of a key may be right, and the server refuse it.
    """
    found: Dict[str, Finding] = {}
    for finding in findings:
        if finding.check not in found or finding.state != OK:
            found[finding.check] = finding
    return found.values()


def _findings(
    client: FlowMaestroClient, used: Credentials, refusal: Optional[Finding]
) -> Iterator[Finding]:
    yield Finding("flowmaestro", OK, __version__)
    packages = ", ".join(f"{name} {version(name)}" for name in ("h11", "anyio", "certifi"))
    yield Finding("python", OK, f"{platform.python_version()}, {packages}")
    yield Finding("extras", OK, ", ".join(_extras()) or "none")
    yield Finding("system", OK, f"{platform.system()} {platform.release()}, {platform.machine()}")
    url = used.base_url
    parts = urlsplit(url)
    host, is_bare = parts.hostname or "", parts.scheme == "http"
    advice = "Use https://: without TLS, others on the way can read the key."
    is_safe = not is_bare or host in ("localhost", "127.0.0.1", "::1")
    state, advice = (OK, "") if is_safe else (WARNING, advice)
    yield Finding("server", state, f"{showable_url(url)} ({used.url_source})", advice)
    try:
        proxy = Proxies().proxy_for(parts.scheme, host, parts.port or (80 if is_bare else 443))
    except (TransportFailure, ValueError) as error:
        advice = "Correct the variable, or name the host in NO_PROXY."
        yield Finding("proxy", BAD, str(error), advice, NETWORK)
        return
    yield Finding("proxy", OK, f"{proxy.url} (from the environment)" if proxy else "none")
    if not is_bare:
        trust = _trust_store()
        yield trust
        if trust.state == BAD:
            return
    key = refusal or _key(used.api_key or "", used.key_source)
    yield key
    yield from _connection(url, proxy.url if proxy else showable_url(url))
    if key.state != BAD:
        yield from _permissions(client)


def _extras() -> Iterator[str]:
    for name in _EXTRAS:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


def _bundle() -> Optional[str]:
    """Return the name of the variable that replaces the system's trust store, or `None`.

    `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` come first, as in the transports; their paths need not
    exist. `SSL_CERT_FILE` and `SSL_CERT_DIR` count only if `_leads_somewhere` is True for them.
    """
    names = [name for name in (*_BUNDLES, *_OPENSSL) if os.environ.get(name)]
    return next((name for name in names if name not in _OPENSSL or _leads_somewhere(name)), None)


def _leads_somewhere(name: str) -> bool:
    """Return whether `SSL_CERT_FILE` names a file, or `SSL_CERT_DIR` at least one folder.

    A variable that leads nowhere replaces its part of the system's trust store by nothing, as in
    OpenSSL.
    """
    value = os.environ[name]
    if name == "SSL_CERT_FILE":
        return os.path.isfile(value)
    return any(map(os.path.isdir, value.split(os.pathsep)))


def _trust_store() -> Finding:
    try:
        tls_when_needed()()
    except OSError as error:
        return Finding("trust", BAD, str(error), "Correct the variable, or unset it.", NETWORK)
    name = _bundle()
    found = "the certificates of the system, or those of certifi where it has none"
    if name is not None:
        found = f"the certificates in {os.environ[name]} ({name})"
    if name not in _BUNDLES:
        for each in _OPENSSL:
            if os.environ.get(each) and not _leads_somewhere(each):
                advice = f"There is no {os.environ[each]}: correct {each}, or unset it."
                return Finding("trust", WARNING, found, advice)
    return Finding("trust", OK, found)


def _key(key: str, source: str) -> Finding:
    if not key:
        advice = "Run `flowmaestro login`, set FLOWMAESTRO_API_KEY, or give --api-key."
        return Finding("key", BAD, "there is none", advice, AUTHENTICATION)
    if key.startswith("fm_test_"):
        advice = "The server refuses test keys today; make a live key."
        return Finding("key", BAD, f"a test key, from {source}", advice, AUTHENTICATION)
    form = "a live key" if key.startswith("fm_live_") else "a key of an unusual form"
    return Finding("key", OK, f"{form}, from {source}")


def _connection(url: str, peer: str) -> Iterator[Finding]:
    """Yield what is found about the connection to the server, and about this machine's clock.

    The key is not sent.
    """
    began = time.monotonic()
    transport = default_transport().get()
    try:
        reply = transport.send(Request("GET", f"{url.rstrip('/')}/api/v1", {}), DEFAULT_TIMEOUT)
    except TransportFailure as failure:
        yield Finding("connection", BAD, *_explained(failure, peer), NETWORK)
        return
    finally:
        transport.close()
    if reply.status == 407:  # RFC 9110, 15.5.8
        yield Finding("proxy", BAD, f"{peer} asks for a password", _PROXY_ADVICE, NETWORK)
    found = f"the server answered in {time.monotonic() - began:.2f} s"
    found += ", and its certificate is trusted" if url.lower().startswith("https:") else ""
    yield Finding("connection", OK, found)
    sent = parse_http_date(reply.headers.get("date") or "")
    if sent is not None:
        skew = time.time() - sent
        found, advice = f"within {LARGEST_SKEW:.0f} s of the server's", ""
        if abs(skew) > LARGEST_SKEW:
            found = f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
            advice = "Set it right: webhook freshness checks and dates depend on it."
        yield Finding("clock", BAD if advice else OK, found, advice)


def _permissions(client: FlowMaestroClient) -> Iterator[Finding]:
    """Yield what is found about the rate limit and the scopes of the key, or why a call failed."""
    try:
        limit = client.workflows.list(per_page=1).rate_limit
        if limit.remaining is not None:
            found = f"{limit.remaining} of {limit.limit} requests left in this minute"
            yield Finding("rate limit", OK, found)
    except AuthorizationError:
        pass  # The key is good, but not for workflows.
    except FlowMaestroError as error:
        yield _refusal(error)
        return
    yield _scopes(client)


def _scopes(client: FlowMaestroClient) -> Finding:
    """Return which commands work with the key, and which scopes it lacks.

    Each probe reads, or names a resource that does not exist: the server answers 404 to a key that
    has the scope, and 403 to others. Its first 403 may list all scopes of the key. If a call fails
    in another way, return why.
    """
    missing: List[str] = []
    for scope, probe in _PROBES.items():
        try:
            probe(client)
        except AuthorizationError as error:
            details = cast("Dict[str, Any]", error.details or {})
            known = list_or_empty(details.get("your_scopes"))
            if known:
                missing = [scope for scope in _SCOPES if scope not in known]
                break
            missing += list_or_empty(details.get("missing_scopes")) or [scope]
        except NotFoundError:
            pass
        except FlowMaestroError as error:
            return _refusal(error)
    if not missing:
        return Finding("scopes", OK, "every command works with this key")
    works = [name for name, scopes in _NEEDED.items() if not {*scopes.split()} & {*missing}]
    others = [name for name in _NEEDED if name not in works]
    advice = f"Work: {', '.join(works) or 'none'}. Do not: {', '.join(others)}."
    return Finding("scopes", WARNING, f"the key lacks {', '.join(dict.fromkeys(missing))}", advice)


def _refusal(error: FlowMaestroError) -> Finding:
    """Return the finding for a call that failed: what the error means, and what to do."""
    status = status_of(error)
    check, advice = {
        AUTHENTICATION: ("key", "Check the key for typing errors, or make a new one."),
        RATE_LIMIT: ("rate limit", f"Try again in {error.retry_after or 60:.0f} s."),
        NETWORK: ("connection", _CHECK_THE_WAY),
    }.get(status, ("server", "Is this the base URL of a FlowMaestro server?"))
    if isinstance(error, AuthorizationError):
        check, advice = "scopes", "Add the scope to the key."
    found = f"the server refuses it: {error.message}" if check == "key" else error.message
    return Finding(check, BAD, found, advice, status)


def _explained(failure: TransportFailure, peer: str) -> Tuple[str, str]:
    """Return why the connection to `peer` failed, and what to do, in plain words."""
    cause: Optional[BaseException] = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _distrusted(cause)
        if isinstance(cause, ssl.SSLError):
            if cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
                advice = "Write http:// instead of https://, or name the port that speaks TLS."
                return f"{peer} speaks plain HTTP, not TLS", advice
            words = (cause.reason or "the connection broke off").replace("_", " ").lower()
            return f"no TLS with {peer}: {words}", _CHECK_THE_WAY
        if isinstance(cause, socket.gaierror):
            return f"no address is known for {peer}", "Check its spelling, and this machine's DNS."
        if isinstance(cause, ConnectionRefusedError):
            if cause.errno is None:  # A proxy has opened no tunnel.
                return f"{peer} refuses: {cause}", _PROXY_ADVICE
            return f"nothing listens at {peer}", "Start it, or correct the host and the port."
        cause = cause.__cause__
    return str(failure), _CHECK_THE_WAY


def _distrusted(error: ssl.SSLCertVerificationError) -> Tuple[str, str]:
    """Return why a certificate is not trusted, and what to do. Error codes are OpenSSL's."""
    words = error.verify_message
    if error.verify_code in (9, 10):  # Not valid yet, or no longer.
        advice = "Is this machine's clock right? If so, the owner of the server must renew it."
        return f"the certificate is not valid today: {words}", advice
    if error.verify_code in (62, 64):  # Another host name, or another IP address.
        advice = "Correct the host name in the base URL, or ask the owner of the server."
        return f"the certificate is for another host: {words}", advice
    name = _bundle()
    if name is None:
        advice = "Is a company proxy in between? Point SSL_CERT_FILE to its authority."
    else:
        advice = f"Add the authority of the server or proxy to {os.environ[name]}, or unset {name}."
    return f"the certificate is not trusted: {words}", advice

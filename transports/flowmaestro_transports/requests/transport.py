"""The transport on requests. It sends through `Session.send`, which tools for requests patch.

Mounted adapters, hooks, instrumentations and recorders see its calls. Requests are prepared here,
so that nothing that a session would add replaces what the core wants sent. Failures are raised by
the rule of `http11/failures.py`: no local variable in their tracebacks shows a secret.

May touch: the network, by way of the session; the variables that name proxies and certificates.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from typing import Any, ClassVar, List, Mapping, Optional, Set, Tuple
from urllib.request import getproxies

import requests
from requests.utils import get_auth_from_url, select_proxy
from urllib3.util import SKIP_HEADER
from urllib3.util import Timeout as Urllib3Timeout

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.contract import OpenResponse
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import ANY_HOST, RequestWriter
from flowmaestro_transports.http11.failures import closed, too_slow
from flowmaestro_transports.http11.hosts import with_ascii_host
from flowmaestro_transports.http11.proxies import credentials
from flowmaestro_transports.http11.round_trip import AttemptDeadline
from flowmaestro_transports.http11.tls import tls_when_needed
from flowmaestro_transports.primitives.checks import check_session
from flowmaestro_transports.primitives.fork_guard import ForkGuard, NotPicklable
from flowmaestro_transports.primitives.slots import InFlight, Slots, calls_at_once
from flowmaestro_transports.requests.body import LONGEST, RequestsBody
from flowmaestro_transports.requests.failures import (
    ERRORS,
    failure_before_head,
    failure_within_body,
)
from flowmaestro_transports.requests.send_guard import CheckedHeaders, SendGuard, TooLate

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""The methods whose requests have no Content-Length if their body is empty (RFC 9110, 8.6)."""

_KNOWN_FAILURES: Mapping[str, str] = {
    "quiet-body": "a receive that has timed out cannot be repeated: streams reconnect",
    "close-wakes-a-call": "a call waits for the head of its response until it times out",
    "a-failed-handshake": "cannot be told apart from a lost response, so a POST is not retried",
}


class _Turn:
    """The operation of a call that waits for a slot: see `Op`. `closing` ends the wait.

    It waits for a lock of its own, which `wake` releases. Nobody else waits for this lock, so an
    exception from a signal handler may leave it locked.
    """

    __slots__ = ("_closing", "_lock")

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._lock = threading.Lock()

    def acquire_waker(self) -> None:
        self._lock.acquire(blocking=False)

    def wait(self, until: float) -> None:
        """Wait as `Op` says. Raises `TransportClosedError` if the transport was closed."""
        if self._closing.is_set():
            raise TransportClosedError
        self._lock.acquire(timeout=max(until - time.monotonic(), 0))

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # It is not locked: nobody waits, or not yet.
            self._lock.release()


class RequestsTransport(NotPicklable):
    """A `Transport` on a `requests.Session`. Safe to use from several threads.

    The session's mounted adapters, response hooks, proxies, `verify` and `cert` are used; its
    headers, cookies, auth and params are not. The session's cookie jar keeps the cookies that a
    response sets, because requests cannot be told not to; calls do not send them. The session's
    adapters limit how many idle connections are stored. A given session is never closed. A child
    process after `os.fork` uses it, too: before its first call, it closes its copies of the idle
    connections, which stay open in the parent. Without a `session`, the transport makes one, with
    the defaults of requests, and closes that one; a child process makes another.

    At most `max_connections` calls are in flight at once. Others wait for them, within their own
    time limits. An open body is not a call in flight. The default is 100 without a `session`, and
    no limit with one, whose adapters may have limits of their own.

    A response hook that reads the body must do so by `response.content`, which keeps it. Otherwise
    the call fails (*reply broken*).

    The transport is not patient: a read that times out loses the body. `known_failures` lists the
    conformance checks that the transport fails. What a malformed, truncated or endless response
    means is decided as requests and urllib3 do it. For example, a head that comes byte by byte may
    take longer than `timeout`, a body without a length may be truncated in silence under TLS, a
    204 that announces chunks is waited for, and a 102, 103 or 199 before the response makes the
    call fail (*reply broken*).

    Raises `TypeError` for a `session` of another type, or a `max_connections` that is not an
    integer, and `ValueError` for one below 1.
    """

    patient = False
    bounds_replies = True
    known_failures: ClassVar[Mapping[str, str]] = _KNOWN_FAILURES
    """The conformance checks that it fails, each with its consequence for users."""

    def __init__(
        self,
        session: Optional[requests.Session] = None,
        *,
        max_connections: Optional[int] = None,
    ) -> None:
        if session is not None:
            check_session(session, requests.Session)
        self._callers_session = session
        self._max_connections = calls_at_once(max_connections, session)
        self._closing = threading.Event()
        # It only checks requests, so it has no host of its own. For a malformed field, http.client
        # would raise a `ValueError`, as a hook of the session may once the request was sent.
        self._writer = RequestWriter(ANY_HOST)
        self._reset()

    @property
    def secrets(self) -> Tuple[str, ...]:
        """The credentials in the proxy URLs of the session and, with `trust_env`, of the system.

        They have the form that `credentials` returns.
        """
        urls = [*self._session.proxies.values()]
        if self._session.trust_env:
            urls += getproxies().values()
        found: List[str] = []
        for url in urls:
            with contextlib.suppress(ValueError):  # Nothing is sent to a proxy without a valid URL.
                user = get_auth_from_url(url)
                found += credentials(*user) if any(user) else ()
        return tuple(found)

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response within `timeout` seconds.

        A head or a chunk header that comes byte by byte may take longer. Raises `TransportFailure`.
        A body of more than `max_reply_size` bytes, decoded, is returned in part; without this
        limit, one of more than 64 MiB is a failure (*reply broken*).
        """
        deadline = time.monotonic() + min(timeout, LONGEST)
        silence = LONGEST
        if isinstance(timeout, Timeout):
            silence = timeout.read or LONGEST
        bound = request.max_reply_size
        flight, slots = self._enter()
        try:
            limit = MAX_BODY if bound is None else sys.maxsize
            body = self._begin(slots, flight, request, timeout, limit)
            try:
                enough = sys.maxsize if bound is None else bound
                content = body.read_whole(deadline, silence, enough)
            finally:
                body.close()
        finally:
            slots.give_back(flight)
        return Response(body.status, body.headers, content)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        A head that comes byte by byte may take longer. `timeout` does not bound the body. Raises
        `TransportFailure`.
        """
        flight, slots = self._enter()
        try:
            return self._begin(slots, flight, request, timeout, sys.maxsize)
        finally:
            slots.give_back(flight)

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, at most 11 days.

        Raises `TransportClosedError` once the transport is closed.
        """
        self._reset_if_forked()
        if self._closing.wait(min(seconds, LONGEST)):
            raise TransportClosedError

    def now(self) -> float:
        """Return the time of the monotonic clock in seconds."""
        return time.monotonic()

    def close(self) -> None:
        """Close every open body. Later calls raise `TransportClosedError`.

        A session that the transport has made is closed as well, with its idle connections. Every
        read of a body, every pause and every wait for other calls wakes, and raises. A call that
        waits for the head of its response continues until the head comes or the call times out, and
        then raises.
        """
        self._reset_if_forked()
        self._closing.set()
        for flight in self._slots.claimants():
            flight.op.wake()
        for reference in list(self._bodies):
            body = reference()
            if body is not None:
                body.close()
        self._bodies.clear()
        if self._callers_session is None:
            _close(self._session)

    def _reset(self) -> None:
        """Create the state of a new transport, or of a child after `os.fork`: no open bodies.

        A session that was given stays.
        """
        self._session = self._callers_session or requests.Session()
        # The open bodies. The finalizer of urllib3 closes the connection of one that nobody closed.
        self._bodies: Set[weakref.ref[RequestsBody]] = set()
        self._settings_of_origin: Tuple[List[str], Mapping[str, Any]] = [], {}
        self._slots: Slots[_Turn] = Slots(self._max_connections)
        self._process = ForkGuard()

    def _reset_if_forked(self) -> None:
        if self._process.forked:
            # A thread of the parent may have held the lock of this event when it forked.
            closing, self._closing = self._closing, threading.Event()
            if closing.is_set():
                self._closing.set()
            if self._callers_session is not None:
                _drop_connections(self._callers_session)
            self._reset()

    def _enter(self) -> Tuple[InFlight[_Turn], Slots[_Turn]]:
        """Queue for a slot. Return the place in the queue, and the slots to give it back to."""
        self._reset_if_forked()
        flight, slots = InFlight(_Turn(self._closing)), self._slots
        flight.waits_for_slot = not slots.enter(flight)
        return flight, slots

    def _begin(
        self,
        slots: Slots[_Turn],
        flight: InFlight[_Turn],
        request: Request,
        timeout: float,
        limit: int,
    ) -> RequestsBody:
        """Wait for a slot and send the request. Return the response once its head has come.

        The body is open; `limit` is the most bytes that it may have, decoded. Raises
        `TransportFailure`, or `TransportClosedError` if the transport was closed and nothing was
        sent.
        """
        began, deadline = time.monotonic(), AttemptDeadline(timeout, time.monotonic)
        if self._closing.is_set():
            raise TransportClosedError
        self._writer.check(request)
        if flight.waits_for_slot and not slots.take(flight, deadline.at):
            raise too_slow(Phase.NOT_SENT, deadline.seconds)
        if self._closing.is_set():
            raise TransportClosedError
        session = self._session
        limits = _limits(timeout, time.monotonic() - began)
        guard = SendGuard(began + min(timeout, LONGEST), self._closing)
        try:
            _refuse_unsafe(session.get_adapter(request.url))
            prepared = _prepared(request, guard)
            # No local variable holds the settings: their proxies may have passwords.
            response = _response_to(
                session, prepared, guard, timeout=limits, **self._settings(request.url)
            )
        except BaseException as error:
            if isinstance(error, TransportFailure) or not isinstance(error, Exception):
                raise error.with_traceback(None)  # noqa: B904 - a refusal, a hook or an interrupt
            if not isinstance(error, (TooLate, *ERRORS)):
                raise
            failure = guard.failure() if isinstance(error, TooLate) else failure_before_head(error)
        else:
            body = RequestsBody(response, limit)
            self._bodies.add(weakref.ref(body, self._bodies.discard))
            if self._closing.is_set():  # `close` may have come before the body was in the set.
                body.close()
                raise closed(Phase.REPLY_BROKEN)
            return body
        finally:
            guard.over = True  # What reads the header fields from now on does not send them.
        if self._closing.is_set() and failure.phase is Phase.NOT_SENT:
            raise TransportClosedError
        raise failure

    def _settings(self, url: str) -> Mapping[str, Any]:
        """Return the settings of the session and its environment for a URL.

        The settings of our own session never change, so those of the last origin are cached:
        requests takes 0.1 ms to read the environment, a large part of a short call. A variable that
        changes later counts after a call to another origin. Raises `TransportFailure` for settings
        under which requests fails late or is not safe.
        """
        origin = url.split("/", 3)[:3]
        known, settings = self._settings_of_origin
        if known != origin or self._callers_session is not None:
            # A call has no proxies, verify and cert of its own. True is for stream.
            settings = self._session.merge_environment_settings(url, {}, True, None, None)
            self._settings_of_origin = origin, settings
        refusal = _refusal_of_network(url, settings)
        if refusal is not None:
            raise refusal
        return settings


def _refuse_unsafe(adapter: Any) -> None:
    """Raise `TransportFailure` if an adapter may repeat a request, or may wait without limit.

    With `pool_block`, a call waits for a connection until another call or stream ends, whatever its
    timeout. Every `Retry` that allows a retry is refused: urllib3 repeats "other" errors whatever
    the method, and sleeps for a `Retry-After` beyond any deadline.
    """
    limits = getattr(adapter, "max_retries", 0)  # An adapter of another kind need not have it.
    if getattr(limits, "total", limits) != 0:  # False, too, means: never.
        raise _refusal(
            "an adapter of the session has max_retries, so requests could be sent twice, or late; "
            "mount HTTPAdapter(), whose max_retries is 0: the client retries by itself"
        )
    manager = getattr(adapter, "poolmanager", None)
    if getattr(manager, "connection_pool_kw", {}).get("block"):
        raise _refusal(
            "an adapter of the session has pool_block=True, so a call could wait without limit; "
            "mount HTTPAdapter(), or bound calls with RequestsTransport(max_connections=...)"
        )


def _refusal_of_network(url: str, settings: Mapping[str, Any]) -> Optional[TransportFailure]:
    """Return the failure if requests fails late, or is not safe, under `settings`; else `None`.

    `settings` are those of `Session.send`. A file of certificates that cannot be read would be an
    `OSError` without its path, as if the request had been sent. A proxy with TLS is not verified
    under an http URL.
    """
    verify, cert = settings["verify"], settings["cert"]
    if url.lower().startswith("https:"):
        if isinstance(verify, str) or cert:
            try:
                tls_when_needed(verify if isinstance(verify, str) else True, cert)
            except (OSError, ValueError, TypeError) as error:
                # requests does not tell which of the two it has taken `verify` from.
                return _refusal(
                    f"the session, or a variable such as REQUESTS_CA_BUNDLE, is wrong: {error}"
                )
        return None
    proxy = select_proxy(url, settings["proxies"])
    if proxy and proxy.lower().startswith("https:") and verify is not False:
        return _refusal(
            "requests does not verify the certificate of an https proxy for an http URL; "
            "use an http proxy, or https in base_url"
        )
    return None


def _refusal(reason: str) -> TransportFailure:
    return TransportFailure(Phase.NOT_SENT, reason, permanent=True)


def _close(session: Any) -> None:
    """Close a session and its pools. `Session.close` leaves the pools to the garbage collector.

    The collection may come late: an exception that the caller keeps refers to a response, and the
    response refers to its pool.
    """
    for adapter in session.adapters.values():
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            keys = manager.pools.keys()  # Iterating over `pools` itself raises.
            for key in keys:
                manager.pools[key].close()
    session.close()


def _drop_connections(session: requests.Session) -> None:
    """Close a child's copies of the idle connections that its parent has in `session`.

    Those of the parent stay open, and the child may go on using the session.
    """
    # Not `session.close`: in a subclass, it may close more than connections.
    for adapter in session.adapters.values():
        # An adapter may have no `close`, or one that raises. That would fail every later call,
        # although the adapter may well send.
        with contextlib.suppress(Exception):
            adapter.close()


def _limits(timeout: float, waited: float) -> Urllib3Timeout:
    """Return what is left of `timeout` as urllib3 takes it, after `waited` seconds of it.

    Raises `TransportFailure` (*not sent*) if no time is left to connect.
    """
    total = connect = head = min(timeout - waited, LONGEST)
    if isinstance(timeout, Timeout):
        connect = min((timeout.connect or timeout) - waited, total)
        head = min(timeout.head or total, total)
    if connect <= 0:
        raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
    return Urllib3Timeout(total=total, connect=connect, read=head)


def _prepared(request: Request, guard: SendGuard) -> requests.PreparedRequest:
    """Prepare the request with its own header fields, and Content-Length if it may have a body.

    Suppress every other header that requests and urllib3 would add, except Host.
    """
    given = request.headers
    headers = CheckedHeaders({}, guard)
    for name, _ in given.pairs:
        headers[name] = given[name]  # The values of a repeated field, joined by commas.
    for name in ("User-Agent", "Accept-Encoding"):
        if name not in given:
            headers[name] = SKIP_HEADER
    if (request.body or request.method not in _BODILESS) and "Content-Length" not in given:
        headers["Content-Length"] = str(len(request.body))
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = with_ascii_host(request.url)
    prepared.headers = headers
    prepared.body = request.body or None
    return prepared


def _response_to(
    session: requests.Session,
    prepared: requests.PreparedRequest,
    guard: SendGuard,
    **settings: Any,
) -> requests.Response:
    """Send a request through the session's adapters and hooks. Return its response.

    Redirects are not followed. `guard` is inactive once the head of the response has come.
    `settings` are those of `Session.send`. Raises `TransportFailure` (*reply broken*) if a hook
    raises one of `ERRORS`; every other exception unchanged.
    """
    came: List[requests.Response] = []
    found: List[str] = []

    def note(response: requests.Response, **_: Any) -> None:
        guard.over = True
        came.append(response)

    def hide_location(response: requests.Response, **_: Any) -> None:
        # Session.send reads the whole body of a redirect, to prepare the next request.
        if response.is_redirect:
            found.append(response.headers.pop("Location"))

    hooks: Any = session.hooks.get("response") or []
    prepared.hooks = {"response": [note, *([hooks] if callable(hooks) else hooks), hide_location]}
    options: Any = {**settings, "stream": True, "allow_redirects": False}
    try:
        response = session.send(prepared, **options)
    except BaseException as error:
        for reply in came:
            reply.close()
        if not came or not isinstance(error, ERRORS):
            raise
        # The response had come, so a hook of the caller's has raised this.
        failure = failure_within_body(error)
    else:
        if found:
            response.headers["Location"] = found[0]
        return response
    finally:
        # The response refers to its request, and so to this list. Such a cycle, and its connection,
        # would wait for the garbage collector.
        came.clear()
    raise failure

"""What urllib3's connections do of their own accord, mended: deadlines, 1xx, broken heads.

Connections out of pools of ours

* hold one deadline from the first address to the last byte of the head, and those of the phases
  between, however slowly the bytes dribble in or out (urllib3 alone bounds each receive and each
  write, not their sum);
* say of every failure while connecting, TLS handshake and proxy included, that nothing was sent;
* are within reach of the lever of the step that they serve (`requests_interrupt`);
* skip informational replies (RFC 9110, 15.2), which http.client gives out as the reply;
* refuse a head that breaks off or holds garbage, which http.client takes for a whole one.
"""

from __future__ import annotations

import errno
import http.client
import io
import math
import os
import queue
import re
import selectors
import socket
import time
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from functools import partial
from typing import Any, Dict, List, Optional, Tuple, cast

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, util
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util.connection import allowed_gai_family

from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.contract import IDLE_SECONDS
from flowmaestro_transports.requests.body import LONGEST
from flowmaestro_transports.requests.failure import NotConnectedError
from flowmaestro_transports.requests.interrupt import AtHand, Lever

_SHORTEST = 0.001
"""Seconds: a socket timeout of zero would mean "do not wait", not "the time is up"."""

_BLOCK = 64 * 1024
"""Bytes of a request that are written at a time: TLS bounds each write alone."""

_LONGEST_LINE = 64 * 1024
"""Bytes that a status line may have, as http.client bounds those of the header."""

_STATUS_LINE = re.compile(rb"(HTTP/(?:0\.9|1\.[0-9])) ([0-9]{3})(?: ([^\0\r\n]*))?\r?\n")
"""RFC 9112, section 4, and what old servers send besides: a lone LF, no reason, HTTP/0.9."""

_GARBLED = (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
"""What `email` notes of a header line that is none, and lets pass."""


class AttemptLimits(util.Timeout):
    """The time limits of an attempt that begins now. urllib3 and our connections ask it."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        now = time.monotonic()
        phases = timeout if isinstance(timeout, Timeout) else None
        self.deadline = self.connect_deadline = now + min(timeout, LONGEST)
        self._head = math.inf
        self._silence = math.inf
        if phases is not None:
            self._head = phases.head or math.inf
            self._silence = phases.read or math.inf
            self.connect_deadline = min(self.deadline, now + (phases.connect or math.inf))

    def clone(self) -> AttemptLimits:
        """Called by urllib3 for each request; each has one of its own already."""
        return self

    @property
    def connect_timeout(self) -> float:
        """Seconds that are left to connect, as urllib3 asks."""
        return max(self.connect_deadline - time.monotonic(), _SHORTEST)

    @property
    def read_timeout(self) -> float:
        """Seconds for the head, as urllib3 asks when it has sent."""
        return max(self.head_deadline() - time.monotonic(), _SHORTEST)

    def head_deadline(self) -> float:
        """Until when the head may come, if a connection is at hand now."""
        return min(self.deadline, time.monotonic() + self._head)

    def patience(self) -> float:
        """Seconds to wait for more of a body that is read whole."""
        return min(self.deadline - time.monotonic(), self._silence)


class _HeadReader(io.RawIOBase):
    """What http.client reads the head from: the socket, until one deadline for all of it."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        limit = sock.gettimeout()
        self.deadline = None if limit is None else time.monotonic() + limit
        """None once the head is there: the body's reader has clocks of its own."""
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> Optional[int]:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            self._sock.settimeout(max(left, _SHORTEST))
        count = cast("Optional[int]", self._raw.readinto(buffer))
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reply(http.client.HTTPResponse):
    """A reply whose head is the final one, and whole."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._reader = _HeadReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = self.msg = cast("http.client.HTTPMessage", None)  # begin() anew
            super().begin()
        if self._reader.ended:
            raise http.client.HTTPException("the connection ended within the head of the reply")
        for defect in self.headers.defects:
            if isinstance(defect, _GARBLED):
                raise http.client.HTTPException("a header line of the reply is garbled")
        if any("\0" in value for _, value in self.headers.raw_items()):
            raise http.client.HTTPException("a header line of the reply is garbled")
        lengths = ",".join(self.headers.get_all("Content-Length", [])).split(",")
        if len({length.strip(" \t") for length in lengths}) > 1:
            # urllib3 would refuse this, too, but leave the connection open
            raise http.client.HTTPException("the reply has two lengths")
        self._reader.deadline = None

    def _read_status(self) -> Tuple[str, int, str]:
        # Called by http.client, whose own takes for a status whatever int() takes for a number,
        # and for a version whatever begins like one.
        line = self.fp.readline(_LONGEST_LINE + 1)
        if not line:
            raise http.client.RemoteDisconnected("the server closed the connection")
        parts = _STATUS_LINE.fullmatch(line)
        if parts is None or parts[2] < b"100":
            raise http.client.BadStatusLine("the status line of the reply is garbled")
        return parts[1].decode(), int(parts[2]), (parts[3] or b"").decode("latin-1")


class _Connection(HTTPConnection):
    response_class = _Reply
    _deadline = 0.0
    idle_since = math.inf
    """When it was put back into its pool."""
    lever: Optional[Lever] = None
    """That of the step which it serves."""
    limits: AttemptLimits
    """Those of the attempt which it serves."""

    def connect(self) -> None:
        # urllib3 has put into `timeout` what is left to connect.
        self._deadline = time.monotonic() + cast("float", self.timeout)
        try:
            super().connect()
        except socket.timeout as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except (OSError, http.client.HTTPException) as error:  # of TLS, or of a proxy's tunnel
            proxy = self.proxy and f"{self.proxy.scheme}://{self.proxy.netloc}"
            raise NotConnectedError(self, str(error), proxy) from error

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()
        self._deadline = self.limits.head_deadline()
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _BLOCK):
            if time.monotonic() >= self._deadline:
                raise socket.timeout("timed out")
            self._limit_to_deadline(self.sock)
            super().send(view[start : start + _BLOCK])

    def getresponse(self) -> Any:
        self.timeout = max(self._deadline - time.monotonic(), _SHORTEST)
        response = super().getresponse()
        self._leave_reach()
        return response

    def close(self) -> None:
        self._leave_reach()
        super().close()

    def _leave_reach(self) -> None:
        lever, self.lever = self.lever, None
        if lever is not None:
            lever.let_go()

    def _new_conn(self) -> socket.socket:
        """As urllib3's, but all addresses have one deadline, and `lever` reaches each of them."""
        reason = OSError("the name has no address")
        for family, kind, protocol, _, address in self._addresses():
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                self._limit_to_deadline(sock)
                self._connect_to(address, sock)
            except OSError as error:
                reason = error
                sock.close()
            else:
                return sock
        raise reason

    def _addresses(self) -> List[Any]:
        name, family = self._dns_host.strip("[]"), allowed_gai_family()
        try:
            return socket.getaddrinfo(name, self.port, family, socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{self.host!r} is no name of a host") from error

    def _connect_to(self, address: Any, sock: socket.socket) -> None:
        limit = sock.gettimeout()
        sock.setblocking(False)  # it can only be shut down once it is under way
        status = sock.connect_ex(address)
        cast("Lever", self.lever).hold(sock)
        if status in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                if not selector.select(limit):
                    raise socket.timeout("timed out")
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        self._limit_to_deadline(sock)

    def _limit_to_deadline(self, sock: socket.socket) -> None:
        sock.settimeout(max(self._deadline - time.monotonic(), _SHORTEST))


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _IdleConnections:
    """What a pool of urllib3 wants of a `queue.LifoQueue`, without its locks: nobody waits here."""

    def __init__(self, maxsize: int, _asked_for: int) -> None:
        self._maxsize = maxsize
        self._connections: List[object] = []

    def get(self, block: bool = False, timeout: Optional[float] = None) -> object:
        try:
            return self._connections.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, connection: object, block: bool = False) -> None:
        if connection is None:  # the pool has room for one more; it is made when it is needed
            return
        if getattr(connection, "sock", None) is None:  # closed: it would hide one that is not
            return
        if len(self._connections) >= self._maxsize:
            raise queue.Full
        self._connections.append(connection)

    def qsize(self) -> int:
        return len(self._connections)


class _Pool(HTTPConnectionPool):
    """A pool that gives out no connection that was idle for long."""

    ConnectionCls = cast("Any", _Connection)

    def __init__(self, at_hand: AtHand, *args: Any, maxsize: int, **options: Any) -> None:
        self.QueueCls = cast("Any", partial(_IdleConnections, maxsize))
        super().__init__(*args, **options)  # without maxsize: it fills the queue with so many Nones
        self._at_hand = at_hand

    def _make_request(self, conn: Any, *args: Any, **options: Any) -> Any:
        conn.limits = options["timeout"]
        return cast("Any", super())._make_request(conn, *args, **options)

    def _get_conn(self, timeout: Optional[float] = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - connection.idle_since > IDLE_SECONDS:
            connection.close()
            connection = self._new_conn()
        connection.lever = lever = self._at_hand.lever
        if connection.sock is not None:
            try:
                lever.hold_kept(connection.sock)
            except OSError as error:
                self._put_conn(connection)
                raise NotConnectedError(connection, str(error), None) from error
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
            conn.lever = None
        super()._put_conn(conn)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = cast("Any", _TlsConnection)

    def _validate_conn(self, conn: Any) -> None:
        # Not urllib3's, which warns with each connection of what the user has asked for in words.
        if conn.sock is None:
            conn.connect()


def use_our_pools(manager: Any, at_hand: AtHand) -> None:
    """Have a `PoolManager` of urllib3 make pools of ours."""
    pools: Dict[str, Any] = {"http": partial(_Pool, at_hand), "https": partial(_TlsPool, at_hand)}
    manager.pool_classes_by_scheme = pools

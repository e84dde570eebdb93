"""The open body of a response. Nothing here waits: subclasses add the waiting.

May touch: the socket of its connection.
"""

from __future__ import annotations

from enum import Enum
from typing import List, Optional, cast
from weakref import ref

from flowmaestro_core.http.messages import Headers, Phase, ResponseHead, TransportFailure
from flowmaestro_transports.http11.failures import closed, network_failure
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip
from flowmaestro_transports.primitives.fork_guard import of_the_parent, quiet_at_exit


class BodyState(Enum):
    """The states of an `OpenBody`. A body that has left `OPEN` never returns to it.

    | state | who owns the connection | what a read does |
    |---|---|---|
    | `OPEN`, no read runs | the body (its list `_idle`) | takes the connection, and reads |
    | `OPEN`, a read runs | the read | raises `RuntimeError` |
    | `ENDED` | nobody: it is reused or closed | returns `b""` |
    | `BROKEN` | nobody: it is closed | raises `TransportFailure` |
    | `CLOSED` | nobody: it is reused if all was received, or closed | raises `TransportFailure` |

    In any state, a read that runs owns the connection until it ends. There is no state for that,
    because the list shows it. A thread takes the connection with `pop`, so only one can get it.
    """

    OPEN = 1
    """There may be more to read."""
    ENDED = 2
    """A read has returned the end of the body."""
    BROKEN = 3
    """A read has failed because of the network or the server."""
    CLOSED = 4
    """`release` was called before a read returned the end, or an exception interrupted a read."""


class OpenBody:
    """A response whose body is still open. It takes the connection over from the round trip.

    `early` are the pieces of the body that `exchange_heads` has returned. One thread or task reads
    at a time; the body may be closed meanwhile. See `BodyState`.
    """

    def __init__(self, pool: ConnectionPool, trip: RoundTrip, early: List[bytes]) -> None:
        head = cast("ResponseHead", trip.exchange.head)
        self.status: int = head.status
        """The HTTP status code."""
        self.headers: Headers = head.headers
        """The header fields, without `Content-Encoding` if the body is decoded here."""
        self._exchange = trip.exchange  # decodes what the connection receives
        # What was received of the body before this object was made: mostly nothing. So this is no
        # deque, which takes 600 bytes.
        self._early = early
        self._idle: List[Connection] = []  # the connection, while no read runs
        self._state = BodyState.OPEN
        self._failure = closed(Phase.REPLY_BROKEN).message  # why a read fails if BROKEN or CLOSED
        self._pool = pool  # gets the connection back
        pool.bodies[id(self)] = ref(self), self._idle
        connection, trip.connection = trip.connection, None
        if connection is not None:
            self._idle.append(connection)
        # Check after registering the body: a `close` in another thread must not miss it.
        if pool.closed:
            self.release()
            raise closed(Phase.REPLY_BROKEN)

    def release(self) -> None:
        """Close the body without waiting.

        A read in another thread or task wakes up and releases the connection itself. A released
        connection is reused only if all of the body was received (`Exchange.reusable`) and the pool
        is open. Otherwise it is closed.
        """
        if self._state is BodyState.OPEN:
            self._state = BodyState.CLOSED
        try:
            if not self._pool.process.forked:
                self._wake_reader()
        finally:
            self._let_go()

    @quiet_at_exit
    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)  # unset if an interrupt came before
        # Left unclosed, or an interrupt has left it in the pool, with a connection or without one.
        if pool is not None and id(self) in pool.bodies:
            self.release()

    def _wake_reader(self) -> None:
        """Wake the thread or task that reads, if there is one."""
        raise NotImplementedError

    def _begin_read(self) -> Optional[Connection]:
        """Return the connection, for a read. Return None if the body has ended.

        Raises `TransportFailure` if the body is broken or closed, or was opened by the parent
        process, and `RuntimeError` while another read runs. Call `_end_read` afterwards.
        """
        if self._pool.process.forked:
            raise of_the_parent()
        if self._state is BodyState.OPEN:
            try:
                return self._idle.pop()
            except IndexError:
                raise RuntimeError("another task or thread is reading this body") from None
        if self._state is BodyState.ENDED:
            return None
        raise TransportFailure(Phase.REPLY_BROKEN, self._failure)

    def _take(self) -> Optional[bytes]:
        """Return the next piece of the body that was received; `b""` at the end of the body.

        Return None if more must be received first. Raises `ReplyError` if the body is broken.
        """
        return self._early.pop(0) if self._early else self._exchange.take()

    def _broken(self, error: BaseException) -> TransportFailure:
        """Enter `BROKEN`. Return the failure for one of `NETWORK_ERRORS`.

        Later reads raise a failure with the same message.
        """
        failure = network_failure(Phase.REPLY_BROKEN, error)
        self._failure = failure.message
        self._state = BodyState.BROKEN
        return failure

    def _end_read(self, connection: Connection) -> None:
        """Return the connection after a read. Release it if the body is not `OPEN` any more."""
        self._idle.append(connection)
        # Check after storing it: `release` in another thread may have found nothing just before.
        if self._state is not BodyState.OPEN:
            self._let_go()

    def _let_go(self) -> None:
        """Release the connection, unless a read has it, which then releases it."""
        pool = self._pool
        pool.bodies.pop(id(self), None)
        try:
            connection = self._idle.pop()
        except IndexError:
            return
        pool.give_back(connection, self._exchange.reusable and not pool.process.forked)

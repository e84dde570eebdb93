"""Helpers of the checks: requests like those of the core, and expectations of the outcomes."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import traceback
import warnings
from typing import (
    Any,
    Awaitable,
    Callable,
    Generator,
    List,
    Optional,
    Union,
)

from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport

IMMEDIATE = 15.0
"""Seconds that a step which does not wait may take. Most take about a millisecond."""

FORGET_SECONDS = 5.0
"""Seconds for which `forget_frames` is waited for. It takes milliseconds if nothing hangs."""

KEY = "fm_live_conformance"
"""The key of every request."""
LIMIT = 10.0
"""The usual timeout and patience, in seconds, of steps whose timing is not tested."""
NO_HEAD = (Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN)
"""The possible phases of a failure within the head.

Not every HTTP stack can tell them apart. After either, the core retries only a request that may be
sent twice.
"""

WIRE = "a wire"
"""The check needs sockets. A transport in memory has none."""
CANCELLATION = "cancellation"
"""The check cancels a task. A sync transport has no tasks."""
STREAMS = "streams"
"""The check needs a transport that receives a response in parts. A function returns it whole."""
SIGNALS = "signals"
"""The check raises in a sync call, as a signal handler does.

On an event loop, cancellation is checked instead.
"""
HOSTILE = "hostile"
"""The check tries what an HTTP library itself decides: malformed, truncated, endless or unrequested
responses of a broken or hostile peer, exceptions of signal handlers at any place of a call, and a
cancellation at any place of `close`. The author of an adapter can rarely mend that."""
TIME_LIMITS = "time limits"
"""The check tests a time limit. A plain function gets none."""


class CheckFailed(AssertionError):
    """The transport breaks a rule, or keeps one that `known_failures` says it breaks.

    The message says more.
    """


class FactoryError(TypeError):
    """`make_transport` did not return a usable transport, so no rule could be checked."""


class NotOffered(Exception):
    """The transport does not offer an optional feature, `what`; `consequence` is what users lose.

    The factory `make_transport` of a test class may raise it for an option that the transport
    cannot fulfil. It may leave out `consequence`: the kit then names that of the option.
    """

    def __init__(self, what: str, consequence: str = "") -> None:
        super().__init__(f"{what}: {consequence}" if consequence else what)
        self.what = what
        self.consequence = consequence


def expect(condition: object, otherwise: str) -> None:
    """Raise `CheckFailed` with `otherwise` unless the condition is true."""
    if not condition:
        raise CheckFailed(otherwise)


async def expect_failure(
    call: Awaitable[Any],
    *phases: Phase,
    timed_out: Optional[bool] = None,
    within: float = IMMEDIATE,
) -> TransportFailure:
    """Return the `TransportFailure` of a call. Any other outcome fails the check.

    `phases` are the correct phases, by default any. `timed_out` is the correct value of the
    attribute of that name; `None` accepts both. `within` is how many seconds the call may take.
    """
    begun = time.monotonic()
    try:
        given = await call
    except TransportFailure as failure:
        seconds = time.monotonic() - begun
        truths = " or ".join(f"*{phase.value}*" for phase in phases)
        expect(
            not phases or failure.phase in phases,
            f"the phase of the failure is *{failure.phase.value}*, not {truths}: {failure}",
        )
        expect(
            timed_out is None or failure.timed_out is timed_out,
            f"the failure has timed_out={failure.timed_out}: {failure}",
        )
        expect(seconds <= within, f"the failure took {seconds:.1f} s, not {within:.1f} s at most")
        return failure
    except CheckFailed:
        raise
    except Exception as error:
        raise CheckFailed(
            f"the call raised {type(error).__name__} ({error}), not TransportFailure"
        ) from error
    raise CheckFailed(f"the call returned {given!r:.80} instead of failing")


def ask(
    url: str, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str
) -> Request:
    """Return a request with header fields such as the core sends, and with `headers`."""
    fields = {
        "X-API-Key": KEY,
        "User-Agent": "conformance/1",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        **headers,
    }
    return Request(method, url + path, Headers(fields), body)


def echo_body(request: Request) -> Response:
    """Return a response with the body of the request."""
    return Response(200, {}, request.body)


def live_on_get(live: LiveReply) -> Callable[[Request], Union[Response, LiveReply]]:
    """Return a handler that answers GET with `live`, and echoes the body of other requests."""
    return lambda request: live if request.method == "GET" else echo_body(request)


async def expect_reply(
    transport: AsyncTransport, request: Request, body: bytes, status: int = 200
) -> Response:
    """Check that a call gets a response with this body and status. Return the response."""
    reply = await transport.send(request, LIMIT)
    expect(reply.status == status, f"the response was {reply}, not one with status {status}")
    expect(reply.body == body, f"the response was {reply.body[:40]!r}, not {body[:40]!r}")
    return reply


async def expect_echo(transport: AsyncTransport, url: str, body: bytes) -> None:
    """Check that the response to a POST of `body` has the same body."""
    await expect_reply(transport, ask(url, method="POST", body=body), body)


async def read_out(transport: AsyncTransport, request: Request, timeout: float = LIMIT) -> bytes:
    """Open a response, read its body piece by piece to the end, and return the body."""
    body = await transport.open(request, timeout)
    try:
        return await whole(body)
    finally:
        await body.close()


async def whole(body: AsyncOpenResponse) -> bytes:
    """Return the rest of a body, read to its end. No read may return `None`."""
    pieces: List[bytes] = []
    while True:
        piece = await body.read(LIMIT)
        if piece is None:
            raise CheckFailed("a read returned None although the rest of the body had been sent")
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


async def expect_piece(body: AsyncOpenResponse, wanted: bytes, live: LiveReply) -> None:
    """Send `wanted` through `live`, and check that the next reads return it."""
    live.send(wanted)
    await expect_bytes(body, wanted)


async def expect_bytes(body: AsyncOpenResponse, wanted: bytes) -> None:
    """Check that the next reads of a body return these bytes, in any number of pieces."""
    got = b""
    while len(got) < len(wanted):
        piece = await body.read(LIMIT)
        if not piece:
            raise CheckFailed(
                f"a read returned {piece!r} after {got!r}, instead of bytes that were sent"
            )
        got += piece
    expect(got == wanted, f"the reads returned {got!r} instead of {wanted!r}")


async def expect_end(body: AsyncOpenResponse) -> None:
    """Check that the body is at its end."""
    data: Any = await body.read(LIMIT)
    expect(data == b"", f"a read returned {data!r} at the end of the body")


@contextlib.contextmanager
def quiet_finalizers() -> Generator[None, None, None]:
    """Suppress each `ResourceWarning`, and errors of finalizers, in a `with` block.

    At the end of the block, unless it raised, garbage is collected.
    """
    hook = sys.unraisablehook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        sys.unraisablehook = lambda _: None
        try:
            yield
            gc.collect()
        finally:
            sys.unraisablehook = hook


def forget_frames(error: Optional[BaseException]) -> None:
    """Clear the frames in the tracebacks of `error` and of its chain of causes, or else contexts.

    This collects the resources of a failed check now, so that their warnings affect no other test.
    It is done in a thread, and waited for `FORGET_SECONDS` at most: a finalizer may wait for a lock
    that an interrupted call has left locked.
    """

    def forget(error: Optional[BaseException]) -> None:
        with quiet_finalizers():
            while error is not None:
                traceback.clear_frames(error.__traceback__)
                error = error.__cause__ or error.__context__

    forgetting = threading.Thread(target=forget, args=(error,), daemon=True)
    forgetting.start()
    forgetting.join(FORGET_SECONDS)

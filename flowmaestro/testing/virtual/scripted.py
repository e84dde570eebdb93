"""A transport that plays a script of responses, arbitrary bytes, failures and silence."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any, Deque, List, Sequence, Tuple, cast

from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.scripting import UnusedScriptWarning
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.virtual.playback import ReplyStep, ScriptedReply, played, steps_of
from flowmaestro_core.http.messages import Request


class _Script:
    """A simulated server that answers each request with the next response of a script."""

    seed = 0

    def __init__(self, replies: Sequence[ScriptedReply], *, strict: bool) -> None:
        self.clock = VirtualClock()
        self._strict = strict
        self.requests: List[Request] = []
        self.replies: List[FakeReply] = []
        self._left: Deque[Tuple[ReplyStep, ...]] = deque()
        given: Any = replies
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"replies must be a list with one for each request, not {given!r}")
        for index, reply in enumerate(cast("Sequence[ScriptedReply]", given)):
            try:
                self._left.append(steps_of(reply))
            except (TypeError, ValueError) as error:
                raise type(error)(f"replies[{index}]: {error}") from None

    def __repr__(self) -> str:
        return f"a script with {len(self._left)} replies left"

    def handle(self, request: Request, now: float) -> FakeReply:
        """Return the next response of the script. Raise `AssertionError` if none is left."""
        with self.clock.lock:
            self.requests.append(request)
            if not self._left:
                raise AssertionError(
                    f"the script has no response left for {request!r}, "
                    f"the request number {len(self.requests)}"
                )
            reply = played(self.clock, self._left.popleft())
            self.replies.append(reply)
            return reply

    def close(self) -> None:
        """Report the responses that were never used, by a warning or, if `strict`, by an error.

        Closing again reports nothing.
        """
        with self.clock.lock:
            unused = len(self._left)
            self._left.clear()
        if unused:
            message = f"not requested in this test: the last {unused} responses of the script"
            if self._strict:
                raise AssertionError(message)
            warnings.warn(message, UnusedScriptWarning, stacklevel=3)


class _Scripted:
    """Base of both scripted transports: the attributes that a test reads."""

    _script: _Script

    @property
    def requests(self) -> List[Request]:
        """Every request that was made, in order."""
        return list(self._script.requests)

    @property
    def open_bodies(self) -> int:
        """The number of bodies that were opened but not closed, whether or not they were read."""
        bodies = [reply.stream for reply in self._script.replies]
        return sum(body is not None and not body.closed for body in bodies)


class ScriptedTransport(_Scripted, MemoryTransport):
    """A sync transport that answers one request after another from a script.

        ScriptedTransport(
            [
                TransportFailure(Phase.NOT_SENT, "connection refused"),
                Response(503, {"Retry-After": "2"}),
                [ResponseHead(200, {}), b'{"da', Quiet(40), b'ta": []}'],
            ]
        )

    `replies` has one for each request: a `Response`, a `TransportFailure`, `Quiet()` for no
    response, or a list of steps, which are `Quiet`, `ResponseHead`, `bytes` and
    `TransportFailure`. Each `bytes` is returned unchanged by one read. Time is that of `clock`, a
    `VirtualClock`.

    Raises `TypeError` or `ValueError` for a wrong script. If one response is wrong, the error has
    its index.
    A request beyond the end of the script raises `AssertionError`, which no client retries.
    Responses that are left when the transport or its client is closed cause an
    `UnusedScriptWarning`, or with `strict` an `AssertionError`.
    """

    def __init__(self, replies: Sequence[ScriptedReply], *, strict: bool = False) -> None:
        self._script = _Script(replies, strict=strict)
        super().__init__(self._script)

    def close(self) -> None:
        """Close the transport, and warn of scripted responses that were never requested.

        With `strict`, raise `AssertionError` instead of the warning. Only the first call does so.
        """
        super().close()
        self._script.close()


class AsyncScriptedTransport(_Scripted, AsyncMemoryTransport):
    """`ScriptedTransport` for an async client, on asyncio and trio alike."""

    def __init__(self, replies: Sequence[ScriptedReply], *, strict: bool = False) -> None:
        self._script = _Script(replies, strict=strict)
        super().__init__(self._script)

    async def close(self) -> None:
        """Close the transport, and warn of scripted responses that were never requested.

        With `strict`, raise `AssertionError` instead of the warning. Only the first call does so.
        """
        await super().close()
        self._script.close()

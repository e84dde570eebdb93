"""A scripted response as steps, and how it is played on a virtual clock.

The steps are values of the core (the head of a response, pieces of its body, a failure) and
`Quiet`, a time in which no data comes.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Optional, Sequence, Tuple, Union, cast

from flowmaestro.testing.arguments import check_seconds
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro_core.http.messages import Phase, Response, ResponseHead, TransportFailure


@dataclass(frozen=True)
class Quiet:
    """A step of a scripted response: no data comes for `seconds`, by default forever.

    Raises `TypeError` or `ValueError` if `seconds` is not a number of at least 0.
    """

    seconds: float = math.inf

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds, or_endless=True)


ReplyStep = Union[Quiet, ResponseHead, bytes, TransportFailure]
ScriptedReply = Union[Response, TransportFailure, Quiet, Sequence[ReplyStep]]
"""The scripted outcome of one request.

A whole `Response`; a `TransportFailure`; `Quiet()` for no response at all; or steps, one after
another: `Quiet`, a `ResponseHead`, then pieces of the body as `bytes`, with `Quiet` between them.
A failure or `Quiet()` can be the last step: in place of the head, or of the rest of the body.
Without one, the body is complete after the last step.
"""


def steps_of(reply: ScriptedReply) -> Tuple[ReplyStep, ...]:
    """Return a scripted response as steps.

    Raises `TypeError` for a response or a step of another type, and `ValueError` for steps that
    contradict each other, or that have neither a head nor a failure or endless `Quiet` in its
    place.
    """
    if isinstance(reply, Response):
        body = (reply.body,) if reply.body else ()
        return (ResponseHead(reply.status, reply.headers), *body)
    given: Any = (reply,) if isinstance(reply, (TransportFailure, Quiet)) else reply
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            "a response must be a Response, a TransportFailure, Quiet() or a list of steps, "
            f"not {_named(given)}"
        )
    steps = tuple(cast("Sequence[ReplyStep]", given))
    begun = ended = False
    for step in steps:
        if ended:
            raise ValueError(f"nothing can come after a failure or an endless Quiet(): {step!r}")
        ended = _check(step, begun=begun)
        begun = begun or isinstance(step, ResponseHead)
    if not (begun or ended):
        raise ValueError("a response needs a ResponseHead, or a failure or Quiet() in its place")
    return steps


def _check(step: Any, *, begun: bool) -> bool:
    """Check one step of a scripted response. Return whether it must be the last step.

    `begun` is whether a step before it was the head. Raises `ValueError` for a step that cannot
    come here, and `TypeError` for a step of another type.
    """
    if isinstance(step, ResponseHead):
        if begun:
            raise ValueError(f"a response has one ResponseHead, not another one: {step!r}")
    elif isinstance(step, bytes):
        if not begun:
            raise ValueError(f"bytes of the body must come after a ResponseHead: {step!r}")
        if not step:
            raise ValueError("b'' is not a piece of a body, which ends after its last piece")
    elif isinstance(step, TransportFailure):
        if begun and step.phase is not Phase.REPLY_BROKEN:
            raise ValueError(
                f"a response that has begun can only be REPLY_BROKEN, not {step.phase}"
            )
        return True
    elif isinstance(step, Quiet):
        return step.seconds == math.inf
    else:
        raise TypeError(
            "a step must be Quiet, ResponseHead, bytes or TransportFailure, not " + _named(step)
        )
    return False


def _named(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)


def played(clock: VirtualClock, steps: Sequence[ReplyStep]) -> FakeReply:
    """Return a response that plays `steps`, as made by `steps_of`, from now on."""
    reply, left = FakeReply(), deque(steps)
    seconds = _quiet(left)
    due = clock.now + seconds

    def arrive() -> None:
        first = left.popleft()
        if isinstance(first, ResponseHead):
            reply.complete(first.status, first.headers, stream=PlayedBody(clock, left, due))
        else:
            reply.fail(_anew(cast("TransportFailure", first)))

    if not seconds:
        arrive()
    elif seconds < math.inf:
        clock.call_later(seconds, arrive)
    return reply


def _quiet(left: Deque[ReplyStep]) -> float:
    """Remove the `Quiet` steps at the beginning of `left`. Return the sum of their seconds."""
    seconds = 0.0
    while left:
        step = left[0]
        if not isinstance(step, Quiet):
            break
        seconds += step.seconds
        left.popleft()
    return seconds


class PlayedBody:
    """A body that returns one piece for each call of `poll`, each when it is due.

    The delay of a piece counts from the time when the piece before it was due, even if the reader
    was late.
    """

    def __init__(self, clock: VirtualClock, left: Deque[ReplyStep], since: float) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.closed: bool = False
        self._clock = clock
        self._left = left
        self._due = since
        self._plan()

    def poll(self, now: float) -> Optional[bytes]:
        """Return the next piece; `None` if it is not due yet, `b""` after the last one.

        Raises `TransportFailure` if the next step is a failure and due.
        """
        if not self._here:
            return None
        if not self._left:
            return b""
        step = self._left[0]
        if isinstance(step, TransportFailure):
            raise _anew(step)
        self._left.popleft()
        self._plan()
        return cast("bytes", step)

    def close(self) -> None:
        """Mark the body as closed. Its reader calls this when it will not read any more."""
        self.closed = True

    def _plan(self) -> None:
        self._due += _quiet(self._left)
        seconds = self._due - self._clock.now
        self._here = seconds <= 0
        if 0 < seconds < math.inf:
            self._clock.call_later(seconds, self._arrive)

    def _arrive(self) -> None:
        self._here = True
        self.wake()


def _anew(failure: TransportFailure) -> TransportFailure:
    """Return a copy of a failure, because the scripted one may be raised more than once."""
    raised = copy.copy(failure)
    if failure.__cause__ is not None:
        raised.__cause__ = failure.__cause__
    return raised

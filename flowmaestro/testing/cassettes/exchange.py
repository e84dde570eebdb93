"""One recorded exchange: a request, and its reply step by step; and what can be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from flowmaestro.testing.virtual.playback import Quiet, Step
from flowmaestro_core.http.messages import Headers, Request

FRAMING = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)
"""Header fields that say how a reply came over its connection, which is not what is recorded."""


class CassetteError(ValueError):
    """The file is no cassette of a known version, or not a whole one; or it is not there."""


class CassetteMismatch(AssertionError):
    """A request was made that is not in the cassette, or not another time."""


@dataclass(frozen=True)
class Exchange:
    """A request, and the steps of its reply (see `ScriptedReply`).

    `Quiet()` at the end, which never ends, is where the reader closed the body. `line` is where the
    exchange begins in its file, 0 for nowhere.
    """

    request: Request
    steps: Tuple[Step, ...]
    line: int = 0


def without_framing(headers: Headers) -> Headers:
    """What of the fields belongs to the message."""
    return Headers(pair for pair in headers.pairs if pair[0].lower() not in FRAMING)


def joined(steps: Sequence[Step]) -> Tuple[Step, ...]:
    """The same steps, with no two `Quiet` in a row and none of no length."""
    tidy: List[Step] = []
    for step in steps:
        before = tidy[-1] if tidy else None
        if isinstance(step, Quiet) and isinstance(before, Quiet):
            tidy[-1] = Quiet(before.seconds + step.seconds)
        elif not isinstance(step, Quiet) or step.seconds:
            tidy.append(step)
    return tuple(tidy)

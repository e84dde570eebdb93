"""What happens to each connection, drawn from the seed and the connection's number alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

NONE, END, RESET, STALL, FLIP = "none", "end", "reset", "stall", "flip"

STALL_SECONDS = (0.05, 1.0)
"""From a hiccup to longer than a client waits."""
DELAY_SECONDS = (0.001, 0.03)
MOST_BITS = 14
"""Faults come within the first 2**14 bytes, a handful of replies."""


@dataclass(frozen=True)
class Plan:
    """A `fault` once `offset` bytes have passed in one direction, and a `delay` of each piece.

    Attributes:
        fault: none; the connection is ended in good order, or reset; it stalls for `seconds` and
            then goes on, even if the client has left; or one bit is flipped.
        upward: whether the direction is that to the server.
        offset: bytes that pass before it happens; of a flip, the one that is flipped.
        seconds: how long a stall lasts.
        delay: seconds that each piece is held up, in both directions.

    """

    fault: str = NONE
    upward: bool = False
    offset: int = 0
    seconds: float = 0.0
    delay: float = 0.0


def plan(seed: str, number: int, *, flips: bool) -> Plan:
    """The plan for the connection of this number; bytes are flipped where TLS notices.

    Offsets are spread evenly over their orders of magnitude: a request, a head, a handshake, a
    body and the hundredth reply of a kept connection are hit alike.
    """
    rng = random.Random(f"{seed} {number}")
    faults = [NONE, END, END, RESET, RESET, STALL, STALL] + [FLIP, FLIP] * flips
    return Plan(
        fault=rng.choice(faults),
        upward=rng.random() < 0.5,
        offset=int(2 ** rng.uniform(0, MOST_BITS)) - 1,
        seconds=rng.uniform(*STALL_SECONDS),
        delay=rng.uniform(*DELAY_SECONDS) if rng.random() < 0.2 else 0.0,
    )

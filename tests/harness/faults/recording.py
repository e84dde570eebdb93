"""A recorded event stream, and where it is cut."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Dict, List, Tuple

TERMINAL = "execution:completed"
RANDOM_POINTS = 20
SEED = 20_251_107

_NAMES = (
    "execution:started",
    "node:started",
    "node:stream",
    "node:stream",
    "execution:progress",
    "node:completed",
    "node:started",
    "node:retry",
    "node:completed",
    "execution:progress",
    TERMINAL,
)


@dataclass(frozen=True)
class Block:
    """What a blank line ends: an event, or a comment (`number` 0)."""

    content: bytes
    name: str = ""
    number: int = 0


class Recording:
    """The blocks of one stream. With `ids`, each numbered event bears its number as its id."""

    def __init__(self, ids: bool) -> None:
        live = [_live(number, name, ids) for number, name in enumerate(_NAMES, 1)]
        keepalive = Block(b": keepalive\n\n")
        self.connected = Block(b'event: connected\ndata: {"status": "running"}\n\n', "connected")
        self.blocks: Tuple[Block, ...] = (self.connected, *live[:5], keepalive, *live[5:])
        self.content = b"".join(block.content for block in self.blocks)
        self.ends = tuple(accumulate(len(block.content) for block in self.blocks))

    @property
    def numbers(self) -> List[int]:
        """The numbers of all events that have one."""
        return [block.number for block in self.blocks if block.number]

    @property
    def points(self) -> List[int]:
        """Byte offsets to cut at: before, between and after the blocks, and twenty anywhere."""
        anywhere = set(range(len(self.content))).difference((0, *self.ends))
        drawn = random.Random(SEED).sample(sorted(anywhere), RANDOM_POINTS)
        return sorted((0, *self.ends, *drawn))

    def until(self, point: int) -> List[bytes]:
        """The content before `point`, in the pieces that a server writes."""
        starts = (0, *self.ends)
        pieces = [self.content[start:end] for start, end in zip(starts, self.ends) if end <= point]
        rest = self.content[sum(map(len, pieces)) : point]
        return [*pieces, rest] if rest else pieces

    def events_after(self, number: int) -> List[Block]:
        """The events whose number is greater."""
        return [block for block in self.blocks if block.number > number]

    def events_unfinished_at(self, point: int) -> List[Block]:
        """The events whose end comes after `point`."""
        pairs = zip(self.blocks, self.ends)
        return [block for block, end in pairs if block.number and end > point]


def _live(number: int, name: str, ids: bool) -> Block:
    data: Dict[str, Any] = {"type": name, "number": number, "nodeName": "Gruß 𝄞", "note": "x\ny"}
    if name == TERMINAL:
        data["outputs"] = {"message": "Grüße"}
    text = json.dumps(data, ensure_ascii=False)
    own_id = f"id: {number}\n" if ids else ""
    return Block(f"event: {name}\n{own_id}data: {text}\n\n".encode(), name, number)

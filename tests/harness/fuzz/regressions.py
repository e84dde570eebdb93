"""Inputs that once made happen what must not, as `fuzz.py` prints them, each with its target."""

from __future__ import annotations

from typing import List, Tuple

REGRESSIONS: List[Tuple[str, bytes]] = [
    # TimeoutError('it took more than 2 s of computing'): each byte had the line read anew
    ("chunks", b"5;" + b"x" * 16_000),
    # ResourceWarning('unclosed <socket.socket ...>'): the response was refused too late
    ("requests get", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello"),
]

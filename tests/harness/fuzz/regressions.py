"""Inputs that once made happen what must not, as `fuzz.py` prints them, each with its target."""

from __future__ import annotations

from typing import List, Tuple

REGRESSIONS: List[Tuple[str, bytes]] = [
    # ResourceWarning('unclosed <socket.socket ...>'): the response was refused too late
    ("requests get", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello"),
]

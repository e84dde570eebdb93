"""A text stream that claims to be a terminal."""

from __future__ import annotations

import io


class Terminal(io.StringIO):
    """Remembers all that is written to it; `tty=False` makes it a pipe."""

    encoding = ""

    def __init__(self, encoding: str = "utf-8", tty: bool = True) -> None:
        super().__init__()
        self.encoding = encoding
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

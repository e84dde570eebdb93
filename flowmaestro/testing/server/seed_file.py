"""A seed file: Python that gives the embedded server resources of one's own.

May touch: the file, which it runs.
"""

from __future__ import annotations

import os
import runpy
import traceback
from typing import Callable

import anyio

from flowmaestro.testing.fake import FakeFlowMaestro

LOOK_EVERY = 0.5
"""Seconds between two looks at the file."""


class SeedFile:
    """Calls `seed(fake)` of a file, again after each change; `tell` hears what is wrong, or `""`.

    What the file adds replaces what had the same id; running executions keep what they had. It is
    tried on another fake first: when it fails, the resources stay as they are.
    """

    def __init__(self, path: str, fake: FakeFlowMaestro, tell: Callable[[str], None]) -> None:
        self._path = path
        self._fake = fake
        self._tell = tell
        self._seen = -1.0

    def load(self) -> bool:
        """Read the file and seed the fake; whether that went well."""
        self._seen = self._changed_at()
        try:
            seed = runpy.run_path(self._path).get("seed")
            if not callable(seed):
                raise TypeError("it has no function seed(fake)")
            seed(FakeFlowMaestro())  # a file that fails half-way leaves nothing behind
            seed(self._fake)
        except (Exception, SystemExit) as error:
            self._tell(f"{self._place_of(error)}: {type(error).__name__}: {error}")
            return False
        self._tell("")
        return True

    async def watch(self) -> None:
        """Load it again whenever it has changed, until cancelled."""
        while True:
            await anyio.sleep(LOOK_EVERY)
            if self._changed_at() != self._seen:
                self.load()

    def _changed_at(self) -> float:
        try:
            return os.stat(self._path).st_mtime
        except OSError:
            return 0.0

    def _place_of(self, error: BaseException) -> str:
        """The file, and the line of it where that is known."""
        if isinstance(error, SyntaxError):
            return f"{error.filename or self._path}, line {error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self._path]
        return f"{self._path}, line {lines[-1]}" if lines else self._path

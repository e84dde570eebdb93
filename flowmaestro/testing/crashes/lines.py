"""Deaths before each line of the user's files. A trace function sees the lines."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generator

from flowmaestro.testing.crashes.process import Process


@contextmanager
def dying_at_lines(process: Process) -> Generator[None, None, None]:
    """In a `with` block, make a step of each line of the user's own files, in this thread.

    A trace function that raises is removed by Python. So the lines of a `finally` run after the
    death, but none of them reaches the world. A debugger or a measurement of coverage that is
    active sees nothing of the block.
    """
    own = process.run.own

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            process.line()
        return trace if own.has(frame.f_code.co_filename) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)

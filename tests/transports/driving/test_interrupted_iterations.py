"""An exception from a signal handler while an item is awaited does not lock the iterator."""

from __future__ import annotations

import contextlib
import dis
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Optional

import pytest

from flowmaestro import StreamError
from flowmaestro_core.actions import Emit
from flowmaestro_transports.driving import iterators
from flowmaestro_transports.driving.iterators import SyncItems
from flowmaestro_transports.primitives import claims
from tests.harness.transports.scripted_machine import Scripted


class Still:
    """A transport that nothing is sent over."""

    def now(self) -> float:
        return 0.0


class InterruptAt:
    """Raises `KeyboardInterrupt` at the `number`-th bytecode of `SyncHandle.__next__`."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Optional[InterruptAt]:
        if frame.f_code.co_filename not in (iterators.__file__, claims.__file__):
            return None
        frame.f_trace_opcodes = True
        # CPython runs signal handlers at calls and jumps, and never at a NOP, which may lie between
        # the bytecode that an exception handler covers.
        if frame.f_code.co_code[frame.f_lasti] == dis.opmap["NOP"]:
            return self
        if event in ("opcode", "call", "return"):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self


def reaches(number: int) -> bool:
    """Interrupt `next` at this bytecode, and call it again. Return False beyond the last one.

    At most one item is lost, between the queue and the caller.
    """
    machine = Scripted(*(Emit([n, n + 1, n + 2]) for n in range(0, 30, 3)))
    stream = SyncItems[int](machine, Still())  # type: ignore[arg-type]
    tracer, got = InterruptAt(number), []
    sys.settrace(tracer)
    try:
        got.extend(itertools.islice(stream, 5))
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    with contextlib.suppress(StreamError):
        got += [next(stream) for _ in range(5)]
        assert got == sorted(got)
        assert got[-1] <= len(got)
        return tracer.left <= 0
    with pytest.raises(StreamError, match="stream_closed"):
        next(stream)
    return tracer.left <= 0


def test_next_works_or_says_closed_after_an_interrupt_at_any_bytecode() -> None:
    """In a thread of its own, since an exception of a trace function may leave a context behind."""

    def interrupt_everywhere() -> int:
        number = 1
        while reaches(number):
            number += 1
        return number

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(interrupt_everywhere).result() > 50

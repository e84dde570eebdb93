"""Counts what the second call of a client passes: `python -m benchmarks.passed`.

It counts the functions of ours that are called, their files, and how often the next function is in
another file. Functions of other libraries do not count, nor do comprehensions, which are functions
before Python 3.12. With `--list`, each function is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, List

from benchmarks.runner import serving
from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(
    str(ROOT / folder) + os.sep
    for folder in ("flowmaestro", "flowmaestro_core", "transports/flowmaestro_transports")
)
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>")
KEY = "fm_live_0123456789abcdef"


class Passed:
    """The functions of ours that are called between `begin` and `end`, in order."""

    def __init__(self) -> None:
        self.functions: List[CodeType] = []

    def begin(self) -> None:
        """Count from now on, in this thread."""
        sys.setprofile(self._count)

    def end(self) -> None:
        """Count no longer."""
        sys.setprofile(None)

    @property
    def files(self) -> List[str]:
        """The files of these functions, each once."""
        return sorted({code.co_filename for code in self.functions})

    def __str__(self) -> str:
        homes = [code.co_filename for code in self.functions]
        changes = sum(one != other for one, other in zip(homes, homes[1:]))
        return f"{len(homes)} functions, {len(self.files)} files, {changes} changes of file"

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OURS):
            return
        if code.co_name in COMPREHENSIONS:
            return
        # A generator or a coroutine that is resumed is the same call.
        resumable = inspect.CO_GENERATOR | inspect.CO_COROUTINE
        if not code.co_flags & resumable or code not in self.functions:
            self.functions.append(code)


def blocking(url: str) -> Passed:
    """Return what a call on `SocketTransport` passes."""
    passed = Passed()
    with FlowMaestroClient(KEY, base_url=url) as client:
        client.workflows.get("wf_1")
        passed.begin()
        client.workflows.get("wf_1")
        passed.end()
    return passed


async def awaiting(url: str) -> Passed:
    """Return what a call on `AnyioTransport` passes, on asyncio."""
    passed = Passed()
    async with AsyncFlowMaestroClient(KEY, base_url=url) as client:
        await client.workflows.get("wf_1")
        passed.begin()
        await client.workflows.get("wf_1")
        passed.end()
    return passed


def main() -> None:
    """Count both calls, and print the figures."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.passed", description=__doc__)
    options.add_argument("--list", action="store_true", help="print each function")
    told = options.parse_args()
    with serving() as url:
        for name, passed in (("sync", blocking(url)), ("async", asyncio.run(awaiting(url)))):
            print(f"{name}: {passed}")
            for code in passed.functions if told.list else ():
                print(f"  {Path(code.co_filename).relative_to(ROOT)} {code.co_name}")


if __name__ == "__main__":
    main()

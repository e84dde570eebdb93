"""A seed file: Python code that adds resources to the fake server.

May touch: the file, which it runs; `SIGALRM`, `sys.stdout` and `sys.modules`, while the file runs.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any, Callable, Dict, Generator

import anyio

from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro

LOOK_EVERY = 0.5
"""Seconds between two checks whether the file has changed: whoever saves it hardly waits, and two
looks a second cost nothing."""
LONGEST_RUN = 5.0
"""Seconds that the file may run, in the main thread of a system with `SIGALRM`.

No request is served meanwhile. A file that fills a fake takes milliseconds.
"""


class SeedTimeout(BaseException):
    """Raised in a seed file that runs too long.

    This is not an `Exception`, so that an `except Exception` in the file does not catch it.
    """


class SeedFile:
    """Runs a file and calls its function `seed(fake)`, again after each change of the file.

    The resources of the file replace those with the same ids; running executions keep the old ones.
    If the file fails, its changes to the fake are undone as in `FakeFlowMaestro.all_or_nothing`.
    What the file prints is written to standard error.
    """

    def __init__(self, path: str, fake: FakeFlowMaestro) -> None:
        self._path = path
        self._fake = fake
        self._seen = -1.0

    def load(self) -> str:
        """Run the file and seed the fake. Return the error of the file, or `""`.

        Raises `KeyboardInterrupt` for Ctrl-C.
        """
        self._seen = self._changed_at()
        seed: Any = None
        try:
            with redirect_stdout(sys.stderr), _at_most(LONGEST_RUN), self._fake.all_or_nothing():
                seed = _run(self._path).get("seed")
                if not callable(seed):
                    raise TypeError("the file has no function seed(fake)")
                _refuse_unrun(seed(self._fake))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return f"{self._place_of(error, seed)}: {type(error).__name__}: {error}"[:1000]
        return ""

    async def watch(self, tell: Callable[[str], None]) -> None:
        """Load the file whenever it has changed, until cancelled.

        `tell` gets the result of each load: the text of an error, or `""`. Ctrl-C while the file
        runs interrupts only the file, and is an error of this load.
        """
        while True:
            await anyio.sleep(LOOK_EVERY)
            if self._changed_at() == self._seen:
                continue
            try:
                trouble = self.load()
            except KeyboardInterrupt:
                trouble = f"{self._path}: KeyboardInterrupt"
            tell(trouble)

    def _changed_at(self) -> float:
        try:
            return os.stat(self._path).st_mtime
        except OSError:
            return 0.0

    def _place_of(self, error: BaseException, seed: Any) -> str:
        """Return where `error` was raised: the path of the file, with a line if one is known.

        For a syntax error, it is the path of the file that has the error, perhaps another one. For
        any other error whose traceback has no line of this file, the line is the first one of the
        function `seed`.
        """
        if isinstance(error, SyntaxError) and error.lineno:
            return f"{error.filename or self._path}, line {error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self._path]
        if not lines and inspect.isfunction(seed):
            lines = [seed.__code__.co_firstlineno]
        return f"{self._path}, line {lines[-1]}" if lines else self._path


def _run(path: str) -> Dict[str, Any]:
    """Run a Python file as a module of its own, and return its names.

    Unlike a module of `runpy`, it has a loader, without which Python 3.15 warns when the file
    fails. No bytecode is cached, so that no change of the file is missed.
    """
    loader = SourceFileLoader("<seed>", path)
    module = ModuleType(loader.name)
    module.__file__ = path
    module.__spec__ = ModuleSpec(loader.name, loader, origin=path)
    module.__loader__ = loader
    sys.modules[loader.name] = module  # `dataclasses` looks for the module there.
    try:
        exec(loader.source_to_code(loader.get_data(path), path), vars(module))  # noqa: S102
    finally:
        sys.modules.pop(loader.name, None)
    return vars(module)


def _refuse_unrun(returned: object) -> None:
    """Raise `TypeError` if `returned`, the result of `seed`, is an awaitable or a generator.

    A coroutine function or a generator function returns such an object without having run.
    """
    kinds = (inspect.isawaitable, inspect.isgenerator, inspect.isasyncgen)
    if any(is_one(returned) for is_one in kinds):
        getattr(returned, "close", lambda: None)()
        raise TypeError("seed(fake) must be a plain function without async or yield")


@contextmanager
def _at_most(seconds: float) -> Generator[None, None, None]:
    """Raise `SeedTimeout` in the `with` block once it has lasted `seconds`.

    Without `SIGALRM`, as on Windows, and outside the main thread, there is no limit.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def end(*_: object) -> None:
        raise SeedTimeout(f"it took longer than {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, end)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *others)
        signal.signal(signal.SIGALRM, handler)

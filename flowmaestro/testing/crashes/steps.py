"""The steps of a task, and the line of the user's own code that takes each of them.

Pure, but for the look at the frames of the running thread.
"""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Dict, NamedTuple, Optional

import flowmaestro
import flowmaestro_core
import flowmaestro_transports

_CHANGING = re.compile(
    r"0x[0-9a-f]{6,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:\d\d)?"
)
"""Addresses of objects, ids that the fake gives out, and times."""
LONGEST = 80
"""Characters of a value in a story."""
_SDK = (flowmaestro, flowmaestro_core, flowmaestro_transports)
_FOREIGN = tuple(
    os.path.join(os.path.realpath(folder), "")
    for folder in (
        *(os.path.dirname(str(module.__file__)) for module in _SDK),
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)
_CALLER = str(Path(__file__).with_name("calling.py"))
"""The file of the function that calls the task. The frames around it are those of the test."""


class ProcessDied(BaseException):
    """The simulated process has died here.

    It is raised where the task is, and again at each later attempt of that process to send a
    request, to use its store, or to call a named effect. It is a `BaseException`, so that no
    `except Exception` of the task catches it.
    """


class Place(NamedTuple):
    """A line of the user's own code.

    Attributes:
        file: the path of the file, relative to the working directory if it is below it.
        line: the number of the line, from 1.
        function: the name of the function.
        source: the text of the line; `""` if there is no file.

    """

    file: str
    line: int
    function: str
    source: str

    @property
    def short(self) -> str:
        """The name of the file without its folder, and the number of the line."""
        return f"{os.path.basename(self.file)}:{self.line}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}" + (
            f": {self.source}" if self.source else ""
        )


@dataclass(eq=False)
class Step:
    """A step of one process.

    Attributes:
        process: the name of the process: `A`, `B` and so on.
        kind: `request`, `load`, `save`, `effect`, `emit`, `line` or `end`.
        label: what it does, without values that may differ from run to run.
        place: the line of the user's code.
        what: what it does, for people.
        key: the arguments of a store's method, as text.
        acted: whether the world has changed.
        outcome: what came of it, for people; `""` if nothing did.
        fault: the fault that this step meets; `""` if it meets none.

    """

    process: str
    kind: str
    label: str
    place: Place
    what: str = ""
    key: str = ""
    acted: bool = False
    outcome: str = ""
    fault: str = ""

    def __str__(self) -> str:
        return f"  {self.process:2} {self.place.short:20} {self.what:48}  {self.outcome}".rstrip()


def shown(value: Any, most: int = LONGEST) -> str:
    """Return a value as text of at most `most` characters."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return cut(text, most)


def cut(text: str, most: int = LONGEST) -> str:
    """Return a text of at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def told(error: BaseException) -> str:
    """Return an exception as text: its class and its message."""
    cause = error.args[0] if error.args else None
    while isinstance(cause, BaseException):  # The driver wraps the error of a store.
        error, cause = cause, cause.__cause__
    return cut(f"{type(error).__name__}: {error}", 3 * LONGEST)


def comparable(value: Any) -> str:
    """Return a value as text in which addresses, ids and times are left out."""
    return _CHANGING.sub("…", shown(value, 100_000))


class OwnFiles:
    """Tells the user's own code from that of Python, of packages and of the SDK.

    The file of the task is an own file wherever it is.

    Attributes:
        nowhere: the first line of the task, for steps that no line of it takes.

    """

    def __init__(self, code: Optional[CodeType]) -> None:
        self._known: Dict[str, bool] = {}
        self.nowhere: Place = Place("?", 0, "?", "")
        if code is not None:
            self._known[code.co_filename] = True
            source = linecache.getline(code.co_filename, code.co_firstlineno).strip()
            file = _relative(code.co_filename)
            self.nowhere = Place(file, code.co_firstlineno, code.co_name, source)

    def has(self, file: str) -> bool:
        """Return whether a file is the user's own."""
        if file not in self._known:
            self._known[file] = not _is_foreign(file)
        return self._known[file]

    def place_of(self, frame: Optional[FrameType]) -> Place:
        """Return the innermost line of the user's own code, from `frame` out to the call."""
        while frame is not None:
            code = frame.f_code
            if code.co_filename == _CALLER:
                break
            if self.has(code.co_filename):
                source = linecache.getline(code.co_filename, frame.f_lineno, frame.f_globals)
                file = _relative(code.co_filename)
                return Place(file, frame.f_lineno, code.co_name, source.strip())
            frame = frame.f_back
        return self.nowhere


def _is_foreign(file: str) -> bool:
    if file.startswith("<"):
        return True
    path = os.path.realpath(file)
    return path.startswith(_FOREIGN) or "site-packages" in path or "dist-packages" in path


def _relative(file: str) -> str:
    path = os.path.relpath(file) if os.path.isabs(file) else file
    return file if path.startswith("..") else path


def name_of(number: int) -> str:
    """Return the name of a process: `A`, `B` and so on, then `P26`."""
    return chr(ord("A") + number) if number < 26 else f"P{number}"

"""Looks for a secret in everything that an exception leads to."""

from __future__ import annotations

import traceback
from types import FunctionType, MethodType, ModuleType
from typing import Any, Iterable, List, Mapping, Optional, Set, Tuple

OURS = "flowmaestro"


def traces_of(secret: str, error: Optional[BaseException]) -> List[str]:
    """Where `secret` shows: paths from the error through causes, attributes and containers.

    Of the frames in a traceback, all that `pytest -l` and `capture_locals` print counts: the
    `repr` of each local. A frame of a foreign package must not be there at all once a call has
    failed; its path is reported, too.
    """
    found: List[str] = []
    seen: Set[int] = set()
    waiting: List[Tuple[str, Any]] = [("error", error)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or isinstance(value, (type, ModuleType, FunctionType, MethodType)):
            continue
        seen.add(id(value))
        if secret in _shown(value):
            found.append(path)
        waiting += _parts(path, value)
        if isinstance(value, BaseException):
            found += _in_frames(path, value, secret)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return f"{value!s} {value!r}"


def _parts(path: str, value: Any) -> Iterable[Tuple[str, Any]]:
    if isinstance(value, (str, bytes, int, float, type(None))):
        return
    if isinstance(value, BaseException):
        yield f"{path}.__cause__", value.__cause__
        yield f"{path}.__context__", value.__context__
        yield f"{path}.args", value.args
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"{path}[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, item in enumerate(list(value)):
            yield f"{path}[{number}]", item
    for name, item in list(getattr(value, "__dict__", {}).items()):
        yield f"{path}.{name}", item
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f"{path}.{name}", getattr(value, name)


def _in_frames(path: str, error: BaseException, secret: str) -> Iterable[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in {"urllib3", "requests", "aiohttp", "http", "h11"}:
            yield f"{path}: a frame of {name}, line {line}"
        if name.startswith(OURS):
            for local, value in list(frame.f_locals.items()):
                if secret in _shown(value):
                    yield f"{path}: {local} in {name}, line {line}"

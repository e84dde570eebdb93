"""The user's store, as a simulated process sees it: each use of it is a step of that process.

A store may be any object. Each call of a method, each item that is set or read, and each block that
it opens is a step. What a method returns is a part of the store if it can be called, opens a block,
or executes or commits something; else it is plain data.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
from typing import Any, Callable, Iterator

from flowmaestro.testing.crashes.process import Process
from flowmaestro.testing.crashes.steps import cut, shown

_READS = re.compile(
    r"_*(m?get|hm?get|load|read|fetch|find|has|exists?|contains|is|known|list|keys|values|items"
    r"|select|count|len|iter|next|scan|peek|lookup|query)(?=_|all|many|one|$)"
)
"""The beginnings of the names of methods that change nothing."""
_WRITES = re.compile("create|set|or_|del|pop|add|save|put|insert|update|claim|lock")
_LABEL_ENDS = re.compile(r"[\[(]| =")
_PARTS = ("execute", "commit", "__enter__", "__aenter__")


def watched(value: Any, process: Process, name: str) -> Any:
    """Return `value`, a part of a store with this name, so that each use of it is a step."""
    if inspect.isroutine(value) or inspect.isfunction(value):
        return _method(value, process, name)
    is_part = callable(value) or any(hasattr(value, it) for it in _PARTS)
    return WatchedStore(value, process, name) if is_part else value


def _reads(name: str, args: Any) -> bool:
    """Return whether a method of this name, called with these arguments, changes nothing."""
    last = name.rpartition(".")[2]
    if last in ("execute", "executemany") and args:
        return str(args[0]).lstrip().upper().startswith("SELECT")
    return _READS.match(last) is not None and _WRITES.search(last) is None


def _method(method: Callable[..., Any], process: Process, name: str) -> Callable[..., Any]:
    def step(args: Any, kwargs: Any) -> Any:
        reads = _reads(name, args)
        given = [shown(it) for it in args] + [f"{key}={shown(it)}" for key, it in kwargs.items()]
        return process.step(
            "load" if reads else "save",
            name,
            f"{name}({cut(', '.join(given))})",
            key=", ".join(given) if reads else (given or [""])[0],
            acts=not reads,
        )

    def told(step: Any, result: Any) -> Any:
        if step.kind == "load":
            step.outcome = shown(result)
        return watched(result, process, name)

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with step(args, kwargs) as it:
                return told(it, await method(*args, **kwargs))

        return awaited

    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        with step(args, kwargs) as it:
            result = method(*args, **kwargs)
            if not inspect.isawaitable(result):
                return told(it, result)
        return _later(result, functools.partial(step, args, kwargs), told)

    return called


async def _later(result: Any, step: Callable[[], Any], told: Callable[[Any, Any], Any]) -> Any:
    with step() as it:
        return told(it, await result)


def _contains(target: Any, key: object) -> bool:
    return key in target


def _enter(target: Any) -> Any:
    return target.__enter__()


def _leave(target: Any, *error: object) -> Any:
    return target.__exit__(*error)


class WatchedStore:
    """A store, or a part of one, each use of which is a step of a process.

    It passes for an instance of the class of the store.
    """

    def __init__(self, target: Any, process: Process, name: str) -> None:
        vars(self).update(_target=target, _process=process, _name=name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        held: Any = vars(self)["_target"]
        return held.__class__

    def __getattr__(self, name: str) -> Any:
        held = vars(self)
        value = getattr(held["_target"], name)
        return watched(value, held["_process"], f"{held['_name']}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._use("save", f".{name} = {shown(value)}", setattr, name, value)

    def __repr__(self) -> str:
        return repr(vars(self)["_target"])

    def __bool__(self) -> bool:
        return bool(vars(self)["_target"])

    def __len__(self) -> int:
        return int(self._use("load", ".__len__()", len))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._use("load", ".__iter__()", list))

    def __contains__(self, key: object) -> bool:
        return bool(self._use("load", f".__contains__({shown(key)})", _contains, key))

    def __getitem__(self, key: Any) -> Any:
        return self._use("load", f"[{shown(key)}]", operator.getitem, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._use("save", f"[{shown(key)}] = {shown(value)}", operator.setitem, key, value)

    def __delitem__(self, key: Any) -> None:
        self._use("save", f".__delitem__({shown(key)})", operator.delitem, key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        held = vars(self)
        return _method(held["_target"], held["_process"], held["_name"])(*args, **kwargs)

    def __enter__(self) -> Any:
        held = vars(self)
        entered = self._use("load", ".__enter__()", _enter)
        return (
            self
            if entered is held["_target"]
            else watched(entered, held["_process"], held["_name"])
        )

    def __exit__(self, *error: object) -> Any:
        held = vars(self)
        if held["_process"].is_dead:  # Not even the end of its block reaches the store.
            return None
        return self._use("save", ".__exit__()", _leave, *error)

    async def __aenter__(self) -> Any:
        held = vars(self)
        process, name = held["_process"], held["_name"]
        with process.step("load", f"{name}.__aenter__()", acts=False):
            entered = await held["_target"].__aenter__()
        return self if entered is held["_target"] else watched(entered, process, name)

    async def __aexit__(self, *error: object) -> Any:
        held = vars(self)
        process, name = held["_process"], held["_name"]
        if process.is_dead:
            return None
        with process.step("save", f"{name}.__aexit__()"):
            return await held["_target"].__aexit__(*error)

    def _use(self, kind: str, what: str, use: Callable[..., Any], *args: Any) -> Any:
        held = vars(self)
        name: str = held["_name"]
        key = what.partition(" = ")[0]
        label = f"{name}{_LABEL_ENDS.split(what)[0] or '[]'}"
        step = held["_process"].step(kind, label, f"{name}{what}", key=key, acts=kind == "save")
        with step as it:
            result = use(held["_target"], *args)
            if kind == "load":
                it.outcome = shown(result)
            return result

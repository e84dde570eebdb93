"""A sync client cannot await: what its callbacks may not be, and may not return."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Mapping


def refuse_awaitable(name: str, returned: object) -> None:
    """Raise `TypeError`, naming the callback, if it returned an awaitable.

    A lambda around a coroutine function does so, for example, and is not noticed before its call.
    """
    if returned is None or not inspect.isawaitable(returned):
        return
    if inspect.iscoroutine(returned):
        returned.close()  # it never runs, and Python need not warn of it
    raise TypeError(
        f"a sync client cannot await what {name} returned; "
        "pass a plain function, or use AsyncFlowMaestroClient"
    )


def refuse_coroutine_functions(callbacks: Mapping[str, Any]) -> None:
    """Raise `TypeError`, naming the first one, if there are coroutine functions among these."""
    for name, value in callbacks.items():
        if is_coroutine_function(value):
            raise TypeError(
                f"a sync client cannot await the coroutine function given as {name}; "
                "pass a plain function, or use AsyncFlowMaestroClient"
            )


def is_coroutine_function(value: Any) -> bool:
    """Whether a call of `value` has to be awaited, as far as can be told without calling it.

    So it has with a coroutine function, an object whose `__call__` is one, and a
    `functools.partial` of either.
    """
    while isinstance(value, functools.partial):
        value = value.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    calls = (value, type(value).__call__) if callable(value) else ()
    return any(map(inspect.iscoroutinefunction, calls))

"""Checks of what users pass: a session, and callbacks that a sync client cannot await. Pure."""

from __future__ import annotations

import inspect
from typing import Any, Mapping

from flowmaestro_core.arguments import is_coroutine_function

__all__ = [
    "check_session",
    "is_coroutine_function",
    "refuse_awaitable",
    "refuse_coroutine_functions",
]


def refuse_awaitable(name: str, returned: object) -> None:
    """Raise `TypeError`, naming the callback, if it returned an awaitable.

    A lambda that calls a coroutine function returns one. This cannot be seen before the lambda is
    called.
    """
    if returned is None or not inspect.isawaitable(returned):
        return
    if inspect.iscoroutine(returned):
        returned.close()  # Otherwise Python warns that it was never awaited.
    raise TypeError(
        f"a sync client cannot await what {name} returned; "
        "pass a plain function, or use AsyncFlowMaestroClient"
    )


def refuse_coroutine_functions(callbacks: Mapping[str, Any]) -> None:
    """Raise `TypeError`, which names the key, if a value of `callbacks` is a coroutine function."""
    for name, value in callbacks.items():
        if is_coroutine_function(value):
            raise TypeError(
                f"a sync client cannot await the coroutine function given as {name}; "
                "pass a plain function, or use AsyncFlowMaestroClient"
            )


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, if `session` is not an instance of `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

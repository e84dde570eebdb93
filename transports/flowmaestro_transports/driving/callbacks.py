"""What the callbacks of a sync client may not return."""

from __future__ import annotations

import inspect


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

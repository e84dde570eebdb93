"""What the callbacks of a sync client may not return."""

from __future__ import annotations

import inspect


def refuse_awaitable(name: str, returned: object) -> None:
    """`TypeError`, naming the callback, where it has returned what nobody here awaits.

    So does a lambda around a coroutine function, which cannot be told before it is called.
    """
    if returned is None or not inspect.isawaitable(returned):
        return
    if inspect.iscoroutine(returned):
        returned.close()  # it never runs, and Python need not warn of it
    raise TypeError(
        f"a sync client cannot await what {name} returned; "
        "pass a plain function, or use AsyncFlowMaestroClient"
    )

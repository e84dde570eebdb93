"""The types of a client's options, for the annotations of the clients.

Each type is imported when it is first read, so a client without hooks need not load the module of
hooks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowmaestro_core.policy.stream_times import StreamTimes
    from flowmaestro_transports.observing.hooks import Hooks

__all__ = ["Hooks", "StreamTimes"]

_HOMES = {
    "Hooks": "flowmaestro_transports.observing.hooks",
    "StreamTimes": "flowmaestro_core.policy.stream_times",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found

"""The pure core of the FlowMaestro SDK: everything about the API, and no I/O.

Nothing in this package opens a socket, starts a thread, reads a clock, draws random numbers,
looks at the environment or awaits. Each request of a client is made by a *machine* (`machine.py`).
The machine returns actions (`actions.py`). A driver carries out each action and reports the result
to the machine.

The names in `__all__` are what a driver of your own needs. Each is imported when it is first read.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from flowmaestro_core.version import __version__ as __version__

if TYPE_CHECKING:
    from flowmaestro_core.actions import (
        Action,
        Close,
        Done,
        Emit,
        Fail,
        Load,
        Open,
        Read,
        Save,
        Send,
        Wait,
    )
    from flowmaestro_core.context import Context
    from flowmaestro_core.errors import (
        CheckpointConflict,
        CheckpointError,
        FlowMaestroError,
        JournalError,
    )
    from flowmaestro_core.machine import LocalProtocolError, Machine
    from flowmaestro_core.machines import machine_for
    from flowmaestro_core.operation import Operation
    from flowmaestro_core.options import ClientOptions
    from flowmaestro_core.resources import (
        Agents,
        Executions,
        KnowledgeBases,
        Threads,
        Triggers,
        Webhooks,
        Workflows,
    )
    from flowmaestro_core.store import Loaded

__all__ = [
    "Action",
    "Agents",
    "CheckpointConflict",
    "CheckpointError",
    "ClientOptions",
    "Close",
    "Context",
    "Done",
    "Emit",
    "Executions",
    "Fail",
    "FlowMaestroError",
    "JournalError",
    "KnowledgeBases",
    "Load",
    "Loaded",
    "LocalProtocolError",
    "Machine",
    "Open",
    "Operation",
    "Read",
    "Save",
    "Send",
    "Threads",
    "Triggers",
    "Wait",
    "Webhooks",
    "Workflows",
    "machine_for",
]

_HOMES = {
    "ClientOptions": "options",
    "Context": "context",
    "Loaded": "store",
    "LocalProtocolError": "machine",
    "Machine": "machine",
    "Operation": "operation",
    "machine_for": "machines",
    **dict.fromkeys(
        ("Agents", "Executions", "KnowledgeBases", "Threads", "Triggers", "Webhooks", "Workflows"),
        "resources",
    ),
    **dict.fromkeys(
        ("CheckpointConflict", "CheckpointError", "FlowMaestroError", "JournalError"), "errors"
    ),
}
"""The module of each public name that is not an action."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return the public name. Raises `AttributeError` for any other name.

        The import of this package must be quick, since each import of the SDK begins with it.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES.get(name, 'actions')}")
        found = globals()[name] = getattr(home, name)
        return found


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})

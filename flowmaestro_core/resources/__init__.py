"""The seven resources: every endpoint of the API, written once as a pure builder.

Each is imported when it is first read: a program that uses one need not load all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, List

if TYPE_CHECKING:
    from flowmaestro_core.resources.agents import Agents
    from flowmaestro_core.resources.executions import Executions
    from flowmaestro_core.resources.knowledge_bases import KnowledgeBases
    from flowmaestro_core.resources.threads import Threads
    from flowmaestro_core.resources.triggers import Triggers
    from flowmaestro_core.resources.webhooks import Webhooks
    from flowmaestro_core.resources.workflows import Workflows

__all__ = [
    "Agents",
    "Executions",
    "KnowledgeBases",
    "Threads",
    "Triggers",
    "Webhooks",
    "Workflows",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = "knowledge_bases" if name == "KnowledgeBases" else name.lower()
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found


def __dir__() -> List[str]:
    return __all__

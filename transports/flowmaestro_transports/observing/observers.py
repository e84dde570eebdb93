"""The observers of a client: the user's hooks and the log `flowmaestro`.

The core decides and says nothing of it; what it decided is data in its actions. Where somebody
wants to know, a reporter of each operation tells them; most clients never need to import one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from logging import Logger

    from flowmaestro_core.machine import Machine
    from flowmaestro_transports.observing.hooks import Hooks

LOGGER = "flowmaestro"

_INFO = 20


class Observers:
    """The observers of a client: its hooks, and the log if it is enabled."""

    def __init__(self, hooks: Optional[Hooks] = None) -> None:
        self._hooks = None if hooks is None else _checked(hooks)
        self._logger: Optional[Logger] = None

    def reporter(self, machine: Machine[Any], transport: object, *, awaits: bool) -> Any:
        """A reporter of one operation; `None` if nobody wants to know.

        It shows nothing that the machine's scrubber knows. With `awaits`, it is an
        `AsyncReporter`.
        """
        log = self._log()
        if log is None and self._hooks is None:
            return None
        from flowmaestro_transports.observing.reporters import AsyncReporter, SyncReporter

        kind = AsyncReporter if awaits else SyncReporter
        reporter = kind(self._hooks, log, machine, transport)
        return reporter if reporter.is_heard else None

    def _log(self) -> Optional[Logger]:
        """The log, if it is read."""
        logger = self._logger
        if logger is None:
            if "logging" not in sys.modules:  # where nobody has imported it, nobody reads the log
                return None
            logger = self._logger = sdk_logger()
        return logger if logger.isEnabledFor(_INFO) else None


def sdk_logger() -> Logger:
    """The logger `flowmaestro`; it is silent until the program sets up `logging`."""
    import logging

    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def _checked(hooks: Hooks) -> Optional[Hooks]:
    """The hooks; `None` if there are none in them."""
    from flowmaestro_transports.observing.hooks import Hooks

    if not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be a Hooks, not {type(hooks).__name__}")
    return None if hooks == Hooks() else hooks

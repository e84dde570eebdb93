"""The observers of a client: the user's hooks and the log `flowmaestro`.

The core decides and says nothing of it; what it decided is data in its actions. Where somebody
wants to know, a reporter of each operation tells them; most clients never need to import one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from logging import Logger

    from flowmaestro_core.http.scrub import SecretScrubber
    from flowmaestro_transports.observing.hooks import Hooks
    from flowmaestro_transports.observing.reporters import AsyncReporter, SyncReporter

LOGGER = "flowmaestro"

_INFO = 20


class Observers:
    """The observers of a client: its hooks, and the log if it is enabled."""

    def __init__(self, hooks: Optional[Hooks] = None) -> None:
        self._hooks = None if hooks is None else _checked(hooks)
        self._logger: Optional[Logger] = None

    def reporter(self, scrubber: SecretScrubber) -> Optional[SyncReporter]:
        """A reporter of one operation of a sync client; `None` if nobody wants to know.

        It shows nothing that `scrubber` knows.
        """
        log = self._log()
        if log is None and self._hooks is None:
            return None
        from flowmaestro_transports.observing.reporters import SyncReporter

        return SyncReporter(self._hooks, log, scrubber)

    def async_reporter(self, scrubber: SecretScrubber) -> Optional[AsyncReporter]:
        """The same for an async client."""
        log = self._log()
        if log is None and self._hooks is None:
            return None
        from flowmaestro_transports.observing.reporters import AsyncReporter

        return AsyncReporter(self._hooks, log, scrubber)

    def _log(self) -> Optional[Logger]:
        """The log, if it is read."""
        logger = self._logger
        if logger is None:
            logging = sys.modules.get("logging")
            if logging is None:  # where nobody has imported it, nobody reads the log
                return None
            logger = self._logger = logging.getLogger(LOGGER)
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
        return logger if logger.isEnabledFor(_INFO) else None


def _checked(hooks: Hooks) -> Optional[Hooks]:
    """The hooks; `None` if there are none in them."""
    from flowmaestro_transports.observing.hooks import Hooks

    if not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be a Hooks, not {type(hooks).__name__}")
    return None if hooks == Hooks() else hooks

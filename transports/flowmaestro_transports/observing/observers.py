"""The observers of a client: the user's hooks and the log `flowmaestro`.

The core logs nothing: its decisions are data in its actions. An operation that is observed has a
reporter, which passes the decisions to the observers. A client without observers has no reporters,
and does not import the module `reporters`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

from flowmaestro_transports.observing.sdk_log import sdk_logger

if TYPE_CHECKING:
    from logging import Logger

    from flowmaestro_core.machine import Machine
    from flowmaestro_transports.observing.hooks import Hooks


_INFO = 20
"""`logging.INFO`: the module is imported only if a program uses it."""


class Observers:
    """The observers of a client: its hooks, and the log if it is enabled.

    Raises `TypeError` for `hooks` of another type.
    """

    def __init__(self, hooks: Optional[Hooks] = None) -> None:
        if hooks is not None:
            _check(hooks)
        self._hooks = hooks
        self._logger: Optional[Logger] = None

    def reporter(self, machine: Machine[Any], transport: object, *, awaits: bool) -> Any:
        """Return a reporter of one operation; `None` if no hook, trace or log listens.

        The reporter redacts the secrets that the machine's scrubber knows. With `awaits`, it is an
        `AsyncReporter`, else a `SyncReporter`.
        """
        if self._logger is None and "logging" in sys.modules:  # Without the module, no log is read.
            self._logger = sdk_logger()
        is_read = self._logger is not None and self._logger.isEnabledFor(_INFO)
        if not is_read and self._hooks is None:
            return None
        from flowmaestro_transports.observing.reporters import AsyncReporter, SyncReporter

        kind = AsyncReporter if awaits else SyncReporter
        reporter = kind(self._hooks, self._logger if is_read else None, machine, transport)
        return reporter if reporter.is_active else None


def _check(hooks: Hooks) -> None:
    from flowmaestro_transports.observing.hooks import Hooks

    if not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be a Hooks, not {type(hooks).__name__}")

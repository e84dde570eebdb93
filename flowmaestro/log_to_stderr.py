"""The log on standard error, for `FLOWMAESTRO_LOG`.

May touch: `sys.stderr` and the logger `flowmaestro`. This module is imported only if the variable
is set. Without the variable, nothing is logged until the program itself sets up `logging`.
"""

from __future__ import annotations

import logging
import sys

from flowmaestro_transports.observing.sdk_log import LOGGER

_LEVELS = ("debug", "info", "warning")


class _StandardError(logging.Handler):
    """A handler that writes to the current `sys.stderr`.

    All instances are equal, so a logger never has two of them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StandardError)

    def __hash__(self) -> int:
        return hash(_StandardError)


def log_to_stderr(level: str) -> None:
    """Write the SDK's log records of `level` (debug, info or warning) and above to standard error.

    These are the records of the logger `flowmaestro`. A second call changes the level, but adds no
    second handler, so no record is written twice. Handlers of the root logger, such as that of
    `logging.basicConfig`, write the records as well. Any other `level` counts as warning; if the
    first call gives one, a warning in the log says so.
    """
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger = logging.getLogger(LOGGER)
    known, first = level.lower() in _LEVELS, handler not in logger.handlers
    logger.setLevel(level.upper() if known else logging.WARNING)
    logger.addHandler(handler)
    if first and not known:
        logger.warning("FLOWMAESTRO_LOG must be debug, info or warning, not %r", level)

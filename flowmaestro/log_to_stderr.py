"""The log on standard error, for `FLOWMAESTRO_LOG`.

May touch: `sys.stderr` and the logger `flowmaestro`. Imported where the variable is set; without
it the log is silent until the program itself sets up `logging`.
"""

from __future__ import annotations

import logging
import sys

from flowmaestro_transports.observing.sdk_log import LOGGER

_LEVELS = ("debug", "info", "warning")


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is at the time. A logger takes one alone: all are equal."""

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
    """Write what is logged from `level` on (debug, info or warning) to standard error.

    However often this is called, it writes each line once; a handler that the program has given
    the root logger, such as that of `logging.basicConfig`, writes it too. For any other level, it
    writes warnings, and one of them, the first time, says so.
    """
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger = logging.getLogger(LOGGER)
    known, first = level.lower() in _LEVELS, handler not in logger.handlers
    logger.setLevel(level.upper() if known else logging.WARNING)
    logger.addHandler(handler)
    if first and not known:
        logger.warning("FLOWMAESTRO_LOG must be debug, info or warning, not %r", level)

"""The SDK's logger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

LOGGER = "flowmaestro"


def sdk_logger() -> Logger:
    """Return the logger `flowmaestro`. It is silent until the program sets up `logging`."""
    import logging

    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger

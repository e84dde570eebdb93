"""The command line, `flowmaestro` or `python -m flowmaestro`.

Results go to standard output, everything else to standard error. Each command is imported when
it is called, so that `--help` loads nothing heavy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional, TextIO

DONE, FAILED, USAGE, NOT_FOUND, AUTHENTICATION, RATE_LIMIT, NETWORK = range(7)
TIMED_OUT = 124
"""The exit status after a time limit, as with `timeout` of GNU coreutils."""
INTERRUPTED = 130
"""The exit status that a shell reports after Ctrl-C: 128 and the number of SIGINT."""
HUNG_UP, TERMINATED = 129, 143
"""The same for SIGHUP, as when the terminal is closed, and for SIGTERM."""
CODES = {
    FAILED: "failed",
    USAGE: "usage",
    NOT_FOUND: "not_found",
    AUTHENTICATION: "authentication",
    RATE_LIMIT: "rate_limit",
    NETWORK: "network",
    TIMED_OUT: "timed_out",
    **dict.fromkeys((INTERRUPTED, HUNG_UP, TERMINATED), "interrupted"),
}
"""The `code` of an error in JSON that has none of its own, by exit status."""


NOT_UNICODE = "is not valid Unicode: it has bytes that are not UTF-8, or half of a surrogate pair"
"""What is wrong with a text that no request can hold."""


class CommandFailed(Exception):
    """The failure of a command.

    Attributes:
        status: the exit status.
        hint: what the user can do; "" if there is nothing to say.
        code: a word for programs that read the error as JSON.
        execution_id: the execution that the error is about; `None` if there is none.

    If the exception has no text, nothing is printed, because the command has printed everything
    itself.

    """

    def __init__(
        self,
        text: str = "",
        status: int = FAILED,
        *,
        hint: str = "",
        code: str = "",
        execution_id: Optional[str] = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.hint = hint
        self.code: str = code or CODES.get(status, "failed")
        self.execution_id = execution_id


def status_after(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status after Ctrl-C, or after the signal of a `signals.Stopped`."""
    status: int = getattr(interrupt, "status", INTERRUPTED)
    return status


def discard(stream: TextIO) -> None:
    """Discard what `stream` has not written yet, and all that follows."""
    with suppress(OSError):  # It has no descriptor.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

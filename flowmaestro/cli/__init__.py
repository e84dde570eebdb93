"""The command line, `flowmaestro` or `python -m flowmaestro`.

Results go to standard output, everything else to standard error. Each command is imported when
it is asked for, so that `--help` loads nothing heavy.
"""

from __future__ import annotations

from typing import Any

DONE, FAILED, USAGE, NOT_FOUND, AUTHENTICATION, RATE_LIMIT, NETWORK = range(7)
TIMED_OUT = 124
"""What `timeout` of GNU coreutils exits with."""
INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended: 128 and the number of SIGINT."""


class CommandFailed(Exception):
    """A command could not do its job; the text says why, in one line for the user.

    `status` is the exit status; without a text nothing is printed. `document` is what `--json`
    prints, by default the text and the status.
    """

    def __init__(self, text: str = "", status: int = FAILED, document: Any = None) -> None:
        super().__init__(text)
        self.status = status
        self.document = document

"""The command line, `flowmaestro` or `python -m flowmaestro`.

Results go to standard output, everything else to standard error. Each command is imported when
it is called, so that `--help` loads nothing heavy.
"""

from __future__ import annotations

from typing import Optional

DONE, FAILED, USAGE, NOT_FOUND, AUTHENTICATION, RATE_LIMIT, NETWORK = range(7)
TIMED_OUT = 124
"""The exit status after a time limit, as with `timeout` of GNU coreutils."""
INTERRUPTED = 130
"""The exit status that a shell reports after Ctrl-C: 128 and the number of SIGINT."""
CODES = {
    FAILED: "failed",
    USAGE: "usage",
    NOT_FOUND: "not_found",
    AUTHENTICATION: "authentication",
    RATE_LIMIT: "rate_limit",
    NETWORK: "network",
    TIMED_OUT: "timed_out",
    INTERRUPTED: "interrupted",
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

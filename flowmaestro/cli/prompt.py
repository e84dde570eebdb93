"""The prompt of `chat`, edited with prompt_toolkit (extra `cli`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, Iterable, Optional

from prompt_toolkit import PromptSession
from prompt_toolkit.history import DummyHistory, History
from prompt_toolkit.output import create_output

from flowmaestro.cli.chat import add_to_history, read_history


class _FileHistory(History):
    """A history in a file that only this user may read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """Return the messages, the newest first."""
        return reversed(read_history(self._path))

    def store_string(self, string: str) -> None:
        """Add a message."""
        add_to_history(self._path, string)


def message_prompt(history: Optional[Path]) -> Callable[[], Optional[str]]:
    """Return a function that returns the next message of the user, and None after Ctrl-D.

    Ctrl-C drops the line. Pasted lines are one message. `history` is a file; None keeps nothing.
    """
    # Answers go to standard output, so the prompt is drawn on standard error.
    session: PromptSession[str] = PromptSession(
        history=DummyHistory() if history is None else _FileHistory(history),
        output=create_output(stdout=sys.stderr),
    )

    def ask() -> Optional[str]:
        while True:
            try:
                return session.prompt("you    ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None

    return ask

"""The prompt of `chat`, edited with prompt_toolkit (extra `cli`)."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional

from prompt_toolkit import PromptSession
from prompt_toolkit.history import DummyHistory, History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from flowmaestro.cli.state import change_private

LONGEST_HISTORY = 1000
"""How many messages the history stores: the last ones."""


class _FileHistory(History):
    """A history in a file. On POSIX, only this user may read it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """Return the messages of the file, the newest first."""
        return reversed(read_history(self._path))

    def store_string(self, string: str) -> None:
        """Add a message to the file, unless it begins with a space."""
        add_to_history(self._path, string)


def message_prompt(history: Optional[Path]) -> Callable[[], Optional[str]]:
    """Return a function that asks the user for a message and returns it, or None after Ctrl-D.

    Ctrl-C discards what was typed. Pasted lines are one message, and Alt-Enter begins a new line.
    `history` is the file that stores the messages; None stores none.
    """
    keys = KeyBindings()

    @keys.add("escape", "enter")  # What terminals send for Alt-Enter.
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    # Answers go to standard output, so the prompt is drawn on standard error.
    session: PromptSession[str] = PromptSession(
        history=DummyHistory() if history is None else _FileHistory(history),
        output=create_output(stdout=sys.stderr),
        key_bindings=keys,
    )

    def ask() -> Optional[str]:
        while True:
            try:
                return session.prompt([("bold", "you    ")])
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None

    return ask


def read_history(path: Path) -> List[str]:
    """Return the messages of the history, the oldest first; none if the file cannot be read."""
    try:
        return _messages(path)
    except OSError:
        return []


def add_to_history(path: Path, text: str) -> None:
    """Add a message to the history `path`. On POSIX, only this user may read the file.

    Nothing is added if the message begins with a space, or if the file cannot be read or written.
    """
    if text.startswith(" "):
        return

    def change() -> str:
        kept = [*_messages(path), text][-LONGEST_HISTORY:]
        return "".join(json.dumps(each) + "\n" for each in kept)

    with suppress(OSError):  # Raised before anything is written: the file stays as it is.
        change_private(path, change)


def _messages(path: Path) -> List[str]:
    """Return the messages in a file, without damaged lines; none if the file does not exist.

    Raises `OSError` if the file cannot be read.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    found: List[Any] = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [text for text in found if isinstance(text, str)]

"""A machine for the tests of drivers and handles, which asks for what it is told to ask for."""

from __future__ import annotations

from typing import Any, Iterator, List

OPTIONAL = ("last_event_id", "last_seen", "reconnects", "request_id", "scrubber")


class Scripted:
    """Returns these actions, and notes in `heard` for which event it was asked to go on."""

    finished = False
    execution_id = None
    runs_callers_code = False
    operation = "executions.stream"

    def __init__(self, *actions: Any) -> None:
        self.actions: Iterator[Any] = iter(actions)
        self.heard: List[str] = []

    def abandon(self) -> None:
        """Not an event: a scripted machine reserves nothing."""

    def __getattr__(self, event: str) -> Any:
        if event.startswith("_") or event in OPTIONAL:
            raise AttributeError(event)
        self.heard.append(event)
        return lambda *_: next(self.actions)

"""What the constructors of several transports take, checked there and then."""

from __future__ import annotations

from typing import Optional


def check_max_connections(value: object) -> None:
    """Raises `TypeError` for what is no `int`, `ValueError` for what is below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_connections must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"max_connections must be at least 1, not {value}")


def check_session(session: Optional[object], kind: type) -> None:
    """Raises `TypeError` for what is neither of this kind nor None."""
    if session is not None and not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

"""What the constructors of several transports take, checked there and then."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.arguments import check_count


def check_max_connections(value: object) -> None:
    """Raises `TypeError` for what is no `int`, `ValueError` for what is below 1."""
    check_count("max_connections", value)


def check_session(session: Optional[object], kind: type) -> None:
    """Raises `TypeError` for what is neither of this kind nor None."""
    if session is not None and not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

"""Checks of arguments that the adapters share. Pure."""

from __future__ import annotations


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, for a session that is not of this `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

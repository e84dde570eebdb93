"""Checks of arguments that several transports share. Pure."""

from __future__ import annotations


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, if `session` is not an instance of `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

"""Texts that cannot control a terminal. Pure; imports nothing, so that commands start at once."""

from __future__ import annotations

_JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, which part and join letters."""
_KEPT = frozenset(_JOINERS + "\xa0\u1680\u202f\u205f\u3000").union(map(chr, range(0x2000, 0x200B)))
"""Joiners and spaces: they are harmless, although `str.isprintable` is False for them."""


def printable(text: str) -> str:
    """Return the text with a space for each character that may control a terminal.

    These are the characters for which `str.isprintable` is False, such as control characters, bidi
    marks and line separators, but not spaces and joiners.
    """
    if text.isprintable():
        return text
    return "".join(s if s.isprintable() or s in _KEPT else " " for s in text)


def printable_lines(text: str) -> str:
    """Return the text with each of its lines `printable`."""
    return "\n".join(map(printable, text.split("\n")))

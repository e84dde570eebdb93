"""Texts of others in a picture or a page."""

from __future__ import annotations

from html import escape

from flowmaestro_core.http.secrets import without_keys


def safe(text: str) -> str:
    """A text that XML takes, without a key, and that cannot turn the direction of what follows."""
    text = without_keys(text)
    return escape("".join(s if s.isprintable() else "\N{REPLACEMENT CHARACTER}" for s in text))

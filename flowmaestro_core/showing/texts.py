"""Texts and times from the server, made safe and readable for pictures and pages."""

from __future__ import annotations

from html import escape
from typing import Any, Mapping, Optional

from flowmaestro_core.http.dates import parse_timestamp
from flowmaestro_core.http.secrets import without_keys


def safe(text: str) -> str:
    """Return a text escaped for XML, with keys redacted and unprintable characters replaced.

    The controls that change the direction of the text after them are unprintable, too.
    """
    text = without_keys(text)
    return escape("".join(s if s.isprintable() else "\N{REPLACEMENT CHARACTER}" for s in text))


def event_time(value: Any) -> Optional[float]:
    """Return Unix seconds from milliseconds or an ISO 8601 text; `None` for any other value.

    Negative milliseconds, and those from 1e14 up (the year 5138), are not a time: much later ones
    cannot be shown as a date.
    """
    try:
        if isinstance(value, (int, float)):
            return value / 1000 if 0 <= value < 1e14 else None
        return parse_timestamp(str(value)[:40])
    except (ValueError, OverflowError):
        return None


def duration_of(execution: Mapping[str, Any]) -> Optional[str]:
    """Return how long an execution took, as a text; `None` if the server's times are unknown."""
    started, ended = (event_time(execution.get(key)) for key in ("started_at", "completed_at"))
    return None if started is None or ended is None else in_words(max(ended - started, 0.0))


def in_words(seconds: float) -> str:
    """Return a duration as a text, such as `0.30 s`."""
    if 0 < seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    for unit, size, least in (("d", 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 60)):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2f} s"

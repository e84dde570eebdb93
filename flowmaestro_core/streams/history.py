"""What an execution's stream remembers of its events, so that a timeline can be drawn."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, Mapping, Tuple, Union

MOST_REMEMBERED = 1000
LONGEST_NAME = 200
"""Characters of a node's id or name."""

_KINDS = frozenset(
    {
        *(f"node:{what}" for what in ("started", "completed", "failed", "retry")),
        *(f"execution:{what}" for what in ("started", "completed", "failed", "cancelled")),
        "stream:reconnected",
    }
)
_KEYS = ("type", "timestamp", "node_id", "node_name", "duration_ms")


class History:
    """The last 1,000 events that a timeline is drawn from, and of each only what that needs."""

    def __init__(self) -> None:
        self._events: Deque[Dict[str, Any]] = deque(maxlen=MOST_REMEMBERED)

    def note(self, event: Mapping[str, Any]) -> None:
        """One more is handed over."""
        if event["type"] in _KINDS:
            self._events.append({key: _short(event[key]) for key in _KEYS if key in event})

    @property
    def events(self) -> Tuple[Dict[str, Any], ...]:
        """Those that are remembered, in the order in which they came."""
        return tuple(self._events)


def _short(value: Any) -> Union[int, float, str]:
    return value if isinstance(value, (int, float)) else str(value)[:LONGEST_NAME]

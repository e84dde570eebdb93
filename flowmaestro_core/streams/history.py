"""What an execution's stream remembers of its events, so that a timeline can be drawn."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, Mapping, Optional, Tuple, Union

from flowmaestro_core.streams.events import EXECUTION_TERMINAL, event_from_sse
from flowmaestro_core.streams.sse import ServerSentEvent

MOST_REMEMBERED = 1000
LONGEST_NAME = 200
"""Characters of a node's id or name."""
SHORT_EVENT = 1000
"""Characters of an event that is kept as it came, and read when a timeline is drawn."""

_KINDS = frozenset(
    {
        *(f"node:{what}" for what in ("started", "completed", "failed", "retry")),
        *(f"execution:{what}" for what in ("started", "completed", "failed", "cancelled")),
        *("connected", "stream:reconnected"),
    }
)
_KEYS = ("type", "status", "timestamp", "node_id", "node_name", "duration_ms")


class History:
    """The last 1,000 events that a timeline is drawn from, and little of each."""

    def __init__(self) -> None:
        self._events: Deque[Union[ServerSentEvent, Dict[str, Any]]] = deque(maxlen=MOST_REMEMBERED)
        self.ended = False
        """Whether the last event is a terminal one."""

    def note(self, event: Mapping[str, Any], came_as: Optional[ServerSentEvent] = None) -> None:
        """One more has come."""
        if event["type"] in _KINDS:
            self.ended = event["type"] in EXECUTION_TERMINAL
            if came_as is None or len(came_as.data) > SHORT_EVENT:
                self._events.append(_needed(event))
            else:
                self._events.append(came_as)

    @property
    def events(self) -> Tuple[Dict[str, Any], ...]:
        """Those that are remembered, in the order in which they came: what a timeline needs."""
        return tuple(
            _needed(event_from_sse(it) if isinstance(it, ServerSentEvent) else it)
            for it in self._events.copy()  # another thread may read the stream
        )


def _needed(event: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: _short(event[key]) for key in _KEYS if key in event}


def _short(value: Any) -> Union[int, float, str]:
    return value if isinstance(value, (int, float)) else str(value)[:LONGEST_NAME]

"""Whether an execution was followed, by its events."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Sequence

from flowmaestro_core.arguments import check_several

NO_NODE_EVENTS = "this server sends no node events"
NOT_FOLLOWED = "its events were not followed"


def list_of(events: Iterable[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """The events, or `TypeError`."""
    check_several("events", events, "mappings")
    listed: List[Any] = list(events)
    for event in listed:
        if not isinstance(event, Mapping):
            raise TypeError(f"events must be mappings; one of them is {type(event).__name__}")
    return listed


def why_no_nodes(events: Sequence[Mapping[str, Any]]) -> str:
    """Why there are no node events among these, of an ended execution; `""` if there are."""
    if any(str(event.get("type")).startswith("node:") for event in events):
        return ""
    live = any(
        event.get("type") == "execution:started"
        or (event.get("type") == "connected" and event.get("status") in ("pending", "running"))
        for event in events
    )
    return NO_NODE_EVENTS if live else NOT_FOLLOWED

# pyright: reportUnknownVariableType=false
# This module narrows unknown types and does nothing else.
"""Typed access to decoded JSON from a server that may send anything. It never raises."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Any, Dict, Iterable, List, Mapping, Optional, cast

from flowmaestro_core.http.secrets import REDACTED, is_secret_member, showable_url, without_keys

JsonObject = Dict[str, Any]

LONGEST_NAME = 200
"""The most characters of a short text that is shown, such as a node's name in a timeline."""
MOST_LEVELS = 100
"""Levels of nested objects and arrays that are shown. They are shown by recursion, and Python
allows 1,000 frames, of which the caller may have used most."""


def object_or_empty(value: Any) -> JsonObject:
    """Return `value` if it is a JSON object, else a new empty one."""
    found: JsonObject = value if isinstance(value, dict) else {}
    return found


def list_or_empty(value: Any) -> List[Any]:
    """Return `value` if it is a JSON array, else a new empty one."""
    found: List[Any] = value if isinstance(value, list) else []
    return found


def text_or_empty(value: Any) -> str:
    """Return `value` if it is a string, else `""`."""
    return value if isinstance(value, str) else ""


def count_or_none(value: Any) -> Optional[int]:
    """Return `value` if it is an `int` of at least zero and not a `bool`, else `None`."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def hidden_member(name: str, value: Any, levels: int = MOST_LEVELS) -> Any:
    """Return `value` with credentials redacted. `name` is its name in a JSON object.

    A name such as `api_key` redacts the whole value, except `None`. `""` is for a value without a
    name. Objects and arrays nested deeper than `levels` become `...`.
    """
    if value is not None and is_secret_member(name):
        return REDACTED
    if isinstance(value, (dict, list, tuple)) and levels == 0:
        return "..."
    if isinstance(value, dict):
        return {
            str(key): hidden_member(str(key), each, levels - 1)
            for key, each in object_or_empty(value).items()
        }
    if isinstance(value, (list, tuple)):
        return [hidden_member("", each, levels - 1) for each in cast("Iterable[object]", value)]
    if isinstance(value, str):
        return without_keys(showable_url(value) if "://" in value[:16] else value)
    return value


def waits_for_person(event: Mapping[str, Any]) -> bool:
    """Return whether a `node:completed` is of a node that waits for a person, and is not done."""
    metadata = event.get("metadata")
    if event.get("type") != "node:completed" or not isinstance(metadata, AnyMapping):
        return False
    return cast("Mapping[str, Any]", metadata).get("paused") is True

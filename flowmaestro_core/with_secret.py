"""Values that must not be seen by whoever prints what they are in."""

from __future__ import annotations

from typing import Any, Dict, cast

from flowmaestro_core.http.secrets import REDACTED, showable_url, showable_value


class SecretDict(Dict[str, Any]):
    """A webhook whose repr, and so whose `str` and log lines, keeps its secrets back.

    They are the value of `secret`, those of its header fields that may be one, and what its URL
    bears besides the way. In all else it is the plain dict: equality, JSON, pickle, and
    `data["secret"]` itself.
    """

    def copy(self) -> SecretDict:
        """As `dict.copy`, and as secretive."""
        return SecretDict(self)

    def __repr__(self) -> str:
        return repr({name: _shown(name, value) for name, value in self.items()})


def _shown(name: str, value: Any) -> Any:
    if name == "url" and isinstance(value, str):
        return showable_url(value)
    if name == "headers" and isinstance(value, dict):
        fields = cast("Dict[str, Any]", value)
        return {key: showable_value(key, fields[key]) for key in fields}
    return REDACTED if name == "secret" and value is not None else value

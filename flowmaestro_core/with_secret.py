"""Values that must not be seen by whoever prints what they are in."""

from __future__ import annotations

from typing import Any, Dict

from flowmaestro_core.secrecy import REDACTED


class WithSecret(Dict[str, Any]):
    """A dict whose repr, and so whose `str` and log lines, keeps the value of `secret` back.

    In all else it is the plain dict: equality, JSON, pickle, and `data["secret"]` itself.
    """

    def __repr__(self) -> str:
        return repr({name: REDACTED if name == "secret" else self[name] for name in self})

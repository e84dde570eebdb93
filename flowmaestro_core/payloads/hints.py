"""Dicts whose errors about a missing key or attribute say what to write instead."""

from __future__ import annotations

import json
import reprlib
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Tuple

from flowmaestro_core.payloads.json_values import list_or_empty, object_or_empty

_SHOWN_KEYS = 12
"""How many keys a hint lists. Outputs may have thousands."""
_LONGEST_KEY = 60
"""How many characters of a key a hint shows. With twelve keys, a hint has at most ten lines."""
_shown = reprlib.Repr()


class MissingKeyError(KeyError):
    """Raised for a missing key. `args` is `(key,)`. The text also says what to write instead."""

    hint: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.hint}" if self.hint else super().__str__()


class HintingDict(Dict[str, Any]):
    """A dict whose errors about a missing key or attribute say what to write instead.

    In all else, it is a plain dict. Hints name keys, but never values, which may be secret.
    """

    _name: ClassVar[str] = "reply"
    """The name of such a dict in hints."""
    _inner: ClassVar[Tuple[str, ...]] = ()
    """Keys of inner objects and lists, such as `data`. If such an object has the missing key, the
    hint names the path to it."""

    def __missing__(self, key: str) -> Any:
        error = MissingKeyError(key)
        error.hint = self._hint(key)
        raise error

    if not TYPE_CHECKING:  # A type checker would accept every attribute.

        def __getattr__(self, name: str) -> Any:
            # Copying, pickling and IPython look for special methods and do not read the message.
            if name.startswith("__"):
                raise AttributeError(name)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}; {self._hint(name)}"
            )

    def _hint(self, key: object) -> str:
        """Return what to write instead of `key`: the path to its value, or the keys that exist."""
        said = _quoted(key)
        if key in self:
            return f"use {self._name}[{said}]"
        for outer in self._inner:
            value = self.get(outer)
            if key in object_or_empty(value):
                return f"use {self._name}[{_quoted(outer)}][{said}]"
            if key in object_or_empty(next(iter(list_or_empty(value)), None)):
                path = f"{self._name}[{_quoted(outer)}]"
                return f"{path} is a list; use {path}[0][{said}]"
        keys = ", ".join(map(_quoted, islice(self, _SHOWN_KEYS))) or "none"
        return f"its keys are {keys}" + (", ..." if len(self) > _SHOWN_KEYS else "")


def _quoted(key: object) -> str:
    """Return a key as text on one line, shortened. A `str` is quoted as in JSON."""
    return json.dumps(key[:_LONGEST_KEY]) if isinstance(key, str) else _shown.repr(key)

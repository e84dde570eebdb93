"""What a run or a wait returns: the ended execution, which shows itself."""

from __future__ import annotations

import reprlib
from heapq import nsmallest
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple, cast

from flowmaestro_core.http.secrets import REDACTED, is_secret_member
from flowmaestro_core.payloads.json_values import hidden_member
from flowmaestro_core.types import Execution


class EndedExecution(Dict[str, Any]):
    """An execution as a dict: JSON-serialisable, picklable, equal to the plain dict.

    At a prompt it says its status, how long it took, and its outputs in short, without what may be
    a credential; `print` shows all. A notebook shows its timeline, too.
    """

    seen_events: Optional[Tuple[Mapping[str, Any], ...]] = None
    """What its run remembers of its events; `None` where nobody followed them."""

    def __repr__(self) -> str:
        from flowmaestro_core.showing.times import duration_of

        took = duration_of(self)
        name, said = (_SHORT.repr(str(self.get(key)))[1:-1] for key in ("id", "status"))
        said += "" if took is None else f" in {took}"
        for key in ("outputs", "error"):
            if self.get(key) is not None:
                said += f", {key} {_SHORT.repr(self[key])}"
        return f"<Execution {name}: {said}>"

    def __str__(self) -> str:
        return super().__repr__()

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import execution_html

        return execution_html(self, self.seen_events)


class _Short(reprlib.Repr):
    """A short repr without what may be a credential. It visits no value that it does not show."""

    def repr_dict(self, x: Dict[Any, Any], level: int) -> str:
        first = nsmallest(self.maxdict + 1, x, key=str)
        hides = {key for key in first if x[key] is not None and is_secret_member(str(key))}
        shown = {str(key): REDACTED if key in hides else x[key] for key in first}
        return super().repr_dict(shown, level)

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(hidden_member("", x), level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def ended(
    execution: Mapping[str, Any], seen_events: Optional[Iterable[Mapping[str, Any]]] = None
) -> Execution:
    """An execution that has ended, as its caller gets it."""
    made = EndedExecution(execution)
    if seen_events is not None:
        made.seen_events = tuple(seen_events)
    return cast("Execution", made)

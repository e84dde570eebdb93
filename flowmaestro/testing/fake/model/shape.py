"""The JSON form of a resource, as a table of its members. Pure."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Callable, Dict, Optional, Union, overload

from flowmaestro.testing.fake.model.replies import JsonObject

Read = Callable[[Any], Any]


class Shape:
    """The members of the JSON object of a resource, each with the source of its value.

    A positional argument names a member whose source is the attribute of the same name. A keyword
    argument has the path of an attribute, or a function of the resource. A member whose name ends
    in `_at` is a time, which the dialect formats. A dialect is the documented or the deployed form
    of the API's JSON; as an attribute of one, a shape is a function from a resource to its JSON.
    """

    def __init__(self, *names: str, **others: Union[str, Read]) -> None:
        sources: Dict[str, Union[str, Read]] = {**dict(zip(names, names)), **others}
        self._members: Dict[str, Read] = {
            name: attrgetter(source) if isinstance(source, str) else source
            for name, source in sources.items()
        }

    def plus(self, *names: str, **others: Union[str, Read]) -> Shape:
        """Return a copy of this shape with more members, given as for the constructor.

        A member of the same name is replaced.
        """
        made = Shape(*names, **others)
        made._members = {**self._members, **made._members}
        return made

    def without(self, *names: str) -> Shape:
        """Return a shape without these members."""
        made = Shape()
        made._members = {name: it for name, it in self._members.items() if name not in names}
        return made

    @overload
    def __get__(self, dialect: None, owner: type) -> Shape: ...

    @overload
    def __get__(self, dialect: object, owner: type) -> Callable[[Any], JsonObject]: ...

    def __get__(self, dialect: Any, owner: type) -> Union[Shape, Callable[[Any], JsonObject]]:
        return self if dialect is None else lambda thing: self._show(thing, dialect.time)

    def _show(self, thing: Any, time: Callable[[Optional[float]], Optional[str]]) -> JsonObject:
        shown = {name: read(thing) for name, read in self._members.items()}
        return {name: time(it) if name.endswith("_at") else it for name, it in shown.items()}

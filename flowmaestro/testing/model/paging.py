"""Pages: which one a query asks for, and cutting it out of the rows."""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Sequence, TypeVar

T = TypeVar("T")

DEFAULT_PER_PAGE = 20
MAX_PER_PAGE = 100


class Page(NamedTuple):
    """One page of a list, counted from 1."""

    number: int
    size: int

    @classmethod
    def asked_for(cls, query: Mapping[str, str]) -> Page:
        """What `page` and `per_page` ask for: bad numbers read as the default, silently."""
        number = _whole_number(query.get("page"), 1)
        size = _whole_number(query.get("per_page"), DEFAULT_PER_PAGE)
        return cls(max(1, number), min(MAX_PER_PAGE, max(1, size)))

    def cut(self, rows: Sequence[T]) -> List[T]:
        """The rows of this page."""
        return list(rows[(self.number - 1) * self.size : self.end])

    @property
    def end(self) -> int:
        """How many rows this page and those before it hold when they are full."""
        return self.number * self.size


def _whole_number(text: object, default: int) -> int:
    try:
        return int(str(text))
    except ValueError:
        return default

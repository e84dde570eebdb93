"""How far to read the list of a workflow's executions, and in pages of which size.

The list begins with the newest execution. The *rank* of an execution is its place in the list,
from 1. Each new execution of the workflow moves all older ones down by one.
"""

from __future__ import annotations

import math
from typing import Iterable, List, Optional

from flowmaestro_core.calls.pages import MAX_PER_PAGE

FEWEST = 3
"""Waiting for fewer executions reads no list. It would save one request of two at most, and one or
two executions are often waited for by a person, who wants to know at once."""
LEAST_SIZE = 10
"""The least size of a page: other clients may start executions of the workflow, too."""
SMALLEST_SIZE = 4
"""After replies that were too large, pages are not made smaller than this: single polls cost about
as few requests then."""
GROWTH = 1.25
"""For each execution that this client has started, the list is expected to grow by so many: others
may start the workflow, too. If they start more, the execution is missed, and looked for deeper."""


class Rank:
    """Where the list shows an execution, as far as that is known.

    `starts` is always the number of executions that the machine has followed so far.
    """

    def __init__(self, rank: Optional[float], starts: int) -> None:
        """Note that the execution had this rank when `starts` were followed; `None` if unknown."""
        self._rank = rank
        self._starts = starts

    def expected(self, starts: int) -> Optional[float]:
        """Return the present rank, as it is expected; `None` if it is unknown."""
        return None if self._rank is None else self._rank + GROWTH * (starts - self._starts)

    def shown(self, rank: int, starts: int) -> None:
        """Note the rank at which the list has shown the execution."""
        self._rank, self._starts = rank, starts

    def missed(self, read: int, starts: int) -> None:
        """Note that the list does not show the execution among the first `read`.

        It is expected twice as deep from then on, or, if nothing is known of it, four times: so a
        few polls find it, or find that single polls cost less. Twice, since two readings then cost
        at most three times the one that finds it; four times, since nothing says that it is near.
        """
        expected = self.expected(starts)
        if expected is None:
            self._rank, self._starts = 4.0 * read, starts
        elif expected <= read:
            self._rank, self._starts = 2.0 * max(expected, read), starts


def reading_depth(ranks: Iterable[Optional[float]], read: int, size: int) -> float:
    """Return the rank down to which the list is worth reading; 0 if it is not.

    It is, as long as the pages are fewer than the executions that they are expected to show.
    `ranks` are those of the executions that are looked for; unknown ones (`None`) are expected on
    the next page. `read` is how many executions were read already, in pages of `size`.
    """
    known: List[float] = sorted(read + 1 if rank is None else rank for rank in ranks)
    depth = 0.0
    for found, rank in enumerate(known, 1):
        if found > max(math.ceil((rank - read) / size), 1):
            depth = rank
    return depth


def page_size(depth: float, most: int, *, all_known: bool) -> int:
    """Return the size of the pages with which to read the list down to the rank `depth`.

    It is `most`, or less if the list is read less far. If some ranks are unknown, it is `most`.
    """
    if not all_known:
        return most
    return min(max(math.ceil(depth), LEAST_SIZE), MAX_PER_PAGE, most)

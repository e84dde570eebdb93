"""A walk through all pages of a list. It ends even if the server repeats pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, ClassVar, Dict, List, Optional, Set, TypeVar, Union

from flowmaestro_core.actions import Action, Done, Emit, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.handles import AsyncItems, SyncItems
from flowmaestro_core.machine import Machine, State, Transitions
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.json_values import count_or_none, list_or_empty, object_or_empty

T = TypeVar("T")

DEFAULT_PER_PAGE = 20
"""The default of the server for `per_page`."""

MAX_PER_PAGE = 100
"""The greatest `per_page`; the server silently uses it for greater ones."""


class PageCursor:
    """Decides after each page whether there is another one.

    `has_more` and `has_next` are trusted, except that False is ignored if the other one is True, or
    if `total_pages` says that more pages follow. If neither is sent, and `total_pages` does not say
    that, a page with fewer items than `per_page` is the last one. With `until_empty`, False and
    fewer items are ignored. `GET /executions` without `workflow_id` needs this: there, the deployed
    server may send False and short pages although more pages follow. An empty page ends every walk.
    So does a page that repeats any earlier one: the cursor remembers a hash of each page.

    `page` is the number of the page to request; the walk begins with the given one. `repeated` says
    whether the last page repeated an earlier one. The items of such a page were seen before.
    """

    def __init__(
        self, per_page: Optional[int] = None, *, until_empty: bool = False, page: int = 1
    ) -> None:
        self.page: int = page
        self.repeated: bool = False
        self._per_page = min(per_page or DEFAULT_PER_PAGE, MAX_PER_PAGE)
        self._until_empty = until_empty
        self._seen: Set[int] = set()
        """Hashes of all pages so far, which show a repeated page."""

    def advance(self, body: Dict[str, Any]) -> bool:
        """Move to the page after the present one, whose reply is `body`.

        If no page follows, or if the server has sent the present page before, return False and do
        not move.
        """
        rows = list_or_empty(body.get("data"))
        page = hash(repr([object_or_empty(row).get("id") or row for row in rows]))
        self.repeated = page in self._seen
        self._seen.add(page)
        if self.repeated or not self._has_more(rows, object_or_empty(body.get("pagination"))):
            return False
        self.page += 1
        return True

    def _has_more(self, rows: List[Any], info: Dict[str, Any]) -> bool:
        if not rows:
            return False
        said = (info.get("has_next"), info.get("has_more"))
        pages = count_or_none(info.get("total_pages")) or 0
        if self._until_empty or True in said or pages > self.page:
            return True
        per_page = count_or_none(info.get("per_page")) or self._per_page
        return False not in said and len(rows) >= per_page


@dataclass(frozen=True)
class Pages(Operation[SyncItems[T], AsyncItems[T]]):
    """All items of a list, page after page.

    `page` builds the call for one page number; `cursor` makes a fresh `PageCursor`.
    """

    page: Callable[[int], Call[Any]]
    cursor: Callable[[], PageCursor]


class PagesState(State):
    """The states of `PagesMachine`."""

    READY = "ready"
    ASKING = "asking"
    """A page is requested."""
    EMITTING = "emitting"
    """The caller has the items of a page."""
    DONE = "done"
    FAILED = "failed"


_S = PagesState  # Short, for the table.


class PagesMachine(Machine[None]):
    """Requests a page, emits its items at once, requests the next.

    State that `TRANSITIONS` does not show: the items to emit, whether another page follows, and
    which items of the present page the caller wants. The cursor, which finds the next page, gets
    all items of the page.
    """

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.ASKING,)},
        _S.ASKING: {
            "response_received": (_S.ASKING, _S.EMITTING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.ASKING, _S.FAILED),
            "waited": (_S.ASKING,),
        },
        _S.EMITTING: {"emitted": (_S.ASKING, _S.DONE)},
    }

    def __init__(self, pages: Pages[Any], context: Context, token: str) -> None:
        super().__init__(context, token)
        self._page = pages.page
        self._cursor = pages.cursor()
        self._items: List[Any] = []
        """The items of the present page that are not emitted yet."""
        self._more = True
        """Whether there is another page."""
        self._keep: Optional[Callable[[Any], bool]] = None
        """Returns whether the caller wants an item; `None` if all items are wanted."""

    def _next(self, now: float, jitter: float) -> Action:
        if self._items:
            self.state = PagesState.EMITTING
            items, self._items = self._items, []
            return Emit(items)
        if not self._more:
            return self._done(None)
        self.state = PagesState.ASKING
        call = self._page(self._cursor.page)
        self._keep = call.keep
        unfiltered = CallMachine(replace(call, keep=None), self._context, self._token)
        return self._delegate(unfiltered, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        self._more = self._cursor.advance(outcome.value)
        if not self._cursor.repeated:
            rows: List[Any] = outcome.value["data"]
            self._items.extend(rows if self._keep is None else filter(self._keep, rows))
        return self._next(now, jitter)

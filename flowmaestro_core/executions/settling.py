"""Settling rows in doubt: one walk through the list of executions, and what it tells.

Rows are in doubt that were `starting` when the process died, and those whose start lost its
reply. The server may have started them, and lists every execution of the workflow.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Callable, DefaultDict, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from flowmaestro_core.actions import Action, Done, Fail, Record
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.errors import StartUnknownError
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.http.dates import parse_http_date, parse_timestamp
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.records import Recalled, digest_of

FIRST_PAGE_SIZE = 20
FRESH = 1.0
MOST_SETTLINGS = 3
"""How often one row is started again after a look-up that did not find it."""

PageOf = Callable[[int, int], Call[Any]]
"""The call for one page of the workflow's executions: its number, and how many are on one."""


def fresh_for(settle_after: float) -> float:
    """Seconds within which a request goes out after it was recorded; else it is recorded again."""
    return min(FRESH, settle_after)


class LookUp(NamedTuple):
    """What a walk through the list found.

    Attributes:
        evident: whether what it did not find was not started: it met an execution that the
            journal knows, or came to one that is older than the batch.
        unclaimed: the executions that the journal does not know, by the digest of their inputs,
            the newest first.

    """

    evident: bool
    unclaimed: Dict[bytes, List[Any]]


class Verdict(NamedTuple):
    """The decision about a row in doubt: follow it, start it again, or leave it unknown."""

    row: Row
    execution_id: Optional[str] = None
    unknown: Optional[StartUnknownError] = None


class LookUpMachine(Machine[LookUp]):
    """Walks through a workflow's executions, the newest first, down to one that is old enough.

    That is one that the journal knows to have been started before `since`, or its anchor.
    """

    TRANSITIONS = {
        "ready": {"start": ("reading",)},
        "reading": {
            "response_received": ("reading", "recalling", "failed"),
            "transport_failed": ("reading", "failed"),
            "waited": ("reading",),
        },
        "recalling": {"recorded": ("reading", "done")},
    }

    def __init__(self, page_of: PageOf, since: int, context: Context, token: str) -> None:
        super().__init__(context, token)
        self._page_of = page_of
        self._since = since
        self._size = FIRST_PAGE_SIZE
        self._cursor = PageCursor(self._size)
        self._page: Reply[Any] = Reply()
        self._seen: Set[str] = set()
        self._floor: Optional[str] = None
        """When the first one was created that is old enough; others of that time may follow."""
        self._evident = False
        self._unclaimed: DefaultDict[bytes, List[Any]] = defaultdict(list)

    def _next(self, now: float, jitter: float) -> Action:
        self.state = "reading"
        call = self._page_of(self._cursor.page, self._size)
        return self._delegate(call.machine(self._context, self._token), now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Done):
            self._page = outcome.value
            ids = (text_or_empty(object_or_empty(row).get("id")) for row in self._page["data"])
            self.state = "recalling"
            return Record(execution_ids=tuple(filter(None, ids)))
        if outcome.error.code != "reply_too_large" or self._size == 1:
            return self._fail(outcome.error)
        first, self._size = (self._cursor.page - 1) * self._size, self._size // 2
        self._cursor = PageCursor(self._size)
        self._cursor.page = first // self._size + 1
        return self._next(now, jitter)

    @event
    def recorded(self, recalled: Recalled, now: float, jitter: float) -> Action:
        known = {row.execution_id: row.order for row in recalled.rows}
        more = self._cursor.advance(self._page)
        for execution in map(object_or_empty, self._page["data"]):
            created_at = execution.get("created_at")
            if self._floor is not None and created_at != self._floor:
                more = False
            elif self._take_in(execution, known, recalled):
                self._floor = created_at or ""
        return (
            self._next(now, jitter) if more else self._done(LookUp(self._evident, self._unclaimed))
        )

    def _take_in(
        self, execution: Dict[str, Any], known: Dict[Optional[str], int], recalled: Recalled
    ) -> bool:
        """Note one execution; whether the journal knows it to be older than any row in doubt."""
        found = text_or_empty(execution.get("id"))
        if found in known or found == recalled.anchor:
            self._evident = True
            return known.get(found, 0) < self._since
        if found and found not in self._seen:
            self._seen.add(found)
            self._evident = self._evident or self._is_older(execution, recalled.age)
            digest = digest_of(json.dumps({"inputs": execution.get("inputs")}))
            self._unclaimed[digest].append(execution)
        return False

    def _is_older(self, execution: Dict[str, Any], age: float) -> bool:
        """Whether an execution is older than a batch of this age, by the server's own clock."""
        sent_at = parse_http_date(self._page.headers.get("date", ""))
        try:
            created_at = parse_timestamp(text_or_empty(execution.get("created_at")))
        except ValueError:
            return False
        return sent_at is not None and created_at < sent_at - age


def settle(rows: List[Row], found: Optional[LookUp], *, start_unknown: bool) -> List[Verdict]:
    """Decide about the rows in doubt, given what was found; `None`: the look-up failed.

    Of rows with equal inputs as many are taken as there are executions that nobody claims, and
    the others are started. Where there are more executions than rows, some are not ours, and
    nobody can tell which: the rows stay unknown, and are started only with `start_unknown`.
    """
    alike: DefaultDict[bytes, List[Row]] = defaultdict(list)
    for row in rows:
        alike[row.digest].append(row)
    verdicts: List[Verdict] = []
    for digest, group in alike.items():
        matches = [] if found is None else found.unclaimed.get(digest, [])
        if found is not None and found.evident and len(matches) <= len(group):
            oldest_first = [match["id"] for match in reversed(matches)]
            verdicts += map(Verdict, group, oldest_first)
            verdicts += [_again(row, tuple(matches)) for row in group[len(matches) :]]
        elif start_unknown:
            verdicts += [_again(row, tuple(matches)) for row in group]
        else:
            verdicts += [Verdict(row, unknown=_unknown(row, tuple(matches))) for row in group]
    return verdicts


def _again(row: Row, matches: Tuple[Any, ...]) -> Verdict:
    row.settled += 1
    return Verdict(row, unknown=_unknown(row, matches) if row.settled > MOST_SETTLINGS else None)


def _unknown(row: Row, candidates: Tuple[Any, ...]) -> StartUnknownError:
    error = StartUnknownError(
        f"It is not known whether inputs[{row.index}] was started: "
        f"{len(candidates)} executions could be it"
    )
    error.candidates = candidates
    return error


class Doubts:
    """Rows of which it is not known whether they were started.

    Attributes:
        rows: all of them.
        since: the order of the first of their starts; `None` while the journal has not told it.
        due: when all of them can be relied on to be listed.

    """

    def __init__(self, settle_after: float) -> None:
        self._settle_after = settle_after
        self.rows: List[Row] = []
        self.since: Optional[int] = None
        self.due = 0.0

    def add(self, row: Row) -> None:
        """One more; its start was recorded."""
        self.rows.append(row)
        self.since = None

    def dated(self, recalled: Recalled, now: float) -> None:
        """The journal tells when they were recorded as starting.

        The requests went out within `fresh_for(settle_after)` seconds from then.
        """
        order = {row.key: row.order for row in recalled.rows}
        self.rows.sort(key=lambda row: order[row.key])
        self.since = min(order.values())
        listed_after = self._settle_after + fresh_for(self._settle_after)
        self.due = now + max(listed_after - row.age for row in recalled.rows)

    def take(self) -> List[Row]:
        """All of them; none is left."""
        rows, self.rows, self.since = self.rows, [], None
        return rows

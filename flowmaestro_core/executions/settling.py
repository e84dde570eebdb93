"""Settling rows in doubt: one walk through the executions of the workflow, and its conclusions.

A row is in doubt if it was `starting` when the process died, or if its start may have been
processed (`maybe_processed`), for example after a lost response, a 5xx, or a reply without a
usable id. The server lists every execution of the workflow, so the list shows which rows were
started.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import (
    Any,
    Callable,
    ClassVar,
    DefaultDict,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from flowmaestro_core.actions import Action, Done, Emit, Fail, Load
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.calls.pages import MAX_PER_PAGE, PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, JournalError, ServerError
from flowmaestro_core.executions.operation import PageOf
from flowmaestro_core.executions.saved_states import read_known
from flowmaestro_core.executions.start import Start
from flowmaestro_core.http.dates import parse_http_date, parse_timestamp
from flowmaestro_core.http.urls import is_id
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.records import digest_of
from flowmaestro_core.store import Loaded

CLOCK_MARGIN = 60.0
"""An execution that is older than the journal (or than the announcement of a start) by more than
these seconds belongs to none of its starts. The margin exists because the clocks of the server and
of the process may differ. A clock that nothing corrects is a minute off after a month or two."""
MAX_SURPLUS = 10
"""How many more executions than rows in doubt are kept for equal inputs, as candidates.
`StartUnknownError` has them: a person looks through ten, not through thousands."""
MAX_REPEATED_PAGES = 3
"""After so many pages that repeat an earlier one, a walk ends without a result. While it reads, new
executions may move those of one page to the next. For a whole page, that takes a hundred starts
between two requests. But the server may also send the same page without end."""
TOLD_EVERY = 1.0
"""Seconds between two calls of `progress` while rows in doubt are settled, so that a user sees that
the batch has not stopped."""


class LookupResult(NamedTuple):
    """The result of a walk through the server's list of executions.

    Attributes:
        is_conclusive: True if a row that was not found was certainly not started. That is so once
            the walk has met an execution that the journal knows or that is older than the batch. If
            the journal holds the baseline, the walk must have met the baseline, or an execution
            that the journal knows and that is older than the rows in doubt.
        unclaimed: the executions that the journal does not know and that have the inputs of a row
            in doubt: a mapping from id to execution, the newest first. Those that are known to be
            older than the batch by `CLOCK_MARGIN` are left out. If more executions than rows have
            the same inputs, some of these executions may be left out, too.
        failure: why the walk cannot be conclusive: an error, or what the list lacks; else `None`.
        dated: False if the walk has met an execution that the journal does not know, and whose age
            is not known either.
        is_empty: whether the walk has met no execution.
        has_nameless: whether the walk has met an execution that may be that of a row in doubt, but
            has no usable id.

    """

    is_conclusive: bool = False
    unclaimed: Mapping[str, Dict[str, Any]] = {}
    failure: Optional[FlowMaestroError] = None
    dated: bool = True
    is_empty: bool = False
    has_nameless: bool = False


class WalkEnd(NamedTuple):
    """The end of a walk through the list: an execution that is older than every start in doubt.

    Attributes:
        baseline: the id of an execution older than all starts of the store; `None` if it is not
            known. `""`, if there was none, matches no execution.
        oldest: no start in doubt was made before this time, on the clock of `now`. It counts only
            if the baseline is not known. Minus infinity if it is not known either.
        since: the number of the first start in doubt. An execution whose start has a lower number
            is older.

    """

    baseline: Optional[str]
    oldest: float
    since: int = 1


class LookupState(State):
    """The states of `LookupMachine`."""

    READY = "ready"
    READING = "reading"
    """A page of the list."""
    LOADING = "loading"
    """The numbers of the executions that the store knows."""
    TELLING = "telling"
    DONE = "done"
    FAILED = "failed"


_S = LookupState  # Short, for the table.


class LookupMachine(Machine[LookupResult]):
    """Walks through the executions of a workflow, from the newest to one that is old enough.

    The error of a request is the `failure` of the result. The machine fails only if the store does.

    The store numbers the starts. `end` says which execution is old enough: the baseline, one whose
    start has a lower number than the first start in doubt, or one that is older than `oldest` by
    `CLOCK_MARGIN`. With `has_known`, a `Load` after each page asks the store which executions of
    the page it knows. The store of a checkpoint knows none while its start is in doubt. After a
    reply that is too large, the walk continues with pages of half the size. A page may
    repeat an earlier one, because the list grows at its beginning. Only `MAX_REPEATED_PAGES` such
    pages end the walk.

    A workflow may have any number of executions. Only those are kept whose inputs are those of a
    row in doubt, at most `MAX_SURPLUS` more than there are such rows. Once there are more of them
    than rows for each of the `digests`, no row can be settled for certain, so the walk ends.
    `digests` has the number of rows in doubt for each digest of inputs.

    From `tell_at` on, the walk emits `news()` before a page, every `TOLD_EVERY` seconds.
    """

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.READING, _S.TELLING)},
        _S.READING: {
            "response_received": (_S.READING, _S.LOADING, _S.DONE),
            "transport_failed": (_S.READING, _S.DONE),
            "waited": (_S.READING,),
        },
        _S.LOADING: {
            "loaded": (_S.READING, _S.TELLING, _S.DONE, _S.FAILED),
            "store_failed": (_S.FAILED,),
        },
        _S.TELLING: {"emitted": (_S.READING,)},
    }

    def __init__(
        self,
        page_of: PageOf,
        end: WalkEnd,
        digests: Mapping[str, int],
        context: Context,
        token: str,
        *,
        has_known: bool,
        tell_at: float = math.inf,
        news: Callable[[], Any] = tuple,
    ) -> None:
        super().__init__(context, token)
        self._tell_at = tell_at
        """When the next `news` are due."""
        self._news = news
        self._page_of = page_of
        self._end = end
        self._has_known = has_known
        self._missing = dict(digests)
        """For each digest, the number of rows minus that of the executions found so far."""
        self._size = MAX_PER_PAGE
        self._cursor = PageCursor(self._size)
        self._repeated_pages = 0
        """How many pages repeated an earlier one."""
        self._page: Reply[Any] = Reply()
        """The page that was read last."""
        self._oldest_needed: Optional[str] = None
        """The `created_at` of the first execution that is old enough; `None` before.

        The server lists executions of the same moment in no particular order. So the walk goes on
        through the executions with the same `created_at`.
        """
        # The parts of the result so far.
        self._is_conclusive = False
        self._failure: Optional[FlowMaestroError] = None
        self._dated = True
        self._is_empty = True
        self._has_nameless = False
        self._unclaimed: Dict[str, Dict[str, Any]] = {}

    def _next(self, now: float, jitter: float) -> Action:
        if now >= self._tell_at:
            self.state = LookupState.TELLING
            return Emit([self._news()])
        return self._request(now, jitter)

    def _request(self, now: float, jitter: float) -> Action:
        self.state = LookupState.READING
        call = self._page_of(self._cursor.page, self._size)
        return self._delegate(CallMachine(call, self._context, self._token), now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Done):
            self._page = outcome.value
            if not self._has_known:
                return self._read_page({}, now, jitter)
            self.state = LookupState.LOADING
            return Load(execution_ids=self._ids)
        if outcome.error.code != "reply_too_large" or self._size == 1:
            return self._done(LookupResult(failure=outcome.error))
        # Continue at the same row, with pages of half the size.
        first, self._size = (self._cursor.page - 1) * self._size, self._size // 2
        self._cursor = PageCursor(self._size, page=first // self._size + 1)
        return self._request(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        # Counted from here: a slow `progress` must not keep the walk from its next page.
        self._tell_at = now + TOLD_EVERY
        return self._next(now, jitter)

    @property
    def _ids(self) -> Tuple[str, ...]:
        """The usable ids of the executions of the page."""
        ids = (text_or_empty(object_or_empty(row).get("id")) for row in self._page["data"])
        return tuple(filter(is_id, ids))

    @event
    def loaded(self, loaded: Loaded, now: float, jitter: float) -> Action:
        try:
            known = read_known(loaded, self._ids)
        except JournalError as error:
            return self._fail(error)
        return self._read_page(known, now, jitter)

    @event
    def store_failed(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        return self._fail(error)

    def _read_page(self, numbers: Dict[str, int], now: float, jitter: float) -> Action:
        """Add the executions of the page that was read last to the result. Return the next action.

        `numbers` are those of the starts that the store knows, by execution id. The walk ends with
        the last page, or after the first execution that is old enough (see the class) and those
        that were created at the same time. It ends earlier if no row can be settled for certain, or
        if too many pages were repeated.
        """
        baseline, oldest, _ = self._end
        age = math.inf
        if baseline is None:
            age = now - oldest
        else:
            numbers[baseline] = 0
        more = self._cursor.advance(self._page)
        if self._cursor.repeated:
            more = self._advance_behind_repeated_page()
        for execution in map(object_or_empty, self._page["data"]):
            created_at = execution.get("created_at")
            if self._oldest_needed is not None and created_at != self._oldest_needed:
                more = False
            elif self._add(execution, numbers, age):
                self._oldest_needed = created_at or ""
        if more and max(self._missing.values()) >= 0:
            return self._next(now, jitter)
        is_conclusive = self._is_conclusive and self._failure is None
        return self._done(
            LookupResult(
                is_conclusive,
                self._unclaimed,
                self._failure,
                self._dated,
                self._is_empty,
                self._has_nameless,
            )
        )

    def _advance_behind_repeated_page(self) -> bool:
        """Move to the next page, as if the server had not sent the present one before.

        Return False if no page follows, or if too many were repeated.
        """
        self._repeated_pages += 1
        if self._repeated_pages == MAX_REPEATED_PAGES:
            self._failure = _unusable("The server sent the same page of the list again")
            return False
        # A new cursor remembers no earlier page, so it does not take this one for a repeated one.
        self._cursor = PageCursor(self._size, page=self._cursor.page)
        return self._cursor.advance(self._page)

    def _add(self, execution: Dict[str, Any], numbers: Dict[str, int], age: float) -> bool:
        """Update the result by one execution.

        Return True if the execution is certainly older than every row in doubt.

        `numbers` are those of the starts that the store knows, by execution id. No start in doubt
        is older than `age` seconds; infinity if that does not matter or is not known.
        """
        self._is_empty = False
        found = text_or_empty(execution.get("id"))
        has_id = is_id(found)  # Without one, it is not the baseline `""` either.
        # The store knows this execution. The list shows it, so it shows the later ones as well.
        # If ages do not end the walk, one that is old enough must do so: behind the rows in doubt,
        # the list may have executions from before the batch with the same inputs.
        if has_id and found in numbers:
            is_old = numbers[found] < self._end.since
            self._is_conclusive = self._is_conclusive or is_old or age < math.inf
            return is_old
        seconds = self._age_of(execution)
        self._dated = self._dated and seconds is not None
        if seconds is not None and seconds > age:
            self._is_conclusive = True
            if seconds > age + CLOCK_MARGIN:
                return True
        digest = _digest_of_inputs(execution)
        has_inputs = isinstance(execution.get("inputs"), dict)
        if not has_id:
            may_be_ours = digest in self._missing or not has_inputs
            self._has_nameless = self._has_nameless or may_be_ours
        elif not has_inputs:
            self._failure = _unusable(f"The list does not show the inputs of {found!r}")
        elif (
            found not in self._unclaimed and self._missing.get(digest, -MAX_SURPLUS) > -MAX_SURPLUS
        ):
            self._missing[digest] -= 1
            self._unclaimed[found] = execution
        return False

    def _age_of(self, execution: Dict[str, Any]) -> Optional[float]:
        """Return the seconds since an execution was created; `None` if they are unknown.

        They are the difference of two times of the server: `created_at` of the execution, and the
        `Date` of the response.
        """
        sent_at = parse_http_date(self._page.headers.get("date", ""))
        try:
            created_at = parse_timestamp(text_or_empty(execution.get("created_at")))
        except ValueError:
            return None
        return None if sent_at is None else sent_at - created_at


def shows_all(found: LookupResult, baseline: Optional[str]) -> bool:
    """Return whether a walk without an execution as its `baseline` has read the whole list.

    If no execution is older than the starts, the list is read to its end, and shows every one of
    theirs. If the baseline is not known, it may show older ones as well: their ages must be known.
    """
    return found.failure is None and (baseline == "" or (baseline is None and found.dated))


def settle(
    starts: Sequence[Start],
    found: LookupResult,
    *,
    is_whole: bool = False,
    starts_unknown: bool = False,
) -> None:
    """Tell each start in doubt what the lookup has shown: started, new, refused or unknown.

    After a conclusive lookup, starts and unclaimed executions with equal inputs form a group. In a
    group, they are paired, the earliest start with the earliest execution, and starts that are left
    over are made again. A group with more executions than starts is not paired: some of these
    executions belong to another client. Nor is one with fewer executions, if the list has one
    without a usable id: that may be of any of its starts. A lookup of the whole list (`is_whole`)
    is conclusive. A start that the server has accepted, without a usable id, is not made again.

    But an empty list may be that of another workspace, to which the API key of this call belongs.
    So it is conclusive only of a start that this call alone has sent, with the same key.

    All other starts are unknown. If the scheduler `starts_unknown` ones anyway, they are new.
    """
    is_conclusive = found.is_conclusive or (is_whole and not found.is_empty)
    alike: DefaultDict[str, Tuple[List[Start], List[Any]]] = defaultdict(lambda: ([], []))
    for start in sorted(starts, key=lambda start: start.number):
        alike[start.digest][0].append(start)
    for execution in found.unclaimed.values():
        alike[_digest_of_inputs(execution)][1].append(execution)
    for group, matches in alike.values():
        surplus = len(matches) - len(group)
        is_certain = is_conclusive and (surplus == 0 or (surplus < 0 and not found.has_nameless))
        ids = [match["id"] for match in reversed(matches)] if is_certain else []
        for start, execution_id in zip(group, ids):
            start.find(execution_id)
        for start in group[len(ids) :]:
            is_ours = start.sent_here and not start.may_run
            is_missed = is_certain or (is_whole and found.is_empty and is_ours)
            if is_missed and not start.was_processed:
                start.miss()
            else:
                start.give_up(tuple(matches), found.failure)
                if starts_unknown:
                    start.start_anyway()


def baseline_of(page: Reply[Any]) -> Optional[str]:
    """Return the id of the first execution of a page: of the newest one, if it is the first page.

    Return `""` if there is none. Return `None` if it has no usable id: no listed execution can
    match another one, so no lookup would be conclusive.
    """
    for newest in page["data"][:1]:
        found = text_or_empty(object_or_empty(newest).get("id"))
        return found if is_id(found) else None
    return ""


def _unusable(said: str) -> ServerError:
    return ServerError(said, "invalid_response", 200)


def _digest_of_inputs(execution: Dict[str, Any]) -> str:
    return digest_of(json.dumps({"inputs": execution.get("inputs")}))

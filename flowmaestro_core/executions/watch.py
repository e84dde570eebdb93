"""Waiting for many executions: which request comes next, and what its reply says of each.

A machine owns a `Watch`. It asks `due` when the next request is due, takes it from `next`, and
reports its outcome to `answered`, which returns the executions that have ended.

Two or fewer executions are polled singly, each at its `poll_at`, as `wait_for_completion` does.
Three or more share one clock. At its time a *round* begins, which looks at all of them once. These
are its rules, in this order:

1. An execution whose deadline has passed is looked at once more, at once, whatever else is planned:
   by a page, if a page can show it, else singly. If the server answers none of
   `LOST_BEFORE_GIVING_UP` such requests, the others end without one. After the first of these, a
   new round begins, so that the list is one of the others. The request is this one:

   | present round        | `look` of the execution | request                                     |
   |----------------------|-------------------------|---------------------------------------------|
   | any                  | `NEXT_ROUND`            | a new round begins: its first page, or, if  |
   |                      |                         | no list is worth it, the poll               |
   | lists are left       | any other               | the next page of the first list             |
   | no list is left      | any other               | its poll                                    |
   | none                 | any, of three or more   | a new round begins, as above                |
   | none                 | any, of one or two      | its poll                                    |

2. While the key must wait (a 429, or little is left of the window), nothing else is sent.
3. *Pages*: the executions of one workflow are read from its list, as long as a page costs fewer
   requests than single polls of those that it is expected to show (`list_plan.py`). An execution
   that a page shows as ended is ended. Executions whose workflow is unknown are looked for on the
   first list that is read, on each next page while pages show two or more.
4. *Singly*: all others, one after another. These are those that no page has shown, and those whose
   entry in the list is incomplete. If the reply shows a workflow that was unknown, and others of
   an unknown workflow are left, its list is read first (3).
5. The round ends. The next one begins `_interval` after its beginning.

A list that failed, or that showed fewer than two, is not read again before `SINGLES_AFTER_FAILURE`
single polls: one bad input that the server has stored can break it for good (500). But a 429
says nothing of the list, nor does a lost connection or a 503, unless the next page fails, too. It
ends the round, unless a deadline has passed. A page that is too large is requested again with half
the size, down to `SMALLEST_SIZE`.

While other executions run or a start waits, a request that hangs times out soon, and is repeated
later with a longer timeout. So the others have their turns meanwhile.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict, deque
from dataclasses import replace
from enum import Enum
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Union, cast

from flowmaestro_core.actions import Done, Fail, Wait
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.calls.pages import MAX_PER_PAGE, PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, TimeoutError
from flowmaestro_core.executions.list_plan import (
    FEWEST,
    SMALLEST_SIZE,
    Rank,
    page_size,
    reading_depth,
)
from flowmaestro_core.executions.operation import Batch, Poll
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT, PollState
from flowmaestro_core.http.dates import parse_timestamp
from flowmaestro_core.http.urls import is_id
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply, is_daily_quota_error
from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.policy.polling import FIRST_POLL, RAMP, AdaptiveTimeout
from flowmaestro_core.policy.retry import is_transient, retry_after_of
from flowmaestro_core.types import Execution

LOST_BEFORE_GIVING_UP = 3
"""So many requests in a row must time out before executions are given up without a request of their
own. Each begins after the deadline and takes at most `LAST_POLL_TIMEOUT` seconds, so a server that
answers nothing delays the end of an execution by 3 s, after the request that is in flight at the
deadline. One lost request may say nothing of the others: a proxy may have dropped it. If two are
lost, the list and an execution may each have a fault of their own."""
LONGEST_INTERVAL = 5.0
"""Seconds between two rounds: an end is noticed 2.5 s late on average. A poll a second would cost
five times the requests, and 8 rows of a minute each need no quicker news."""
SHORTEST_INTERVAL = 1.0
"""Seconds between two rounds at least: a single execution is polled as often, too."""
SPREAD = 0.25
"""The interval is drawn from a range of so much of it. Else executions of equal length that were
started by the news of a round would all end just after another round, and be noticed latest."""
SINGLES_AFTER_FAILURE = 10
"""So many single polls come before a list is read again that failed, or that showed too few. A list
that is broken for good then costs a tenth of the requests."""
PAGES_BEFORE_GROWTH = 20
"""After a page that was too large, so many smaller ones come before `MAX_PER_PAGE` is tried again:
the large outputs may be gone from the first page then."""
PAGE_LIMIT = 1 << 20
"""The most bytes of a page. A larger page would hold the starts and the other requests up: at
10 Mbit/s, this one takes a second."""
REMEMBERED = 99
"""How many ended executions the median of the durations is taken from: the last ones, since
durations may change. An odd number, so that the median is one of them."""


class Ended(NamedTuple):
    """A row whose wait is over: the value of a `Done` is the ended execution."""

    row: Row
    verdict: Union[Done, Fail]


class Look(Enum):
    """How the present round looks at an execution.

    A round begins with `ON_PAGE` or `SINGLY`. It ends when none is left of either, except those
    whose last poll has failed too short a time ago.
    """

    ON_PAGE = "on page"
    """A page may show it. If one does, `NEXT_ROUND` follows. If its entry is incomplete, or if the
    list is read no further, `SINGLY` follows."""
    SINGLY = "singly"
    """It is polled singly, because no page shows it. `POLLED` follows."""
    POLLED = "polled"
    """It was polled singly. Unless its list is read after all, this stays until the next round."""
    NEXT_ROUND = "next round"
    """A page has shown it, or it was added during the round, or it has ended."""


class Watched:
    """One running execution, with its row and the state of its wait."""

    def __init__(
        self, row: Row, state: PollState, rank: Rank, workflow_id: Optional[str], poll_at: float
    ) -> None:
        self.row = row
        self.state = state
        self.rank = rank
        self.workflow_id = workflow_id
        """The workflow; `None` as long as it is unknown."""
        self.poll_at = poll_at
        """When it is polled, if two or fewer are left. If its last poll has failed, no round polls
        it singly before this time."""
        self.has_failed = False
        """Whether its last poll has failed."""
        self.look: Look = Look.NEXT_ROUND


class Listing:
    """The reading of one workflow's list, in one round."""

    def __init__(self, workflow_id: str, wanted: List[Watched], size: int) -> None:
        self.workflow_id = workflow_id
        self.wanted = wanted
        """The executions that are looked for. Those that a page has shown stay in it."""
        self.size: int = size
        self.cursor: PageCursor = PageCursor(size)
        self.read = 0
        """How many executions the pages so far have shown, foreign ones included."""
        self.found = 0
        """How many of the executions that the machine waits for were among them."""

    @property
    def missing(self) -> List[Watched]:
        """The executions that no page has shown yet."""
        return [execution for execution in self.wanted if execution.look is Look.ON_PAGE]

    def halve(self) -> None:
        """Continue at the same place, with pages of half the size."""
        self.size //= 2
        self.cursor = PageCursor(self.size, page=self.read // self.size + 1)


class Round:
    """What is left of one look at all executions.

    Attributes:
        began_at: when it began.
        turn_at: when the pace allows its next request.
        listings: the lists that are read next.
        singles: the executions that are polled singly afterwards. Only those that are `SINGLY` are:
            a page may have shown others meanwhile.

    """

    def __init__(self, now: float) -> None:
        self.began_at: float = now
        self.turn_at: float = now
        self.listings: Deque[Listing] = deque()
        self.singles: Deque[Watched] = deque()


class Watch:
    """The executions that one machine waits for, and the next request about them.

    `by_row` has each of them, by the index of its row, in the order in which they were added. All
    have the same timeout, which counts from then, so the first one reaches its deadline first.

    `_sent` is the request in flight: an execution, a listing, or `None`.
    """

    def __init__(self, batch: Batch, pace: Pace) -> None:
        self.by_row: OrderedDict[int, Watched] = OrderedDict()
        self.not_before: float = -math.inf
        """Nothing is sent before this time, except last polls."""
        self._by_id: Dict[str, List[Watched]] = {}
        """The same executions by their ids. The server may give two rows the same one."""
        self._batch = batch
        self._pace = pace
        self._starts = 0
        """How many executions were added so far."""
        self._round: Optional[Round] = None
        """The present round; `None` between two rounds."""
        self._round_at = -math.inf
        """When the next round begins. Fewer than `FEWEST` executions need none."""
        self._sent: Union[Watched, Listing, None] = None
        self._sent_at = 0.0
        self._singles_before_list = 0
        """How many single polls must come before a list is read again."""
        self._page_context: Optional[Context] = None
        """The context of the requests for pages, which limits their size."""
        self._most = MAX_PER_PAGE
        """The greatest size of a page: less after a page that was too large."""
        self._has_failed = False
        """Whether the last page has failed, for another reason than a 429."""
        self._pages_before_growth = 0
        """How many pages must come before larger ones are tried again; 0 if none are smaller."""
        self._took: Deque[float] = deque(maxlen=REMEMBERED)
        """How many seconds the last executions took that have ended."""
        self._ended_at = -math.inf
        """When the last one was seen to have ended."""
        self._patience = AdaptiveTimeout()
        self._patience_for_pages = AdaptiveTimeout()
        self._page_sent_at = -math.inf
        """When the last request for a page was sent."""
        self._lost: Optional[FlowMaestroError] = None
        """The error of the latest request that timed out."""
        self._lost_sent_at: Deque[float] = deque(maxlen=LOST_BEFORE_GIVING_UP)
        """When the requests were sent that have timed out since the last successful one."""

    def __len__(self) -> int:
        return len(self.by_row)

    # What the machine calls

    def follow(self, row: Row, waiting: Poll, now: float, *, started_now: bool) -> None:
        """Add the running execution of `row`. Its timeout counts from `now`.

        `waiting` is the operation that waits for it. `started_now` says that this call has started
        it. Any other execution may have ended long ago, so it is polled at once.
        """
        delay = min(FIRST_POLL, waiting.poll_interval) if started_now else 0.0
        rank = Rank(1.0 if started_now else None, self._starts + 1)
        execution = Watched(
            row, PollState(waiting, now), rank, self._batch.workflow_id, now + delay
        )
        self._starts += 1
        self.by_row[row.index] = execution
        self._by_id.setdefault(execution.state.execution_id, []).append(execution)
        if not started_now:
            self._round_at = min(self._round_at, now)
        elif len(self.by_row) == FEWEST and self._round_at <= now:  # It was not needed till now.
            self._round_at = now + min(self._interval(now), SHORTEST_INTERVAL)

    def hold(self, seconds: float, now: float) -> None:
        """Send nothing until `seconds` after `now`, except last polls, which come at deadlines."""
        self.not_before = max(self.not_before, now + seconds)

    def due(self) -> float:
        """Return when the next request is due; infinity if no execution is followed."""
        if not self.by_row:
            return math.inf
        if self._round is not None:
            due_at = self._round.turn_at
        elif len(self.by_row) < FEWEST:
            due_at = self._next_single.poll_at
        else:
            due_at = self._round_at
        return min(max(due_at, self.not_before), self._first_by_deadline.state.deadline)

    def next(
        self, context: Context, token: str, now: float, jitter: float, *, alone: bool
    ) -> Union[CallMachine, List[Ended]]:
        """Return the machine of the request that is due, or the rows that end without one.

        There may be none of these, too: then nothing is due any more. `alone` says that no start
        waits for its turn. If no other execution runs either, the poll gets no short timeout,
        because no other request waits for it.

        An execution ends without a request if `LOST_BEFORE_GIVING_UP` requests that were sent after
        its deadline have timed out since the last successful one: another one would only delay the
        executions after it. One of them is for its list, if that is worth reading. A request that
        was sent before the deadline says nothing: the process may have been held up meanwhile.
        """
        first = self._first_by_deadline
        deadline = first.state.deadline
        is_last = deadline <= now
        lost = sum(sent_at >= deadline for sent_at in self._lost_sent_at)
        if lost == LOST_BEFORE_GIVING_UP:
            self._remove(first)
            return [Ended(first.row, first.state.time_out(copy.copy(self._lost)))]
        if lost and self._page_sent_at < deadline and len(self.by_row) >= FEWEST:
            # One page may tell what so many polls would, even if the list has failed before.
            self._singles_before_list = 0
            self._begin_round(now)
        present = self._round
        if present is None and len(self.by_row) < FEWEST:
            return self._poll(first if is_last else self._next_single, context, token, now, alone)
        if present is None or (is_last and first.look is Look.NEXT_ROUND):
            present = self._begin_round(now)
        if present.listings:
            return self._read_page(present.listings[0], context, token, now)
        if is_last:
            return self._poll(first, context, token, now, alone)
        while present.singles:
            execution = present.singles.popleft()
            waits = execution.has_failed and execution.poll_at > now
            if execution.look is Look.SINGLY and not waits:
                return self._poll(execution, context, token, now, alone)
        self._end_round(present, now, jitter)
        return []

    def answered(self, answer: Union[Done, Fail], now: float, jitter: float) -> List[Ended]:
        """Return the rows that end with the outcome of the request in flight."""
        sent, self._sent = self._sent, None
        took, patience = now - self._sent_at, self._patience
        if isinstance(sent, Listing):
            patience = self._patience_for_pages
        if isinstance(answer, Done):
            patience.record_latency(took)
            self._lost_sent_at.clear()
        elif isinstance(answer.error, TimeoutError):
            patience.record_timeout()
            self._lost = answer.error
            self._lost_sent_at.append(self._sent_at)
        if isinstance(answer, Fail):
            self.hold(rate_limit_pause(answer.error) or 0.0, now)
        if isinstance(sent, Listing):
            ended = self._listed(cast("Round", self._round), sent, answer, now)
        else:
            ended = self._polled(cast("Watched", sent), answer, now)
        if self._round is not None:
            self._go_on(self._round, now, jitter)
        return ended

    # Requests

    def _poll(
        self, execution: Watched, context: Context, token: str, now: float, alone: bool
    ) -> CallMachine:
        self._sent, self._sent_at = execution, now
        self._singles_before_list -= 1
        alone = alone and len(self.by_row) == 1
        patience = math.inf if alone else self._patience.seconds(execution.state.unanswered)
        return execution.state.call(context, token, now, patience)

    def _read_page(self, listing: Listing, context: Context, token: str, now: float) -> CallMachine:
        self._sent, self._sent_at, self._page_sent_at = listing, now, now
        if self._page_context is None:
            limit = min(context.max_reply_size, PAGE_LIMIT)
            self._page_context = replace(context, max_reply_size=limit)
        last = max(self._first_by_deadline.state.deadline, now + LAST_POLL_TIMEOUT)
        return CallMachine(
            self._batch.listed(listing.workflow_id, listing.cursor.page, listing.size),
            self._page_context,
            token,
            max_retries=0,
            deadline=min(last, now + self._patience_for_pages.seconds()),
        )

    # Rounds

    def _begin_round(self, now: float) -> Round:
        """Begin a round: plan which lists are read, and which executions are polled singly."""
        self._round = begun = Round(now)
        groups: Dict[Optional[str], List[Watched]] = {}
        for execution in self.by_row.values():
            execution.look = Look.SINGLY
            groups.setdefault(execution.workflow_id, []).append(execution)
        unknown = groups.pop(None, [])
        for workflow_id, known in groups.items():
            if self._plan_listing(begun, cast("str", workflow_id), known + unknown):
                unknown = []
        singles = [one for one in self.by_row.values() if one.look is Look.SINGLY]
        # Those whose polls have timed out come last, because they may delay all that follow.
        begun.singles.extend(sorted(singles, key=lambda one: one.state.unanswered))
        return begun

    def _plan_listing(self, present: Round, workflow_id: str, wanted: List[Watched]) -> bool:
        """Plan to read the list of a workflow, if that is worth it. Return whether it is."""
        if self._singles_before_list > 0 or len(wanted) < FEWEST:
            return False
        ranks = [execution.rank.expected(self._starts) for execution in wanted]
        depth = reading_depth(ranks, 0, self._most)
        if not depth:
            return False
        size = page_size(depth, self._most, all_known=None not in ranks)
        present.listings.append(Listing(workflow_id, wanted, size))
        for execution in wanted:
            execution.look = Look.ON_PAGE
        return True

    def _end_listing(self, present: Round, listing: Listing) -> None:
        """Read no further page of a list. What no page has shown is polled singly."""
        present.listings.popleft()
        if listing.found < FEWEST - 1:
            self._singles_before_list = SINGLES_AFTER_FAILURE
        for execution in listing.missing:
            execution.look = Look.SINGLY
            present.singles.append(execution)

    def _go_on(self, present: Round, now: float, jitter: float) -> None:
        """Plan the next request of the present round, or end the round if there is none."""
        while present.singles and present.singles[0].look is not Look.SINGLY:
            present.singles.popleft()
        if present.listings or present.singles:
            present.turn_at = now + self._pace.plan(0.0, now, many=True)
        else:
            self._end_round(present, now, jitter)

    def _end_round(self, ended: Round, now: float, jitter: float) -> None:
        self._round = None
        # From the beginning of this round: a poll that hangs must not delay the next round. But an
        # interval that the caller has given is a minimum, for each execution.
        since = ended.began_at if self._batch.poll_interval is None else now
        delay = max(since + self._interval(now, jitter) - now, 0.0)
        if len(self.by_row) >= FEWEST:
            delay = self._pace.plan(delay, now, many=True)
        self._round_at = now + delay

    def _interval(self, now: float, jitter: float = 0.5) -> float:
        """Return the seconds until the next round."""
        given = self._batch.poll_interval
        if given is not None:
            return given
        if self._took:
            # If none ends for longer than that, those that are left take longer.
            took = max(sorted(self._took)[len(self._took) // 2], now - self._ended_at)
        else:  # None has ended. So they take at least as long as the first one runs.
            took = now - self._first_by_deadline.state.started if self.by_row else 0.0
        interval = min(RAMP * took, LONGEST_INTERVAL) * (1.0 + SPREAD * (jitter - 0.5))
        return max(interval, SHORTEST_INTERVAL)

    # Outcomes of requests

    def _polled(self, execution: Watched, answer: Union[Done, Fail], now: float) -> List[Ended]:
        """Apply the outcome of a single poll. Return the rows that end with it."""
        execution.look, execution.has_failed = Look.POLLED, isinstance(answer, Fail)
        verdict = execution.state.judge(answer, now)
        if isinstance(answer, Done) and execution.workflow_id is None:
            found = text_or_empty(answer.value["data"].get("workflow_id"))
            self._learn_workflow(execution, found)
        if isinstance(verdict, Wait):
            # After a timeout, poll this execution again only after as much time as the poll took,
            # so that the others get their turns.
            is_lost = isinstance(answer, Fail) and isinstance(answer.error, TimeoutError)
            delay = max(verdict.seconds, now - self._sent_at if is_lost else 0.0)
            if len(self.by_row) < FEWEST:
                delay = self._pace.plan(delay, now)
            execution.poll_at = now + delay
            return []
        self._remove(execution)
        if isinstance(verdict, Done):
            self._note_duration(execution, verdict.value, now)
            return [Ended(execution.row, verdict)]
        return [Ended(execution.row, verdict), *self._without_time(verdict.error, now)]

    def _learn_workflow(self, execution: Watched, workflow_id: str) -> None:
        """Note the workflow of an execution.

        If others of an unknown workflow are still to be polled singly, look for them on its list.
        """
        if not is_id(workflow_id):
            return
        execution.workflow_id = workflow_id
        present = self._round
        if present is None:
            return
        singles = (one for one in present.singles if one.look is Look.SINGLY)
        unknown = [one for one in singles if one.workflow_id is None]
        wanted = [execution, *unknown]
        if self._plan_listing(present, workflow_id, wanted):
            execution.look = Look.NEXT_ROUND  # It needs no request any more.
            present.singles = deque(one for one in present.singles if one.look is Look.SINGLY)

    def _listed(
        self, present: Round, listing: Listing, answer: Union[Done, Fail], now: float
    ) -> List[Ended]:
        """Apply a page, or the failure of its request. Return the rows that end with it."""
        if isinstance(answer, Fail):
            if answer.error.code == "reply_too_large" and listing.size >= 2 * SMALLEST_SIZE:
                listing.halve()
                self._most, self._pages_before_growth = listing.size, PAGES_BEFORE_GROWTH
                return []
            if self._may_be_of_list(answer.error, now):
                listing.found = 0
                self._end_listing(present, listing)
            else:  # The round ends, and the next one reads the list again.
                present.listings.clear()
                present.singles.clear()
            return self._without_time(answer.error, now)
        page: Reply[Any] = answer.value
        self._has_failed = False
        self._pages_before_growth -= 1
        if self._pages_before_growth == 0:
            self._most, self._pages_before_growth = MAX_PER_PAGE, 0
        ended: List[Ended] = []
        shown = 0
        for entry in map(object_or_empty, page["data"]):
            listing.read += 1
            for execution in tuple(self._by_id.get(text_or_empty(entry.get("id")), ())):
                shown += 1
                ended += self._shown(execution, present, listing, entry, now)
        listing.found += shown
        more = listing.cursor.advance(page)
        missing = listing.missing
        ranks = [execution.rank.expected(self._starts) for execution in missing]
        # Those of unknown rank may be anywhere, or on no list at all.
        likely = ranks if shown >= FEWEST - 1 else [rank for rank in ranks if rank is not None]
        if more and reading_depth(likely, listing.read, listing.size):
            return ended
        for execution in missing:
            # An execution of an unknown workflow may be of another one: then this list says nothing
            # of its place in its own.
            if execution.workflow_id == listing.workflow_id:
                execution.rank.missed(listing.read, self._starts)
        self._end_listing(present, listing)
        return ended

    def _may_be_of_list(self, error: FlowMaestroError, now: float) -> bool:
        """Return whether single polls may work, although a page has failed with `error`.

        Return True if a deadline has passed, too: then there is no time for another round.
        """
        if now >= self._first_by_deadline.state.deadline:
            return True
        if isinstance(error, RateLimitError):
            return False
        had_failed, self._has_failed = self._has_failed, True
        return had_failed or error.status_code == 500 or not is_transient(error)

    def _shown(
        self,
        execution: Watched,
        present: Round,
        listing: Listing,
        entry: Dict[str, Any],
        now: float,
    ) -> List[Ended]:
        """Apply what a page shows of one execution. Return its row if it ends with that."""
        execution.workflow_id = listing.workflow_id
        execution.rank.shown(listing.read, self._starts)
        if not _is_whole(entry):
            execution.look = Look.SINGLY
            present.singles.append(execution)
            return []
        execution.look = Look.NEXT_ROUND
        shapes.execution({"data": entry})
        verdict = execution.state.see(cast("Execution", entry), now)
        if isinstance(verdict, Wait):
            execution.poll_at = now + verdict.seconds
            return []
        self._remove(execution)
        if isinstance(verdict, Done):
            self._note_duration(execution, verdict.value, now)
        return [Ended(execution.row, verdict)]

    def _without_time(self, error: FlowMaestroError, now: float) -> List[Ended]:
        """Remove the executions that time out before the key may be used again (429).

        Return their rows, each with a `Fail` that has a copy of `error`.
        """
        pause = rate_limit_pause(error)
        if not pause:
            return []
        ended = [
            execution
            for execution in self.by_row.values()
            if now + pause > execution.state.deadline
        ]
        for execution in ended:
            self._remove(execution)
        return [
            Ended(execution.row, execution.state.give_up(copy.copy(error))) for execution in ended
        ]

    def _note_duration(self, execution: Watched, ended: Mapping[str, Any], now: float) -> None:
        """Note how long an ended execution took: by the server's times, else by our own."""
        try:
            begun, end = (parse_timestamp(ended[key]) for key in ("created_at", "completed_at"))
        except (TypeError, ValueError):
            begun, end = execution.state.started, now
        self._took.append(end - begun)
        self._ended_at = now

    # The executions

    @property
    def _first_by_deadline(self) -> Watched:
        return next(iter(self.by_row.values()))

    @property
    def _next_single(self) -> Watched:
        return min(self.by_row.values(), key=lambda one: one.poll_at)

    def _remove(self, execution: Watched) -> None:
        del self.by_row[execution.row.index]
        alike = self._by_id[execution.state.execution_id]
        alike.remove(execution)
        if not alike:
            del self._by_id[execution.state.execution_id]
        execution.look = Look.NEXT_ROUND


def _is_whole(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry of a list tells all that a poll would tell.

    Servers may leave the outputs out of lists. A cancelled execution has no `completed_at`.
    """
    status = text_or_empty(entry.get("status"))
    if not shapes.is_terminal(entry):
        return status != ""
    told = "outputs" in entry and "error" in entry
    return told and (status == "cancelled" or entry.get("completed_at") is not None)


def rate_limit_pause(error: FlowMaestroError) -> Optional[float]:
    """Return for how many seconds a 429 refuses the API key.

    Return infinity if the daily quota is used up, 0 if the server does not say how long, and `None`
    if `error` is not a 429.
    """
    if not isinstance(error, RateLimitError):
        return None
    return math.inf if is_daily_quota_error(error) else retry_after_of(error)

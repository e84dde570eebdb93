"""The running executions of a batch: which one is polled next, and when."""

from __future__ import annotations

import copy
import heapq
import math
from collections import OrderedDict
from typing import List, Optional, Tuple, Union

from flowmaestro_core.actions import Done, Fail, Wait
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, TimeoutError
from flowmaestro_core.executions.operation import Poll
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT, PollState
from flowmaestro_core.payloads.reply import is_daily_quota_error
from flowmaestro_core.policy.polling import AdaptiveTimeout
from flowmaestro_core.policy.retry import retry_after_of


class ActiveExecution:
    """One running execution, with its row and the state of its wait."""

    def __init__(self, row: Row, state: PollState) -> None:
        self.row = row
        self.state = state
        self.ticket = 0
        """The number of its entry in the queue by time; 0 while it has none.

        An entry with another number is outdated. It is skipped, which is cheaper than to remove it.
        """


class ActiveExecutions:
    """Polls each execution in its turn, and, if there is time, a last time at its deadline.

    `hold` delays all polls together, because the rate limit belongs to the key. Only the last poll
    of an execution is not delayed. While other executions run or a start waits, a poll that hangs
    times out soon, and is repeated later with a longer timeout. So the others have their turns
    meanwhile.
    """

    def __init__(self) -> None:
        self.by_row: OrderedDict[int, ActiveExecution] = OrderedDict()
        """The executions by the index of their row, in the order in which they were added. All have
        the same timeout, which counts from then, so the first one reaches its deadline first."""
        self.not_before: float = -math.inf
        """No poll is sent before this time, except last polls."""
        self._by_time: List[Tuple[float, int, ActiveExecution]] = []
        """A heap of the next polls: time, ticket, execution. It also has outdated entries."""
        self._tickets = 0
        """How many tickets were given, one for each planned poll. Of two polls planned for the same
        time, the one with the older ticket is sent first."""
        self._polled: Optional[ActiveExecution] = None
        """The execution whose poll is in flight; `None` if no poll is."""
        self._polled_at = 0.0
        """When that poll was sent."""
        self._patience = AdaptiveTimeout()
        self._lost: Optional[FlowMaestroError] = None
        """The error of the latest poll that timed out; `None` once a later poll has succeeded."""
        self._lost_sent_at = -math.inf
        """When that poll was sent."""

    def __len__(self) -> int:
        return len(self.by_row)

    def follow(self, row: Row, waiting: Poll, now: float, poll_at: float) -> None:
        """Add the running execution of `row`. Its timeout counts from `now`.

        `waiting` is the operation that waits for it. Its first poll is due at `poll_at`.
        """
        execution = self.by_row[row.index] = ActiveExecution(row, PollState(waiting, now))
        self._queue(execution, poll_at)

    def hold(self, seconds: float, now: float) -> None:
        """Send no poll until `seconds` after `now`, except last polls, which come at deadlines."""
        self.not_before = max(self.not_before, now + seconds)

    def due(self) -> float:
        """Return when the next poll is due; infinity if no execution is active."""
        if not self.by_row:
            return math.inf
        self._drop_outdated()
        in_turn_at = max(self._by_time[0][0], self.not_before)
        return min(in_turn_at, self._first_by_deadline.state.deadline)

    def poll(
        self, context: Context, token: str, now: float, *, alone: bool
    ) -> Optional[CallMachine]:
        """Return the machine of the poll that is due. At least one execution must run.

        `alone` says that no start waits for its turn. If no other execution runs either, the poll
        gets no short timeout, because no other request waits for it.

        Return `None` if the deadline of the execution passed more than `LAST_POLL_TIMEOUT` ago, and
        a poll that was sent after that deadline, of any execution, has timed out since the last
        successful one: another poll would only delay the executions after it. A poll that was sent
        before the deadline says nothing: the process may have been held up meanwhile.
        """
        self._drop_outdated()
        in_turn = max(self._by_time[0][0], self.not_before) <= now
        execution = heapq.heappop(self._by_time)[2] if in_turn else self._first_by_deadline
        self._polled = execution
        execution.ticket = 0
        self._polled_at = now
        deadline = execution.state.deadline
        is_too_late = self._lost_sent_at >= deadline and now > deadline + LAST_POLL_TIMEOUT
        if self._lost is not None and is_too_late:
            return None
        alone = alone and len(self.by_row) == 1
        patience = math.inf if alone else self._patience.seconds(execution.state.unanswered)
        return execution.state.call(context, token, now, patience)

    def answered(
        self, answer: Optional[Union[Done, Fail]], now: float
    ) -> List[Tuple[Row, Union[Done, Fail]]]:
        """Return the rows that end with this poll, each with a `Done` or a `Fail`.

        The value of `Done` is the ended execution. `answer` is the outcome of the poll. If it is
        `None`, there was no time for the poll, and the execution ends with a `TimeoutError`. The
        cause of that error is the error of the latest poll, of any execution, that timed out.
        """
        execution, took, lost = self._polled, now - self._polled_at, 0.0
        assert execution is not None  # noqa: S101 - for type checkers
        self._polled = None
        if answer is None:
            del self.by_row[execution.row.index]
            return [(execution.row, execution.state.time_out(copy.copy(self._lost)))]
        if isinstance(answer, Done):
            self._patience.record_latency(took)
            self._lost = None
        elif isinstance(answer.error, TimeoutError):
            self._patience.record_timeout()
            # Poll this execution again only after as much time as this poll took, so that the
            # others get a turn.
            self._lost, lost = answer.error, took
            self._lost_sent_at = self._polled_at
        verdict = execution.state.judge(answer, now)
        if isinstance(answer, Fail):
            self.hold(rate_limit_pause(answer.error) or 0.0, now)
        if isinstance(verdict, Wait):
            self._queue(execution, now + max(verdict.seconds, lost))
            return []
        del self.by_row[execution.row.index]
        others = self._without_time(verdict.error, now) if isinstance(verdict, Fail) else []
        return [(execution.row, verdict), *others]

    def _without_time(self, error: FlowMaestroError, now: float) -> List[Tuple[Row, Fail]]:
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
            execution.ticket = 0
            del self.by_row[execution.row.index]
        return [(execution.row, execution.state.give_up(copy.copy(error))) for execution in ended]

    @property
    def _first_by_deadline(self) -> ActiveExecution:
        return next(iter(self.by_row.values()))

    def _drop_outdated(self) -> None:
        """Remove outdated entries until the first entry is the next poll in turn.

        At least one execution must run.
        """
        while self._by_time[0][2].ticket != self._by_time[0][1]:
            heapq.heappop(self._by_time)

    def _queue(self, execution: ActiveExecution, poll_at: float) -> None:
        self._tickets += 1
        execution.ticket = self._tickets
        heapq.heappush(self._by_time, (poll_at, execution.ticket, execution))


def rate_limit_pause(error: FlowMaestroError) -> Optional[float]:
    """Return for how many seconds a 429 refuses the API key.

    Return infinity if the daily quota is used up, 0 if the server does not say how long, and `None`
    if `error` is not a 429.
    """
    if not isinstance(error, RateLimitError):
        return None
    return math.inf if is_daily_quota_error(error) else retry_after_of(error)

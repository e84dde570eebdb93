"""The executions of a batch that run: which of them is polled next, and when."""

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
    """One execution that runs, its row, and what is known of it."""

    def __init__(self, row: Row, state: PollState) -> None:
        self.row = row
        self.state = state
        self.ticket = 0
        """Of its place in the queues; 0 while it has none."""


class ActiveExecutions:
    """Polls each execution in its turn, and once more at its deadline.

    Requests are held back together, since the rate limit is the key's; but no hold puts off the
    last poll of an execution, which comes at its deadline. While there are others, a poll is given
    up soon and repeated later with more patience.
    """

    def __init__(self) -> None:
        self.by_row: OrderedDict[int, ActiveExecution] = OrderedDict()
        """The time of each counts from when it was added: the first is at its deadline first."""
        self.not_before = -math.inf
        self._by_time: List[Tuple[float, int, ActiveExecution]] = []
        self._tickets = 0
        self._polled: Optional[ActiveExecution] = None
        self._polled_at = 0.0
        self._patience = AdaptiveTimeout()
        self._lost: Optional[FlowMaestroError] = None
        """The failure of the last poll, if that got no answer in time."""

    def __len__(self) -> int:
        return len(self.by_row)

    def follow(self, row: Row, waiting: Poll, now: float, poll_at: float) -> None:
        """One more runs; its time counts from now."""
        execution = self.by_row[row.index] = ActiveExecution(row, PollState(waiting, now))
        self._queue(execution, poll_at)

    def hold(self, seconds: float, now: float) -> None:
        """Poll none for so long, but for those whose time is up."""
        self.not_before = max(self.not_before, now + seconds)

    def due(self) -> float:
        """When the next poll is due; infinite if nothing runs."""
        if not self.by_row:
            return math.inf
        while self._by_time[0][2].ticket != self._by_time[0][1]:
            heapq.heappop(self._by_time)
        in_turn_at = max(self._by_time[0][0], self.not_before)
        return min(in_turn_at, self._first_by_deadline.state.deadline)

    def poll(
        self, context: Context, token: str, now: float, *, alone: bool
    ) -> Optional[CallMachine]:
        """The call of the poll that is due.

        `None` if its deadline passed more than `LAST_POLL_TIMEOUT` ago and the server did not
        answer the last poll.
        """
        in_turn = max(self._by_time[0][0], self.not_before) <= now
        execution = heapq.heappop(self._by_time)[2] if in_turn else self._first_by_deadline
        self._polled = execution
        execution.ticket = 0
        self._polled_at = now
        if self._lost is not None and now > execution.state.deadline + LAST_POLL_TIMEOUT:
            return None
        alone = alone and len(self.by_row) == 1
        patience = math.inf if alone else self._patience.seconds(execution.state.unanswered)
        return execution.state.call(context, token, now, patience)

    def answered(
        self, answer: Optional[Union[Done, Fail]], now: float
    ) -> List[Tuple[Row, Union[Done, Fail]]]:
        """What became of the execution that was polled, and what ends with it.

        Without an answer, the execution ends with the failure of the last poll.
        """
        execution, took, lost = self._polled, now - self._polled_at, 0.0
        assert execution is not None  # noqa: S101 - for type checkers
        self._polled = None
        if answer is None:
            answer = Fail(copy.copy(self._lost))  # type: ignore[arg-type]
        elif isinstance(answer, Done):
            self._patience.record_latency(took)
            self._lost = None
        elif isinstance(answer.error, TimeoutError):
            self._patience.record_timeout()
            self._lost, lost = answer.error, took  # others come first for as long
        verdict = execution.state.judge(answer, now)
        if isinstance(answer, Fail):
            self.hold(refused_for(answer.error) or 0.0, now)
        if isinstance(verdict, Wait):
            self._queue(execution, now + max(verdict.seconds, lost))
            return []
        del self.by_row[execution.row.index]
        others = self._without_time(verdict.error, now) if isinstance(verdict, Fail) else []
        return [(execution.row, verdict), *others]

    def _without_time(self, error: FlowMaestroError, now: float) -> List[Tuple[Row, Fail]]:
        """Those that a 429, which is about the key, leaves no time for; they end with it."""
        pause = refused_for(error)
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

    def _queue(self, execution: ActiveExecution, poll_at: float) -> None:
        self._tickets += 1
        execution.ticket = self._tickets
        heapq.heappush(self._by_time, (poll_at, execution.ticket, execution))


def refused_for(error: FlowMaestroError) -> Optional[float]:
    """Seconds for which the server refuses the key; `None` when that is not the trouble."""
    if not isinstance(error, RateLimitError):
        return None
    return math.inf if is_daily_quota_error(error) else retry_after_of(error)

"""Sending announced starts in time: the rules that both schedulers of starts share."""

from __future__ import annotations

import math
from typing import Callable, Optional, Sequence

from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.executions.start import ANNOUNCED, Start

MAX_SLOW_SAVES = 3
"""So many announcements one after another that took too long to save end a batch or a run. One may
be chance; after three, the store is too slow for `settle_after`."""
LEAST_TIMEOUT = 1.0
"""A start that would have less than these seconds for its response is announced again first. Else,
a start that the server accepts could be in doubt, and cost a wait of `settle_after`. With a short
`settle_after`, a quarter of it takes the place of this constant."""


class Sender:
    """Announces starts, and has the call of the one whose turn it is.

    Another process that takes over waits for `settle_after` before it looks for executions. So an
    announced start must be sent, and its response received, within half of that. The other half is
    for the server, which must list the execution. A start that was held up longer is announced
    again. No other process can take over a store that is locked.

    Attributes:
        parked: the call of the start whose turn it is, while it waits for its next attempt; else
            `None`.

    """

    def __init__(
        self,
        settle_after: float,
        unusable: Callable[[str], FlowMaestroError],
        *,
        is_locked: bool = False,
    ) -> None:
        """`unusable` makes the error of a store that cannot be used, given the reason."""
        self.parked: Optional[CallMachine] = None
        self._send_before = math.inf
        """The end of the time for announced starts, on the clock of `now`."""
        self._unusable = unusable
        self._time = math.inf if is_locked else settle_after / 2
        self._least_timeout = min(LEAST_TIMEOUT, settle_after / 4)
        self._unsent = 0
        """How many announcements were made since a start was sent. More than one: the saves took so
        long that the starts could not be sent in time."""

    def announce(self, starts: Sequence[Start], now: float) -> bool:
        """Announce `starts`. The store must keep them before the first one is sent.

        Return False, and do nothing, if the first one is announced and there is time to send it.
        Raises the error of the store if its saves have taken too long `MAX_SLOW_SAVES` times, one
        after another.
        """
        if starts[0].state is ANNOUNCED and now + self._least_timeout <= self._send_before:
            return False
        if self._unsent == MAX_SLOW_SAVES:
            often = f"{MAX_SLOW_SAVES} times"
            raise self._unusable(f"save took longer than half of settle_after, {often}")
        self._unsent += 1
        self._send_before = now + self._time
        for start in starts:
            start.announce()
        return True

    def send(self, start: Start, make: Callable[[], CallMachine]) -> CallMachine:
        """Note that the request of `start` is sent now. Return its call.

        `make` makes the call, unless it is parked.
        """
        self._unsent = 0
        start.send()
        call, self.parked = self.parked or make(), None
        call.send_before = self._send_before
        return call

    def hold_up(self, start: Start, call: Optional[CallMachine]) -> None:
        """Note that the request was not processed so far. `call` continues later.

        If it is `None`, a new call is made then.
        """
        start.hold_up()
        self.parked = call

    def expire(self, start: Start, outage: Optional[FlowMaestroError] = None) -> None:
        """Refuse a start that was not sent in time.

        The cause of its error is its own last failure. Without one, it is `outage`, the failure of
        another start meanwhile.
        """
        late = TimeoutError("The execution could not be started within the timeout, and was not")
        failure = start.error if self.parked is None else self.parked.last_failure
        if failure is not None:
            late.attempts = failure.attempts
        late.__cause__ = failure or outage
        self.parked = None
        start.refuse(late)

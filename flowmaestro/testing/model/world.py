"""The whole service as its drivers see it: requests and times come in, replies go out.

No sockets, clocks or random numbers here: a driver brings requests and says what time it is, and
carries out the webhook deliveries that are due.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

from flowmaestro.testing.model.agents import Replies
from flowmaestro.testing.model.dispatch import Dispatcher
from flowmaestro.testing.model.executions import Execution
from flowmaestro.testing.model.faults import Fault, Faults
from flowmaestro.testing.model.keys import KeyRing
from flowmaestro.testing.model.replies import FakeReply
from flowmaestro.testing.model.requests import RecordedRequest
from flowmaestro.testing.model.service import Listener, Service
from flowmaestro.testing.model.webhooks import Delivery
from flowmaestro_core.arguments import check_count
from flowmaestro_core.http.messages import Request

Receiver = Callable[[Request], Optional[int]]


class World:
    """A service that a driver moves through time, in memory or over sockets.

    `STATE` of each part names the attributes that `all_or_nothing` brings back.
    """

    STATE = ("_scripts", "_receiver")

    def __init__(self, service: Service, keys: KeyRing) -> None:
        self._timeline = service.timeline
        self._dialect = service.dialect
        self._service = service
        self._keys = keys
        self._faults = Faults()
        self._dispatcher = Dispatcher(service, keys, self._faults)
        self._receiver: Receiver = lambda _: 200
        self._scripts: Dict[Tuple[str, str], Optional[Replies]] = {}
        """The scripts of a test that must be used, by kind and id: the replies of an agent."""

    @property
    def lock(self) -> threading.RLock:
        """Held while anything here changes; its holder may take it again."""
        return self._timeline.lock

    def handle(self, request: Request, now: float) -> FakeReply:
        """Take one request at `now`, in seconds of the driver's clock.

        The world begins with the first one. The reply may become ready only later: see
        `FakeReply`.
        """
        with self.lock:
            self._timeline.begin(now)
            return self._dispatcher.take(request)

    def advance(self, now: float) -> None:
        """Advance time to `now`."""
        with self.lock:
            self._timeline.advance(now)

    def live_until(self, now: float) -> None:
        """Advance time to `now`, and make the webhook deliveries that are due in memory."""
        while True:
            due = self.due(now)
            if not due:
                return
            for delivery in due:
                self.delivered(delivery, self._receiver(delivery.request), now)

    def next_time(self) -> Optional[float]:
        """Return when something is due, on the driver's clock; `None` for never."""
        with self.lock:
            return self._timeline.next_time()

    @property
    def now(self) -> float:
        """The time of the driver's clock at the last advance."""
        with self.lock:
            return self._timeline.now

    def unix_time(self, now: float) -> float:
        """Return the Unix seconds at a time of the driver's clock."""
        return self._timeline.wall(now)

    def due(self, now: float) -> List[Delivery]:
        """Advance time to `now` and return the webhook deliveries to attempt.

        Report on each one with `delivered`; until then it is not handed out again.
        """
        with self.lock:
            self._timeline.advance(now)
            return self._service.deliveries.take_due()

    def delivered(self, delivery: Delivery, status: Optional[int], now: float) -> None:
        """Record that the receiver answered `status`; `None`: nothing within ten seconds."""
        with self.lock:
            self._timeline.advance(now)
            self._service.deliveries.delivered(delivery, status)

    @contextmanager
    def all_or_nothing(self) -> Generator[None, None, None]:
        """Undo new resources, keys, limits and faults if the `with` block raises.

        Time that has passed in it stays, and what it changed within a resource. Other threads
        wait for its end.
        """
        with self.lock:
            parts: Tuple[Any, ...] = (self, self._service, self._keys, self._faults)
            state = [{it: copy.copy(getattr(part, it)) for it in part.STATE} for part in parts]
            try:
                yield
            except BaseException:
                for part, held in zip(parts, state):
                    for name, value in held.items():
                        setattr(part, name, value)
                raise

    def keep_last(self, most: int) -> None:
        """Keep only the last `most` of `requests`, `executions` and `deliveries` from now on.

        For a fake that serves for days. The API's own lists stay whole.
        """
        check_count("most", most)
        with self.lock:
            self._dispatcher.requests = deque(self._dispatcher.requests, most)
            self._service.started = deque(self._service.started, most)
            self._service.deliveries.finished = deque(self._service.deliveries.finished, most)

    def _catch_up(self) -> None:
        """Make everything happen that is due, where time passes by itself."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the name, the data and the execution of every event.

        This includes events that no stream sends. The fake calls it while it holds its `lock`,
        with its own objects, not copies.
        """
        with self.lock:
            self._service.listener = listener

    def listen_to_faults(self, listener: Callable[[Fault], None]) -> None:
        """Call `listener` with each fault that happens, before the reply to its request."""
        with self.lock:
            self._faults.listener = listener

    @property
    def armed_faults(self) -> List[Fault]:
        """The faults that are still to happen."""
        with self.lock:
            return self._faults.pending

    def disarm(self, fault: Fault) -> None:
        """Make `fault` happen to no further request."""
        with self.lock:
            self._faults.disarm(fault)

    def find_execution(self, execution_id: str) -> Optional[Execution]:
        """Return an execution itself, not a copy: hold `lock` while it is read."""
        with self.lock:
            return self._service.executions.get(execution_id)

    def cancel(self, execution_id: str) -> None:
        """End an execution as `executions.cancel` does.

        Raises `LookupError` for an unknown id, and `ValueError` if it cannot be cancelled.
        """
        with self.lock:
            execution = self.find_execution(execution_id)
            if execution is None:
                raise LookupError(f"there is no execution {execution_id}")
            if not execution.can_be_cancelled:
                raise ValueError(f"an execution that is {execution.status} cannot be cancelled")
            self._service.runner.cancel(execution)

    def deliver_again(self, delivery: Delivery) -> None:
        """Retry a webhook delivery, with the same delivery id.

        Raises `ValueError` while the delivery is pending.
        """
        with self.lock:
            self._service.deliveries.repeat(delivery)

    @property
    def requests(self) -> List[RecordedRequest]:
        """Every request that came, in order, as values that do not change."""
        with self.lock:
            return [request.recorded() for request in self._dispatcher.requests]

    @property
    def executions(self) -> List[Execution]:
        """Every execution that was started, the oldest first, as it stands."""
        self._catch_up()
        with self.lock:
            return [_snapshot(execution) for execution in self._service.started]

    @property
    def deliveries(self) -> List[Delivery]:
        """Every webhook delivery that has been delivered or given up, in that order."""
        self._catch_up()
        with self.lock:
            return list(self._service.deliveries.finished)

    @property
    def open_streams(self) -> int:
        """How many event streams of executions and threads have a reader."""
        with self.lock:
            return self._service.open_streams


def _snapshot(execution: Execution) -> Execution:
    """Return a copy: changes of it do not reach the fake."""
    return replace(
        execution,
        inputs=copy.deepcopy(execution.inputs),
        outputs=copy.deepcopy(execution.outputs),
        failed_nodes=dict(execution.failed_nodes),
    )

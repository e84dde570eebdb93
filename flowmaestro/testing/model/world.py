"""The whole service as its drivers see it: requests and times come in, responses go out.

It uses no sockets, clocks or random numbers. A driver passes requests and the time, and carries out
the webhook deliveries that are due.
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
    """A service that a driver advances in time, in memory or over sockets.

    Each base class and part of it has a `STATE`: the names of the attributes that the context
    manager `all_or_nothing` restores if its block raises.
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
        """The resources that a test has scripted, by kind and id, to report the unused ones.

        The value has the scripted answers of an agent; else it is `None`.
        """

    @property
    def lock(self) -> threading.RLock:
        """The lock that is held while anything here changes. It is reentrant."""
        return self._timeline.lock

    def handle(self, request: Request, now: float) -> FakeReply:
        """Carry out one request at `now`, in seconds of the driver's clock.

        Time starts with the first request. The response may become ready later: see `FakeReply`.
        """
        with self.lock:
            self._timeline.begin(now)
            return self._dispatcher.take(request)

    def advance(self, now: float) -> None:
        """Advance time to `now`."""
        with self.lock:
            self._timeline.advance(now)

    def live_until(self, now: float) -> None:
        """Advance time to `now`, and carry out the due webhook deliveries in memory.

        Each is a call of the receiver (see `receive_webhooks`).
        """
        while True:
            due = self.due(now)
            if not due:
                return
            for delivery in due:
                self.delivered(delivery, self._receiver(delivery.request), now)

    def next_time(self) -> Optional[float]:
        """Return when the next planned event is due; `None` if none is planned.

        The time is on the driver's clock, as `now` of `advance` is.
        """
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

        Report the outcome of each with `delivered`; until then it is not returned again.
        """
        with self.lock:
            self._timeline.advance(now)
            return self._service.deliveries.take_due()

    def delivered(self, delivery: Delivery, status: Optional[int], now: float) -> None:
        """Record that the receiver answered with `status`, or not within 10 s (`None`)."""
        with self.lock:
            self._timeline.advance(now)
            self._service.deliveries.delivered(delivery, status)

    @contextmanager
    def all_or_nothing(self) -> Generator[None, None, None]:
        """Undo new resources, keys, limits and faults if the `with` block raises.

        The time, and changes within a resource, are not undone. Other threads wait until the block
        ends.
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

        Of `requests`, fewer are kept if their bodies have more than 64 MiB. Use it for a fake that
        serves for days. Lists that the API returns stay complete.
        """
        check_count("most", most)
        with self.lock:
            self._dispatcher.keep_last(most)
            self._service.started = deque(self._service.started, most)
            self._service.deliveries.finished = deque(self._service.deliveries.finished, most)

    def _catch_up(self) -> None:
        """Carry out everything that is due, if the clock is a real one."""

    def listen(self, listener: Listener) -> None:
        """Have `listener` called with the name, the data and the execution of every event.

        It is called from now on, also for events that no stream sends, and replaces an earlier
        listener. The fake holds its `lock` meanwhile, and passes
        its own objects, not copies.
        """
        with self.lock:
            self._service.listener = listener

    def listen_to_faults(self, listener: Callable[[Fault], None]) -> None:
        """Call `listener` with each fault that happens, before the response to its request."""
        with self.lock:
            self._faults.listener = listener

    @property
    def armed_faults(self) -> List[Fault]:
        """The faults that will happen at least once more."""
        with self.lock:
            return self._faults.pending

    def disarm(self, fault: Fault) -> None:
        """Remove `fault`, so that it affects no further request."""
        with self.lock:
            self._faults.disarm(fault)

    def find_execution(self, execution_id: str) -> Optional[Execution]:
        """Return an execution itself, not a copy; `None` if there is none with this id.

        Hold `lock` while you read the execution.
        """
        with self.lock:
            return self._service.executions.get(execution_id)

    def cancel(self, execution_id: str) -> None:
        """Cancel an execution, as a client's `executions.cancel` does.

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
        """Make an ended webhook delivery due again, once, with the same delivery id.

        The driver sends it. Raises `ValueError` while the delivery is pending.
        """
        with self.lock:
            self._service.deliveries.repeat(delivery)

    @property
    def requests(self) -> List[RecordedRequest]:
        """All requests so far, in order, as immutable values."""
        with self.lock:
            return [request.recorded() for request in self._dispatcher.requests]

    @property
    def executions(self) -> List[Execution]:
        """Copies of all started executions in their current state, the oldest first."""
        self._catch_up()
        with self.lock:
            return [_snapshot(execution) for execution in self._service.started]

    @property
    def deliveries(self) -> List[Delivery]:
        """Copies of all webhook deliveries that were delivered or given up, in that order."""
        self._catch_up()
        with self.lock:
            return list(self._service.deliveries.finished)

    @property
    def open_streams(self) -> int:
        """The number of open event streams of executions and threads."""
        with self.lock:
            return self._service.open_streams


def _snapshot(execution: Execution) -> Execution:
    """Return a deep copy, so that changes of it do not affect the fake."""
    return replace(
        execution,
        inputs=copy.deepcopy(execution.inputs),
        outputs=copy.deepcopy(execution.outputs),
        failed_nodes=dict(execution.failed_nodes),
    )

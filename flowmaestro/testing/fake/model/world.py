"""The whole service as its drivers see it: requests and times come in, responses go out.

It uses no sockets, no clocks, and only seeded random numbers. A driver passes requests and the
time, and carries out the webhook deliveries that are due.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Collection, Dict, Generator, List, Mapping, Optional, Tuple

from flowmaestro.testing.fake.model.agents import Replies
from flowmaestro.testing.fake.model.dispatch import Dispatcher
from flowmaestro.testing.fake.model.executions import Execution, Workflow
from flowmaestro.testing.fake.model.faults import Fault, Faults
from flowmaestro.testing.fake.model.keys import KeyRing
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.requests import RecordedRequest
from flowmaestro.testing.fake.model.service import ChangeListener, Listener, Service
from flowmaestro.testing.fake.model.webhooks import Delivery
from flowmaestro_core.arguments import check_count
from flowmaestro_core.http.messages import Request

Receiver = Callable[[Request], Optional[int]]


class World:
    """A service that a driver advances in time, in memory or over sockets.

    It has a `STATE`, as have its service, keys and faults: the names of the attributes that the
    context manager `all_or_nothing` restores if its block raises.
    """

    STATE = ("_scripts", "_receiver")

    def __init__(self, service: Service, keys: KeyRing) -> None:
        self._model_time = service.model_time
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
        """The reentrant lock of the model. Hold it to keep out calls of other threads."""
        return self._model_time.lock

    def handle(self, request: Request, now: float) -> FakeReply:
        """Carry out one request at `now`, in seconds of the driver's clock.

        No planned event happens before the first request. The response may become ready later: see
        `FakeReply`.
        """
        with self.lock:
            self._model_time.begin(now)
            return self._dispatcher.take(request)

    def advance(self, now: float) -> None:
        """Advance time to `now`."""
        with self.lock:
            self._model_time.advance(now)

    def live_until(self, now: float) -> None:
        """Advance time to `now`, and carry out the due webhook deliveries in memory.

        For each delivery, the receiver is called (see `receive_webhooks`). What the receiver raises
        is raised here. That attempt then counts as one without a response, and the deliveries after
        it stay due.
        """
        while True:
            due = self.due(now)
            if not due:
                return
            for index, delivery in enumerate(due, 1):
                status = None
                try:
                    status = self._receiver(delivery.request)
                except BaseException:
                    with self.lock:
                        self._service.deliveries.put_back(due[index:])
                    raise
                finally:
                    self.delivered(delivery, status, now)

    def next_time(self) -> Optional[float]:
        """Return when the next planned event is due; `None` if none is planned.

        Before the first request, it is `None`, too. The time is on the driver's clock, as `now` of
        `advance` is.
        """
        with self.lock:
            return self._model_time.next_time()

    @property
    def now(self) -> float:
        """The time of the driver's clock at the last advance."""
        with self.lock:
            return self._model_time.now

    def unix_time(self, now: float) -> float:
        """Return the Unix seconds at a time of the driver's clock."""
        return self._model_time.wall(now)

    def due(self, now: float) -> List[Delivery]:
        """Advance time to `now` and return the webhook deliveries to attempt.

        Report the outcome of each with `delivered`; until then it is not returned again.
        """
        with self.lock:
            self._model_time.advance(now)
            return self._service.deliveries.take_due()

    def delivered(self, delivery: Delivery, status: Optional[int], now: float) -> None:
        """Record that the receiver answered with `status`, or not at all (`None`)."""
        with self.lock:
            self._model_time.advance(now)
            self._service.deliveries.delivered(delivery, status)

    @contextmanager
    def all_or_nothing(self) -> Generator[None, None, None]:
        """Undo new resources, keys, limits and faults if the `with` block raises.

        The time, and changes within a resource, are not undone. Other threads that use the fake
        wait until the block ends.
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

        Of `requests`, fewer are kept if their bodies, long URLs and long header fields have more
        than 64 MiB.
        Use it for a fake that serves for days. Lists that the API returns stay complete. Raises
        `TypeError` or `ValueError` unless `most` is an `int` of at least 1.
        """
        check_count("most", most)
        with self.lock:
            self._dispatcher.keep_last(most)
            self._service.started = deque(self._service.started, most)
            self._service.deliveries.keep_last(most)

    def _catch_up(self) -> None:
        """Carry out everything that is due, if the clock is a real one. Here: do nothing."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with name, data and execution of every event of an execution.

        `listener` is called from now on, also for events that no stream sends, and replaces an
        earlier listener. The fake holds its `lock` during a call. The execution is the fake's own,
        not a copy.
        """
        with self.lock:
            self._service.listener = listener

    def note_changes(self, listener: ChangeListener) -> None:
        """Call `listener` with each execution that starts or changes, and whether it has started.

        `listener` is called before the response to the start, from now on, and replaces an earlier
        one. The execution is the fake's own, not a copy.
        """
        with self.lock:
            self._service.note_change = listener

    def restore(self, execution: Execution, taken: int) -> None:
        """Add an execution of an earlier fake, which had taken `taken` steps of its plan."""
        with self.lock:
            self._service.restore(execution, taken)

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        """The workflows by id; a copy."""
        with self.lock:
            return dict(self._service.workflows)

    def missed_in(self, asked: Collection[Tuple[str, str]]) -> Optional[Tuple[str, str, List[str]]]:
        """Return kind and id of a resource of `asked` that did not exist when it was requested.

        `asked` has kinds, such as `knowledge base`, with ids. The third value has the last ids of
        this kind that there were. `None` if none was missed.
        """
        with self.lock:
            for kind, id in asked:
                known = self._service.missed.get((kind, id))
                if known is not None:
                    return kind, id, known
        return None

    def listen_to_faults(self, listener: Callable[[Fault], None]) -> None:
        """Call `listener` with the fault for each request that a fault affects.

        `listener` is called before the response, from now on, and replaces an earlier listener.
        """
        with self.lock:
            self._faults.listener = listener

    @property
    def armed_faults(self) -> List[Fault]:
        """The faults that wait for at least one more request."""
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
        """Make an ended webhook delivery due for one more attempt, with the same delivery id.

        If this attempt fails, it is not retried. `delivery` may be one of `deliveries`, which are
        copies. Raises `ValueError` while the delivery is pending.
        """
        with self.lock:
            self._service.deliveries.repeat(delivery)

    @property
    def requests(self) -> List[RecordedRequest]:
        """All requests so far, in order; after `keep_last`, the last ones."""
        with self.lock:
            return [request.recorded() for request in self._dispatcher.requests]

    @property
    def executions(self) -> List[Execution]:
        """Copies of the executions that requests have started, the oldest first.

        After a call of `keep_last`, they are the last ones.
        """
        self._catch_up()
        with self.lock:
            return [_snapshot(execution) for execution in self._service.started]

    @property
    def deliveries(self) -> List[Delivery]:
        """Copies of the webhook deliveries, in the order in which they were delivered or given up.

        After a call of `keep_last`, they are the last ones. A delivery that is sent again is left
        out until that attempt has ended. Then it is listed once, with its latest outcome.
        """
        self._catch_up()
        with self.lock:
            return self._service.deliveries.finished

    @property
    def open_streams(self) -> int:
        """The number of open event streams of executions and threads."""
        with self.lock:
            return self._service.open_streams


def _snapshot(execution: Execution) -> Execution:
    """Return a copy whose inputs, outputs and errors can be changed without affecting the fake."""
    return replace(
        execution,
        inputs=copy.deepcopy(execution.inputs),
        outputs=copy.deepcopy(execution.outputs),
        failed_nodes=dict(execution.failed_nodes),
    )

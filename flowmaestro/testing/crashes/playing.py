"""One run: the engine that calls the task again and again, in one process after another."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional

from flowmaestro.testing.crashes.calling import call, is_async_task
from flowmaestro.testing.crashes.judging import WrongRun, why_failed
from flowmaestro.testing.crashes.plan import Plan, opens_folder
from flowmaestro.testing.crashes.process import Process, Run, Stopped
from flowmaestro.testing.crashes.steps import Step, name_of, shown, told
from flowmaestro.testing.crashes.turns import SteadyClock, inherited
from flowmaestro.testing.crashes.wire import Network
from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.search import Choices
from flowmaestro_transports.override import override_transport

MOST_FAILURES = 14
"""Calls of a task that may fail, before it counts as endless. The engine waits 1, 2, 4 … seconds
between them, together more than two hours: some engines wait for a workflow by failing calls."""


@dataclass
class Delivery:
    """One delivery of the task by the engine, which calls it until it returns.

    Attributes:
        calls: how many calls it has had.
        failures: how many of them have raised.
        has_ended: whether one has returned.
        result: what that one returned.

    """

    calls: int = 0
    failures: int = 0
    has_ended: bool = False
    result: Any = None


class Play:
    """One run of a plan, from an empty world to its end."""

    def __init__(
        self,
        plan: Plan,
        choices: Choices,
        folder: Optional[Path],
        make_store: Callable[[], Any],
        *,
        breaks_at: int = 0,
        stop_here: Callable[[Step], None] = lambda _: None,
    ) -> None:
        fake = FakeFlowMaestro()
        if plan.seed is not None:
            plan.seed(fake)
        self.run: Run = Run(
            choices,
            plan.own,
            fake,
            plan.faults,
            folder,
            breaks_at=breaks_at,
            stop_here=stop_here,
        )
        fake.clock = SteadyClock(self.run.turns, fake)
        if plan.processes > 1:
            self.run.overtake = self._overtake
        self._plan = plan
        self._network = Network(self.run)
        shared = plan.store is not None and not opens_folder(plan.store)
        self._store = make_store() if shared else None
        self._deliveries: List[Delivery] = [Delivery()]
        self._begun = 0

    def play(self) -> List[Any]:
        """Call the task until each delivery has ended. Return their results.

        Raises `WrongRun` if one does not end, and `SearchError` if the search refuses a choice.
        """
        try:
            with override_transport(self._network), inherited(self.run.turns):
                while True:
                    left = [it for it in self._deliveries if not it.has_ended]
                    if not left:
                        return [it.result for it in self._deliveries]
                    self._call(left[0])
        except Stopped:
            refused = self.run.refused
        assert refused is not None  # noqa: S101 (only a refused choice stops a run)
        raise refused

    def _call(self, delivery: Delivery) -> None:
        run = self.run
        delivery.calls += 1
        process = Process(run, name_of(self._begun), delivery.calls)
        self._begun += 1
        ended = call(self._plan, process, self._network, self._store)
        if ended.error is not None:
            delivery.failures += 1
            self._tell(process, "raises", told(ended.error))
            if delivery.failures > MOST_FAILURES:
                what = f"the task does not end: call after call raises {told(ended.error)}"
                raise WrongRun(what, why_failed(run, ended.error), run) from ended.error
            self._pause(2.0 ** (delivery.failures - 1))
        elif ended.died:
            self._pause(1.0)
        else:
            self._tell(process, "returns", shown(ended.value))
            delivery.has_ended, delivery.result = True, ended.value

    def _pause(self, seconds: float) -> None:
        self.run.fake.clock.advance(seconds)

    def _tell(self, process: Process, what: str, outcome: str) -> None:
        place = self.run.steps[-1].place if self.run.steps else None
        if place is not None:
            step = Step(process.name, "end", what, place, what, outcome=outcome)
            self.run.steps.append(step)

    def _overtake(self) -> None:
        """Make the same call in another process, as an engine does that delivers a task twice.

        A coroutine function needs a thread of its own: an event loop already runs in this one.
        """
        delivery = Delivery()
        self._deliveries.append(delivery)
        if not is_async_task(self._plan.task):
            self._call(delivery)
            return
        raised: List[BaseException] = []

        def run() -> None:
            try:
                # In an empty context: that of an event loop would refuse another one.
                contextvars.Context().run(self._call, delivery)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        with self.run.fake.clock.blocked():
            thread.start()
            thread.join()
        for error in raised:
            raise error

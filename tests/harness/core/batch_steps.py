"""Stepping through a batch: what is asked, and what the world says to it."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterator, List

from flowmaestro_core.actions import Action, Send, Wait
from flowmaestro_core.executions.batch import BatchMachine
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.stepping import Stepper, a_context, an_envelope, an_error

EPOCH = "Sun, 06 Nov 1994 08:49:37 GMT"
DAY_SPENT = an_error("rate_limit_exceeded", window="day", retry_after=5)
NEARLY_SPENT = {
    "Date": EPOCH,
    "X-RateLimit-Limit": "60",
    "X-RateLimit-Remaining": "1",
    "X-RateLimit-Reset": str(784111777 + 10),
}


class BatchStepper(Stepper):
    """Checks after each event the promises that `BatchMachine` lists beside its table."""

    machine: BatchMachine

    def _check(self, action: Action) -> None:
        super()._check(action)
        state, known = self.machine.state, self.machine._rows
        if isinstance(action, Send):
            assert known.ledger.may_send, "a request goes out before the journal is written"
        if state == "reading baseline":
            assert known.needs_baseline, "the baseline is read again"
        if state == "starting":
            assert not known.needs_baseline, "a start goes out before the baseline is known"
        if state in ("looking up", "done"):
            assert not known.active.by_row, f"{state} while executions run"
            assert not known.starts.queue, f"{state} while rows wait for their start"
        if state == "done":
            assert not known.in_doubt, "done while rows are in doubt"
            assert not known.outcomes.undelivered, "done before all outcomes are delivered"


def stepping(many: Any, **options: Any) -> Stepper:
    assert isinstance(many, Batch)
    machine = machine_for(many, a_context(**options), "token")
    return BatchStepper(machine)


def waiting(*ids: str, **more: Any) -> Stepper:
    stepper = stepping(Executions.wait_many(ids, **more))
    stepper.start()
    return stepper


def running(inputs: Any, **more: Any) -> Stepper:
    options = more.pop("options", {})
    stepper = stepping(Workflows.run_many("wf_1", inputs, **more), **options)
    stepper.start()
    return stepper


def numbered() -> Iterator[Dict[str, Any]]:
    return ({"n": n} for n in itertools.count())


def asked(stepper: Stepper) -> str:
    """What the request under way is about: the last part of its path but `execute`."""
    assert isinstance(stepper.action, Send), stepper.action
    return stepper.action.request.url.rpartition("/")[2]


def starts(stepper: Stepper, execution_id: str, **headers: str) -> Any:
    assert asked(stepper) == "execute"
    return stepper.replies(202, an_envelope({"execution_id": execution_id}), headers)


def says(stepper: Stepper, status: str, **headers: str) -> Any:
    return stepper.replies(200, an_envelope({"id": asked(stepper), "status": status}), headers)


def until_asked(stepper: Stepper) -> Stepper:
    while isinstance(stepper.action, Wait):
        stepper.waits()
    return stepper


def ids(stepper: Stepper) -> List[Any]:
    return [item.execution_id for item in stepper.items]


def errors(stepper: Stepper) -> List[Any]:
    return [item.error for item in stepper.items if item.error is not None]

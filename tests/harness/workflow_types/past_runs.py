"""Gives workflows of a fake past runs."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, Optional, Tuple

from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing.fake.model.executions import Execution

_NUMBERS = itertools.count(1)


def add_runs(
    fake: FakeFlowMaestro,
    workflow_id: str,
    given: Iterable[Any],
    *,
    at: float = -86_400.0,
    outputs: Optional[Any] = None,
    status: str = "completed",
) -> None:
    """Add a run for each of `given`, a second apart; the first at `at`, seconds of the fake."""
    workflow = fake.workflows[workflow_id]
    for number, inputs in enumerate(given):
        began = at + number
        run = Execution(
            f"0fa58000-0000-4000-8000-{next(_NUMBERS):012}",
            workflow,
            inputs,
            began,
            status=status,
            outputs={} if outputs is None else outputs,
            started_at=began,
            completed_at=began,
        )
        fake.restore(run, taken=0)


def add_workflow(fake: FakeFlowMaestro, name: str, given: Iterable[Any], **more: Any) -> str:
    """Add a workflow with past runs, and return its id."""
    id = fake.workflow(name=name, inputs=more.pop("inputs", None))
    add_runs(fake, id, given, **more)
    return id


def only(fake: FakeFlowMaestro) -> FakeFlowMaestro:
    """Remove the workflows of a new fake and their runs, and return it."""
    fake._service.workflows.clear()
    fake._service.executions.clear()
    return fake


def gets(fake: FakeFlowMaestro) -> Tuple[int, int, int]:
    """Return how often lists of workflows, single workflows, and lists of executions were read."""
    paths = [it.path for it in fake.requests]
    lists, runs = (sum(it == path for it in paths) for path in ("/workflows", "/executions"))
    return lists, len(paths) - lists - runs, runs

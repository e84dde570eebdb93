"""An Airflow operator and its trigger: copy this file to `plugins/`.

pip install "apache-airflow>=3.3"

The state is in `task_state_store`, which survives the tries of a task instance. An id in XCom does
not: Airflow clears XCom before each try. A trigger must be importable outside of the DAG file,
so it is in a file of its own. With `deferrable=True` the worker is free while the workflow runs.
When a user marks the task as failed or clears it, `on_kill` cancels the execution; the death of
a worker or of the triggerer does not.

Triggers that begin within the same seconds wait with one `wait_many`, so a hundred of them read one
list of executions instead of polling each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.context import NEVER_EXPIRE
from airflow.triggers.base import BaseTrigger, TriggerEvent

from flowmaestro import AsyncFlowMaestroClient, Checkpoint, FlowMaestroClient


class RunWorkflowOperator(BaseOperator):
    """Run a workflow once, however often the task is tried."""

    template_fields = ("workflow_id", "inputs")
    state: Any = None

    def __init__(
        self,
        *,
        workflow_id: str,
        inputs: Mapping[str, Any],
        timeout: float = 3600,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workflow_id, self.inputs = workflow_id, inputs
        self.timeout, self.deferrable = timeout, deferrable

    def execute(self, context: Any) -> Any:
        """Start the workflow and follow it here, or leave that to the trigger."""
        store, name = context["task_state_store"], "flowmaestro"

        def save(state: Any) -> None:
            self.state = state
            store.set(name, state, retention=NEVER_EXPIRE)

        kept = Checkpoint(lambda: store.get(name), save, rerun=("failed",))
        ti = context["ti"]  # Its id is another one in each try.
        task = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"
        # Compares and swaps: `import stores`, of `docs/stores.md`, in `plugins/`, and
        # kept = stores.redis_checkpoint(task)
        of_task = {"inputs": {**self.inputs, "task": task}, "checkpoint": kept}
        with FlowMaestroClient() as client:
            if not self.deferrable:
                run = client.workflows.run(self.workflow_id, timeout=self.timeout, **of_task)
                return self.finish(context, dict(run))
            started = client.workflows.execute(self.workflow_id, **of_task)["data"]
        trigger = ExecutionTrigger(started["execution_id"], self.timeout)
        return self.defer(trigger=trigger, method_name="finish")  # It raises.

    def finish(self, context: Any, event: Mapping[str, Any]) -> Any:
        """Return the outputs of the ended execution."""
        if event["status"] != "completed":
            raise RuntimeError(event["error"])
        return event["outputs"]

    def on_kill(self) -> None:
        """Cancel what runs."""
        execution_id = (self.state or {}).get("execution_id")
        if execution_id:
            with FlowMaestroClient() as client:
                client.executions.cancel(execution_id)


GATHER = 5.0
"""Seconds that a trigger waits for others to wait with."""


class Group:
    """Triggers of one timeout that wait together."""

    gathering: dict[float, Group] = {}

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.ended: dict[str, asyncio.Future[Any]] = {}
        self.task = asyncio.create_task(self.follow())

    @classmethod
    async def wait(cls, execution_id: str, timeout: float) -> Any:
        """Return the ended execution."""
        group = cls.gathering.get(timeout) or cls.gathering.setdefault(timeout, cls(timeout))
        if execution_id not in group.ended:
            group.ended[execution_id] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(group.ended[execution_id])  # Others may wait for it, too.

    async def follow(self) -> None:
        """Wait for the executions of all triggers that have joined within `GATHER`."""
        try:
            await asyncio.sleep(GATHER)
            del self.gathering[self.timeout]
            async with AsyncFlowMaestroClient() as client:
                waiting = client.executions.wait_many(list(self.ended), timeout=self.timeout)
                async for outcome in waiting:
                    ended = self.ended[str(outcome.execution_id)]
                    if outcome.error is not None:
                        ended.set_exception(outcome.error)
                    else:
                        ended.set_result(outcome.execution)
        except Exception as error:
            for ended in self.ended.values():
                if not ended.done():
                    ended.set_exception(error)


class ExecutionTrigger(BaseTrigger):
    """Wait for an execution. A triggerer that takes over waits again."""

    def __init__(self, execution_id: str, timeout: float) -> None:
        super().__init__()
        self.execution_id, self.timeout = execution_id, timeout

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make the trigger again."""
        kwargs = {"execution_id": self.execution_id, "timeout": self.timeout}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the ended execution."""
        ended = await Group.wait(self.execution_id, self.timeout)
        yield TriggerEvent({key: ended[key] for key in ("status", "outputs", "error")})

    async def on_kill(self) -> None:
        """Cancel what runs; called when a user ends the task."""
        async with AsyncFlowMaestroClient() as client:
            await client.executions.cancel(self.execution_id)

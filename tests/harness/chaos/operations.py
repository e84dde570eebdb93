"""The operations: what a caller does, written once for blocking and async clients.

Each one is a coroutine function of a client that is awaited and of a `Task`. It claims what it is
told as it goes, so that what came before an error is held to account, too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Callable, Coroutine, Dict, List

from flowmaestro import ValidationError
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.chaos.claims import Answered, Cancelled, Claim, Ended, Gone, Said, Walked

QUICK, SLOW = "wf_chaos_quick", "wf_chaos_slow"
AGENT = "agent_chaos"
POLL = 0.05
WAIT = 4.0
"""Seconds: between two questions about an execution, and for a whole wait."""

HOOK = "https://hooks.example.com/chaos"


@dataclass
class Task:
    """One operation of one worker: `mark` is in all that it sends.

    An awaiting caller leaves it after `patience` seconds, if it is not done by then.
    """

    kind: str
    mark: str
    rng: random.Random
    patience: float
    claims: List[Claim] = field(default_factory=list)

    def answered(self, method: str, path: str, reply: Any) -> Any:
        """Claim a reply, and give back its data."""
        self.claims.append(Answered(method, path, reply))
        return reply["data"]

    @property
    def inputs(self) -> Dict[str, Any]:
        return {"mark": self.mark}


async def _start(api: Any, task: Task, workflow: str = QUICK) -> str:
    reply = await api.workflows.execute(workflow, inputs=task.inputs, idempotency_key=task.mark)
    data = task.answered("POST", f"/workflows/{workflow}/execute", reply)
    return str(data["execution_id"])


async def _thread(api: Any, task: Task) -> str:
    reply = await api.agents.create_thread(AGENT, idempotency_key=f"{task.mark}-thread")
    return str(task.answered("POST", f"/agents/{AGENT}/threads", reply)["id"])


async def execute(api: Any, task: Task) -> None:
    await _start(api, task)


async def run(api: Any, task: Task) -> None:
    execution = await api.workflows.run(QUICK, task.inputs, timeout=WAIT)
    task.claims.append(Ended(task.mark, execution["id"], execution))


async def run_many(api: Any, task: Task) -> None:
    marks = [f"{task.mark}-{number}" for number in range(3)]
    runs = api.workflows.run_many(
        QUICK, [{"mark": mark} for mark in marks], poll_interval=POLL, timeout=WAIT
    )
    async with runs:
        async for outcome in runs:
            execution, mark = outcome.result(), marks[outcome.index]
            assert execution["inputs"]["mark"] == mark
            task.claims.append(Ended(mark, execution["id"], execution))


async def wait(api: Any, task: Task) -> None:
    started = await _start(api, task)
    execution = await api.executions.wait_for_completion(started, poll_interval=POLL, timeout=WAIT)
    task.claims.append(Ended(task.mark, started, execution))


async def stream(api: Any, task: Task) -> None:
    started = await _start(api, task)
    last: Any = None
    async with api.executions.stream(started) as events:
        async for event in events:
            assert last is None or last["type"] not in EXECUTION_TERMINAL, "an event after the end"
            last = event
    status = last["type"].partition(":")[2]
    task.claims.append(Ended(task.mark, started, {**last, "status": status}))


async def leave_stream(api: Any, task: Task) -> None:
    started = await _start(api, task, SLOW)
    async with api.executions.stream(started) as events:
        async for _ in events:
            break


async def cancel(api: Any, task: Task) -> None:
    started = await _start(api, task, SLOW)
    try:
        reply = await api.executions.cancel(started)
    except ValidationError:
        return  # it was quicker
    assert reply["data"]["status"] == "cancelled"
    task.claims.append(Cancelled(started))


async def send_message(api: Any, task: Task) -> None:
    thread = await _thread(api, task)
    reply = await api.threads.send_message(thread, task.mark, idempotency_key=task.mark)
    data = task.answered("POST", f"/threads/{thread}/messages", reply)
    task.claims.append(Said(task.mark, data["content"]))


async def stream_message(api: Any, task: Task) -> None:
    thread = await _thread(api, task)
    text, last = "", None
    async with api.threads.send_message_stream(thread, task.mark) as events:
        async for event in events:
            text += event.get("token", "")
            last = event
        assert last is not None
        assert last["type"] == "message:completed"
    task.claims += [Said(task.mark, text), Said(task.mark, last["content"])]


async def webhook(api: Any, task: Task) -> None:
    reply = await api.webhooks.create(
        name=task.mark, url=HOOK, events=["execution.failed"], idempotency_key=task.mark
    )
    path = "/webhooks/" + task.answered("POST", "/webhooks", reply)["id"]
    hook = path.rpartition("/")[2]
    task.answered("PATCH", path, await api.webhooks.update(hook, name=f"{task.mark}-2"))
    name = task.answered("GET", path, await api.webhooks.get(hook))["name"]
    assert name == f"{task.mark}-2"
    task.answered("POST", f"{path}/test", await api.webhooks.test(hook))
    await api.webhooks.delete(hook)
    task.claims.append(Gone(path))


async def list_executions(api: Any, task: Task) -> None:
    reply = await api.executions.list(page=task.rng.randint(1, 3), per_page=20)
    listed = task.answered("GET", "/executions", reply)
    if listed:
        chosen = task.rng.choice(listed)["id"]
        task.answered("GET", f"/executions/{chosen}", await api.executions.get(chosen))


async def walk(api: Any, task: Task) -> None:
    pages = api.workflows.iterate(per_page=task.rng.randint(2, 9))
    task.claims.append(Walked([row["id"] async for row in pages]))


Operation = Callable[[Any, Task], Coroutine[Any, Any, None]]

OPERATIONS: Dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        execute,
        run,
        run_many,
        wait,
        stream,
        leave_stream,
        cancel,
        send_message,
        stream_message,
        webhook,
        list_executions,
        walk,
    )
}

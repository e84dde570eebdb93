"""Small tasks with one mistake each, as users have made them, and the word for it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

from flowmaestro import AsyncFlowMaestroClient, Checkpoint, FlowMaestroClient
from flowmaestro.testing import Effect
from tests.harness.crashes.engines import CeleryTask, Runs, TaskStates, op_context
from tests.harness.crashes.stores import (
    FakeRedis,
    JsonStore,
    SqliteStore,
    TornJsonStore,
    UnflushedStore,
    checkpoint_in,
)

WORKFLOW = "wf_123"
ORDER = {"id": 7, "customer": "ada"}


class Mistake(NamedTuple):
    """A task, the options of `every_crash` for it, and what must be found."""

    task: Callable[..., Any]
    word: str
    options: Dict[str, Any]
    deaths: int = 1


def post(order: Any) -> None:
    """Post an order to the user's own system."""


def charge(order: Any) -> None:
    """Charge a customer in the user's own system."""


# Plain scripts


def saves_after_the_start(client: Any, order: Any, store: Any) -> Any:
    execution = store.get(f"order-{order['id']}")
    if execution is None:
        execution = client.workflows.execute(WORKFLOW, inputs=order)["data"]["execution_id"]
        store.put(f"order-{order['id']}", execution)
    return client.executions.wait_for_completion(execution)["outputs"]


def makes_a_random_key(client: Any, order: Any, store: Any) -> Any:
    checkpoint = checkpoint_in(store, f"run-{uuid.uuid4()}")
    return client.workflows.run(WORKFLOW, order, checkpoint=checkpoint)["outputs"]


def gives_two_orders_one_key(client: Any, orders: List[Any], store: Any) -> Any:
    done = []
    for order in orders:
        key = order["customer"]
        if store.get(key) is None:
            store.put(key, "begun")
            run = client.workflows.run(WORKFLOW, order)
            store.put(key, json.dumps(run["outputs"]))
        done.append(store.get(key))
    return done


def trusts_a_buffer(client: Any, order: Any, store: Any) -> Any:
    key = f"order-{order['id']}"
    checkpoint = Checkpoint(lambda: store.get(key), lambda state: store.put(key, state))
    return client.workflows.run(WORKFLOW, order, checkpoint=checkpoint)["outputs"]


def writes_over_its_file(client: Any, order: Any, store: Any) -> Any:
    key = f"order-{order['id']}"
    checkpoint = Checkpoint(lambda: store.get(key), lambda state: store.put(key, state))
    return client.workflows.run(WORKFLOW, order, checkpoint=checkpoint)["outputs"]


def names_its_journal_by_chance(client: Any, rows: List[Any], folder: Path) -> Any:
    journal = folder / f"{uuid.uuid4()}.sqlite3"
    batch = client.workflows.run_many(WORKFLOW, rows, journal=str(journal))
    return sorted(outcome.inputs["n"] for outcome in batch)


# Celery and Redis


@CeleryTask
def celery_keeps_the_id(self: Any, customer: str, redis: Any) -> Any:
    with FlowMaestroClient() as client:
        kept = redis.get(self.request.id)
        if kept is None:
            inputs = {"customer": customer, "task": self.request.id}
            started = client.workflows.execute(WORKFLOW, inputs=inputs)["data"]["execution_id"]
            redis.set(self.request.id, started)
            kept = started.encode()
        return client.executions.wait_for_completion(kept.decode())["outputs"]


def celery_saves_after_the_start(store: Any) -> Any:
    return celery_keeps_the_id.apply(args=("ada", store), task_id="task-1").get()


@CeleryTask
def celery_counts_deliveries(self: Any, customer: str, redis: Any) -> Any:
    key = f"{self.request.id}:{self.request.delivery}"

    def load() -> Any:
        return json.loads(redis.get(key) or "null")

    checkpoint = Checkpoint(load, lambda state: redis.set(key, json.dumps(state)))
    with FlowMaestroClient() as client:
        return client.workflows.run(WORKFLOW, {"to": customer}, checkpoint=checkpoint)["outputs"]


def celery_key_of_the_delivery(store: Any, attempt: int) -> Any:
    task = celery_counts_deliveries
    return task.apply(args=("ada", store), task_id="task-1", delivery=attempt).get()


def redis_does_not_compare(client: Any, order: Any, store: Any) -> Any:
    def load() -> Any:
        return json.loads(store.get("order-7") or "null")

    checkpoint = Checkpoint(load, lambda state: store.set("order-7", json.dumps(state)))
    return client.workflows.run(WORKFLOW, order, checkpoint=checkpoint)["outputs"]


# Airflow


def airflow_key_of_the_try(client: Any, store: Any, attempt: int) -> Any:
    ti = f"dag/run/report/{attempt}"  # The id of a task instance is another one in each try.
    checkpoint = Checkpoint(
        lambda: store.get(ti), lambda state: store.set(ti, state, retention=None)
    )
    return client.workflows.run(WORKFLOW, {"task": "report"}, checkpoint=checkpoint)["outputs"]


class XCom(TaskStates):
    """What Airflow clears before each try."""

    def begin(self) -> None:
        self.kept.clear()


def airflow_keeps_it_in_xcom(client: Any, store: Any) -> Any:
    store.begin()  # Airflow does this.
    checkpoint = Checkpoint(
        lambda: store.get("state"), lambda state: store.set("state", state, retention=None)
    )
    return client.workflows.run(WORKFLOW, {"task": "report"}, checkpoint=checkpoint)["outputs"]


# Dagster


def dagster_checkpoint(context: Any) -> Checkpoint:
    def load() -> Any:
        tags = context.instance.get_run_by_id(context.run_id).tags
        return json.loads(tags["state"]) if "state" in tags else None

    def save(state: Any) -> None:
        context.instance.add_run_tags(context.run_id, {"state": json.dumps(state)})

    return Checkpoint(load, save)


def dagster_charges_before_it_saves(store: Any) -> Any:
    context = op_context(store, {"customer": "ada"})
    with FlowMaestroClient() as client:
        checkpoint = dagster_checkpoint(context)
        run = client.workflows.run(WORKFLOW, {"task": "ada"}, checkpoint=checkpoint)
    if "charged" not in context.instance.get_run_by_id(context.run_id).tags:
        charge(context.op_config["customer"])
        context.instance.add_run_tags(context.run_id, {"charged": "yes"})
    return run["outputs"]


def dagster_saves_before_it_posts(store: Any) -> Any:
    context = op_context(store, {"customer": "ada"})
    with FlowMaestroClient() as client:
        checkpoint = dagster_checkpoint(context)
        run = client.workflows.run(WORKFLOW, {"task": "ada"}, checkpoint=checkpoint)
    if "posted" not in context.instance.get_run_by_id(context.run_id).tags:
        context.instance.add_run_tags(context.run_id, {"posted": "yes"})
        post(run["outputs"])
    return run["outputs"]


# Async


async def shares_a_checkpoint(orders: List[Any], folder: Path) -> Any:
    async with AsyncFlowMaestroClient() as client:
        done = []
        for order in orders:
            checkpoint = Checkpoint.file(folder / f"{order['customer']}.json")
            run = await client.workflows.run(WORKFLOW, order, checkpoint=checkpoint)
            done.append(run["outputs"])
        return done


async def puts_the_time_into_the_inputs(client: Any, folder: Path) -> Any:
    checkpoint = Checkpoint.file(folder / "report.json")
    inputs = {"report": "daily", "now": time.time_ns()}
    return (await client.workflows.run(WORKFLOW, inputs, checkpoint=checkpoint))["outputs"]


async def starts_rows_side_by_side(client: Any, store: Any) -> Any:
    async def one(row: int) -> Any:
        if store.get(row) is None:
            reply = await client.workflows.execute(WORKFLOW, inputs={"row": row})
            store[row] = reply["data"]["execution_id"]
        run = await client.executions.wait_for_completion(store.get(row))
        return run["outputs"]

    return await asyncio.gather(*(one(row) for row in range(2)))


SAVE_FIRST = "save before you start"
KEY_CHANGES = "the key changes between two calls"
SHARED_KEY = "two rows have one key"
EFFECT_FIRST = "an effect before its save"
SAVE_BEFORE_EFFECT = "a save before its effect"
LOST_SAVE = "the store loses a save"
INPUTS_CHANGE = "the inputs change between two calls"
NO_COMPARE = "two processes loaded the same state"

ONE = {"args": (ORDER,)}
TWO = {"args": ([ORDER, {**ORDER, "id": 8}],)}
MISTAKES = (
    Mistake(saves_after_the_start, SAVE_FIRST, {**ONE, "store": SqliteStore}),
    Mistake(makes_a_random_key, KEY_CHANGES, {**ONE, "store": JsonStore}),
    Mistake(gives_two_orders_one_key, SHARED_KEY, {**TWO, "store": SqliteStore, "rows": 2}, 0),
    Mistake(trusts_a_buffer, LOST_SAVE, {**ONE, "store": UnflushedStore}),
    Mistake(writes_over_its_file, LOST_SAVE, {**ONE, "store": TornJsonStore, "lines": True}),
    Mistake(
        names_its_journal_by_chance,
        KEY_CHANGES,
        {"args": ([{"n": 1}, {"n": 2}],)},
    ),
    Mistake(celery_saves_after_the_start, SAVE_FIRST, {"store": FakeRedis}),
    Mistake(celery_key_of_the_delivery, KEY_CHANGES, {"store": FakeRedis}),
    Mistake(redis_does_not_compare, NO_COMPARE, {**ONE, "store": FakeRedis, "processes": 2}),
    Mistake(airflow_key_of_the_try, KEY_CHANGES, {"store": TaskStates}),
    Mistake(airflow_keeps_it_in_xcom, LOST_SAVE, {"store": XCom}),
    Mistake(
        dagster_charges_before_it_saves,
        EFFECT_FIRST,
        {"store": Runs, "effects": [Effect(charge, exactly_once=True)]},
    ),
    Mistake(dagster_saves_before_it_posts, SAVE_BEFORE_EFFECT, {"store": Runs, "effects": [post]}),
    Mistake(shares_a_checkpoint, SHARED_KEY, TWO, 0),
    Mistake(puts_the_time_into_the_inputs, INPUTS_CHANGE, {"backend": "trio"}),
    Mistake(starts_rows_side_by_side, SAVE_FIRST, {"store": dict}),
)

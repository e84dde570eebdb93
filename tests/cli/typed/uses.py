"""What type checkers are to accept, and what not: an ignored error that is none is an error."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from tests.cli.typed.flows import run_class_, run_greet_a_customer, run_greet_a_customer_async


def use(client: FlowMaestroClient) -> str:
    run_class_(client, {"anything": 1})
    done = run_greet_a_customer(client, {"name": "Ada", "class": "gold", "first-seen": None})
    return done["status"]


async def use_async(client: AsyncFlowMaestroClient) -> None:
    await run_greet_a_customer_async(client, {"name": "Ada", "class": "silver", "tags": ["a"]})


def misuse(client: FlowMaestroClient) -> None:
    run_greet_a_customer(client, {"nmae": "Ada", "class": "gold"})  # type: ignore[typeddict-item]
    run_greet_a_customer(client, {"name": "Ada"})  # type: ignore[typeddict-item]
    run_greet_a_customer(client, {"name": "Ada", "class": "no"})  # type: ignore[typeddict-item]
    run_greet_a_customer(client, {"name": 1, "class": "gold"})  # type: ignore[typeddict-item]

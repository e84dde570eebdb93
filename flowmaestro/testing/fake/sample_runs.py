"""A workflow whose past runs show its inputs, for `flowmaestro serve` and `flowmaestro demo`."""

from __future__ import annotations

from typing import Any, Dict

from flowmaestro.testing.fake.model.executions import Execution, InputField
from flowmaestro.testing.fake.model.plans import Node
from flowmaestro.testing.fake.model.seeds import DAY
from flowmaestro.testing.fake.scripting import Scripts

INVOICES_ID = "0fa11000-0000-4000-8000-000000000031"
PAST_RUNS = 40
"""So many that `flowmaestro types --check` can tell a change from chance after nine newer ones."""


def add_invoices(fake: Scripts) -> None:
    """Add the workflow "Send invoice" to a fake, and its runs of the last days.

    Each run has the inputs `customer` and `amount`, one in four a `note`.
    """
    id = fake.workflow(
        INVOICES_ID,
        name="Send invoice",
        nodes=(Node("render", name="Render invoice", seconds=0.3), Node("send", name="Send it")),
        inputs={
            "customer": InputField(label="Customer", required=True),
            "amount": InputField("number", label="Amount in EUR", required=True),
            "note": InputField(label="Note"),
        },
        outputs=_sent,
    )
    workflow = fake.workflows[id]
    for number in range(PAST_RUNS):
        inputs = {"customer": f"cus_{number % 7 + 1}", "amount": 20 + number}
        if number % 4 == 0:
            inputs["note"] = "Thank you for your order."
        began = (number - PAST_RUNS) * DAY / 10
        run = Execution(
            f"0fa11000-0000-4000-8000-{number + 1000:012}",
            workflow,
            inputs,
            began,
            status="completed",
            outputs=_sent(inputs),
            started_at=began,
            completed_at=began + 1.0,
        )
        fake.restore(run, taken=0)


def _sent(inputs: Dict[str, Any]) -> Dict[str, Any]:
    """Return the outputs of a run. Without an amount, the invoice is of nothing, and is sent."""
    amount = inputs.get("amount", "{{amount}}")
    return {"message": f"Sent an invoice of {amount} EUR", "url": "https://example.com/invoice"}

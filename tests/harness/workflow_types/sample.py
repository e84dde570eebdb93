"""An account whose keys are known in every way, and the file of its types."""

from __future__ import annotations

from typing import Any, Dict, List

from flowmaestro.workflow_types.evidence import Run, types_of

BEGIN = 1_764_000_000.0
ID = "0fa11000-0000-4000-8000-000000000001"


def runs_of(*given: Dict[str, Any], outputs: Any = None) -> List[Run]:
    return [Run(BEGIN + 3600 * at, inputs, outputs or {}) for at, inputs in enumerate(given)]


INVOICES = runs_of(
    *({"customer": "cus_1", "amount": at, "note": None if at % 2 else "x"} for at in range(60)),
    *({"customer": "cus_2", "amount": 1.5, "note": "y", "urgent": True} for _ in range(38)),
    {"customer": "cus_3", "amount": 3, "note": "z", "amont": 3},
    {"customer": "cus_3", "amount": 3, "note": "z", "currency": "EUR"},
    outputs={"url": "https://example.com/1", "pages": [1, 2]},
)
SCHEMA = {
    "type": "object",
    "properties": {
        "email": {"type": "string", "description": "Where to\nwrite to."},
        "status": {"enum": ["new", "old"]},
        "class": {"type": ["integer", "null"]},
    },
    "required": ["email"],
}
ACCOUNT = [
    types_of({"id": ID, "name": "Send invoice"}, INVOICES, outputs=True),
    types_of({"id": "wf_2", "name": "Größe melden", "input_schema": SCHEMA}, INVOICES),
    types_of({"id": "wf_3", "name": "請求書", "inputs": {"input1": {"label": "E-Mail"}}}, []),
    types_of({"id": "wf_4", "name": "No inputs"}, runs_of({}, {}), outputs=True),
]
TEXT = '''\
# fmt: off
# isort: skip_file
# ruff: noqa
"""Workflows of a FlowMaestro account, and the types of their inputs.

`flowmaestro types` has written this file. Do not edit it: run the command again. "As
seen" is what completed runs were given. The server does not promise it.
"""

from __future__ import annotations

from typing import Any, List, Literal, Mapping, Optional, TypedDict

from flowmaestro.types import WorkflowId

_GrosseMeldenInputsRequired = TypedDict(
    "_GrosseMeldenInputsRequired",
    {
        "email": str,  # Where to write to.
    },
)
_GrosseMeldenInputsOptional = TypedDict(
    "_GrosseMeldenInputsOptional",
    {
        "class": Optional[int],
        "status": Literal["new", "old"],
    },
    total=False,
)


class GrosseMeldenInputs(_GrosseMeldenInputsRequired, _GrosseMeldenInputsOptional):
    """Inputs of "Größe melden". The server declares them."""


GROSSE_MELDEN: WorkflowId[GrosseMeldenInputs] = WorkflowId("wf_2")


class NoInputsInputs(TypedDict):
    """Inputs of "No inputs", as seen in its last 2 completed runs.

    Created from 2025-11-24T16:00:00Z to 2025-11-24T17:00:00Z.
    """


class NoInputsOutputs(TypedDict):
    """Outputs of "No inputs", as seen in its last 2 completed runs.

    Created from 2025-11-24T16:00:00Z to 2025-11-24T17:00:00Z.
    """


NO_INPUTS: WorkflowId[NoInputsInputs, NoInputsOutputs] = WorkflowId("wf_4")


class _SendInvoiceInputsRequired(TypedDict):
    amount: float
    customer: str
    note: Optional[str]


class SendInvoiceInputs(_SendInvoiceInputsRequired, total=False):
    """Inputs of "Send invoice", as seen in its last 100 completed runs.

    Created from 2025-11-24T16:00:00Z to 2025-11-28T19:00:00Z.
    """

    amont: float  # seen in 1 of 100; perhaps a mistake for amount
    currency: str  # seen in 1 of 100; perhaps a mistake
    urgent: bool  # seen in 38 of 100


class SendInvoiceOutputs(TypedDict, total=False):
    """Outputs of "Send invoice", as seen in its last 100 completed runs.

    Created from 2025-11-24T16:00:00Z to 2025-11-28T19:00:00Z.
    """

    pages: List[float]
    url: str


SEND_INVOICE: WorkflowId[SendInvoiceInputs, SendInvoiceOutputs] = WorkflowId(
    "0fa11000-0000-4000-8000-000000000001"
)


WORKFLOW_WF3: WorkflowId[Mapping[str, Any]] = WorkflowId("wf_3")
"""Inputs of "請求書" are not known.

The server declares none, and no completed run was seen.
Their labels on the server: E-Mail.
"""
'''

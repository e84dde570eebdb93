"""The calls that the tests of `CallMachine` make, and how they begin."""

from __future__ import annotations

from typing import Any, Dict, Optional

from flowmaestro_core.calls.call import Call, CallMachine, Confirmation
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.payloads import shapes
from tests.harness.core.stepping import Stepper, a_context, an_error

GET = Call[Any]("GET", "/workflows/wf_1")
EXECUTE = Call[Any]("POST", "/workflows/wf_1/execute", b'{"inputs":{}}', repeatable=False)
ASK = Call[Any]("GET", "/executions/ex_1", shape=shapes.execution)
CANCEL = Call[Any](
    "POST",
    "/executions/ex_1/cancel",
    confirmation=Confirmation(400, ASK, lambda reply: reply["data"]["status"] == "cancelled"),
)
DELETE = Call[Any](
    "DELETE",
    "/threads/th_1",
    shape=lambda body: shapes.deleted("th_1", body),
    confirmation=Confirmation(404),
)
TRANSIENT = [408, 500, 502, 503, 504]
NOT_RETRIED = "not retried: the server may have processed this non-idempotent request"


def calling(call: Call[Any], options: Optional[Dict[str, Any]] = None, **more: Any) -> Stepper:
    machine = CallMachine(call, a_context(**(options or {})), "token", **more)
    return Stepper(machine, once=lambda request: not call.repeatable)


def started(call: Call[Any], options: Optional[Dict[str, Any]] = None, **more: Any) -> Stepper:
    stepper = calling(call, options, **more)
    stepper.start()
    return stepper


def opening(call: Call[Any] = GET, **more: Any) -> Stepper:
    return started(call, stream=True, **more)


def refused_after(call: Call[Any], refusal: int, lost: Optional[int] = None) -> Stepper:
    """The first reply is lost (or is a 5xx), the repeat is refused."""
    stepper = started(call)
    if lost is None:
        stepper.fails(Phase.MAYBE_PROCESSED)
    else:
        stepper.replies(lost)
    stepper.waits()
    stepper.replies(refusal, an_error("refused"), {"X-RateLimit-Remaining": "3"})
    return stepper

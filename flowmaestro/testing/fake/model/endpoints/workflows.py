"""The endpoints of workflows, their executions, and the triggers that start them."""

from __future__ import annotations

from flowmaestro.testing.fake.model.dialects import page_of
from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.refusals import Refusal, invalid, unreadable
from flowmaestro.testing.fake.model.replies import Answer
from flowmaestro.testing.fake.model.routing import EndpointRoute, Outcome, every, one
from flowmaestro.testing.fake.model.service import Service


def execute_workflow(service: Service, call: EndpointRequest) -> Outcome:
    """Start an execution."""
    workflow = service.workflows.find(call.id, "execution_failed")
    try:
        inputs = service.dialect.inputs(call, workflow.inputs)
    except Refusal as refusal:
        is_object = isinstance(call.body.get("inputs"), (dict, list))
        if service.dialect.stores_bad_inputs and not is_object:
            service.store_bad_inputs(workflow, refusal.message)
        raise
    return Answer(202, {"data": service.dialect.started(service.start(workflow, inputs))})


def list_executions(service: Service, call: EndpointRequest) -> Outcome:
    """List executions, the newest first, with the filters that the modelled server applies.

    Raises a 500 refusal for a page on which inputs are that the server cannot read.
    """
    workflow_id = call.query.get("workflow_id")
    number, size = page_of(call.query)
    error = service.bad_inputs_among(workflow_id, (number - 1) * size, number * size)
    if error is not None:
        raise unreadable(500, error)
    if workflow_id is not None and workflow_id not in service.workflows:
        service.dialect.check_id(workflow_id)
    return Answer(200, service.dialect.list_executions(service.newest_executions(), call.query))


def cancel_execution(service: Service, call: EndpointRequest) -> Outcome:
    """Cancel an execution.

    Raises a 400 refusal if the execution has ended or is paused.
    """
    execution = service.executions.find(call.id, "internal_error")
    if not execution.can_be_cancelled:
        raise invalid(f"Execution cannot be cancelled. Current status: {execution.status}")
    service.runner.cancel(execution)
    return Answer(200, {"data": service.dialect.cancelled(execution)})


def stream_execution(service: Service, call: EndpointRequest) -> Outcome:
    """Open the stream of an execution.

    It begins with `connected`. If the execution has ended, it has only the terminal event instead.
    """
    execution = service.executions.find(call.id)
    stream = service.subscribe(execution.id)
    if execution.ended:
        stream.publish(f"execution:{execution.status}", service.dialect.ended(execution))
        stream.finish()
    else:
        stream.publish("connected", service.dialect.connected(execution))
    return stream


def list_triggers(service: Service, call: EndpointRequest) -> Outcome:
    """List triggers. The deployed server does not filter them by workflow."""
    triggers = service.triggers.every()
    wanted = call.query.get("workflow_id")
    if wanted is not None and service.dialect.filters_triggers:
        triggers = [trigger for trigger in triggers if trigger.workflow.id == wanted]
    rows = [service.dialect.trigger(trigger) for trigger in triggers]
    return Answer(200, service.dialect.listed(rows, call.query))


def execute_trigger(service: Service, call: EndpointRequest) -> Outcome:
    """Start the trigger's workflow with the given inputs.

    Raises a 400 refusal if the trigger is disabled.
    """
    trigger = service.triggers.find(call.id)
    if not trigger.enabled:
        raise Refusal(400, "validation_error", "Trigger is disabled", {"trigger_id": trigger.id})
    inputs = service.dialect.inputs(call, {})
    execution = service.start(trigger.workflow, inputs, trigger_id=trigger.id)
    trigger.times_fired += 1
    trigger.last_fired_at = service.model_time.now
    return Answer(202, {"data": {**service.dialect.started(execution), "trigger_id": trigger.id}})


_EXECUTION = "/executions/{id}"
ROUTES = (
    EndpointRoute("GET", "/workflows", every("workflows", "workflow_row"), ("workflows:read",)),
    EndpointRoute("GET", "/workflows/{id}", one("workflows", "workflow"), ("workflows:read",)),
    EndpointRoute(
        "POST",
        "/workflows/{id}/execute",
        execute_workflow,
        ("workflows:read", "workflows:execute"),
    ),
    EndpointRoute("GET", "/executions", list_executions, ("executions:read",)),
    EndpointRoute("GET", _EXECUTION, one("executions", "execution"), ("executions:read",)),
    EndpointRoute(
        "POST", f"{_EXECUTION}/cancel", cancel_execution, ("executions:read", "executions:cancel")
    ),
    EndpointRoute("GET", f"{_EXECUTION}/events", stream_execution, ("executions:read",)),
    EndpointRoute("GET", "/triggers", list_triggers, ("triggers:read",)),
    EndpointRoute(
        "POST", "/triggers/{id}/execute", execute_trigger, ("triggers:read", "triggers:execute")
    ),
)

"""The contents of a new fake: resources and keys for the examples in the documentation.

They include those in the documentation of version 0.1.0.
"""

from __future__ import annotations

from typing import Any, Dict, List

from flowmaestro.testing.fake.model.agents import Agent, Memory, Message, Thread
from flowmaestro.testing.fake.model.executions import (
    Execution,
    InputField,
    Trigger,
    Workflow,
    error_of_nodes,
)
from flowmaestro.testing.fake.model.keys import READ_SCOPES, KeyRing
from flowmaestro.testing.fake.model.knowledge import KnowledgeBase
from flowmaestro.testing.fake.model.plans import Node, NodeStep
from flowmaestro.testing.fake.model.service import Service
from flowmaestro.testing.fake.model.webhooks import Webhook

TEST_KEY = "fm_test_embedded"
"""A test key with every scope; the deployed server refuses test keys."""
READ_ONLY_KEY = "fm_live_read_only"
EXPIRED_KEY = "fm_live_expired"
REVOKED_KEY = "fm_live_revoked"
DOCUMENTED_KEYS = ("fm_live_...", "fm_live_your_api_key", "...")
"""Keys that examples in the documentation use, word for word."""

FAILING_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000001"
"""A workflow that fails at its second node."""
PAUSING_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000002"
"""A workflow that waits for a human forever."""
STRICT_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000003"
"""A workflow that requires the input `email`, on which `shapes="documented"` insists."""
ENABLED_TRIGGER_ID = "0fa11000-0000-4000-8000-000000000011"
DISABLED_TRIGGER_ID = "0fa11000-0000-4000-8000-000000000012"
SECOND_AGENT_ID = "0fa11000-0000-4000-8000-000000000021"

WEBHOOK_SECRET = "whsec_embedded"  # noqa: S105 - of a fake
"""The secret of the webhooks `wh_abc123` and `wh_123`."""

DAY = 86_400.0
PAST_EXECUTIONS = 25
"""So many that their list has a second page: a page has 20 unless the request says otherwise."""

_PASSWORDS = """To reset your password, open the sign-in page and choose "Forgot password?". \
We send a reset link to your email address; it is valid for one hour.

If no reset email arrives, look into the spam folder, then ask your administrator to reset the \
password for you under Settings > Users.

Passwords need at least twelve characters. Changing a password signs you out everywhere."""
_BILLING = """Invoices are sent on the first of each month. You can change the billing address \
under Settings > Billing.

Annual plans can be refunded within thirty days of payment."""
_ORDERS = """An order ships within two working days; the tracking number comes by email.

Returns are free within fourteen days. Start a return from the order's page."""


def add_documented_resources(service: Service, keys: KeyRing) -> None:
    """Add the resources of a new fake to an empty service, and to `keys` all keys but `api_key`."""
    for key in (TEST_KEY, *DOCUMENTED_KEYS):
        keys.add(key)
    keys.add(READ_ONLY_KEY, READ_SCOPES)
    keys.add(EXPIRED_KEY, state="expired")
    keys.add(REVOKED_KEY, state="revoked")
    _add_workflows(service)
    _add_executions(service)
    _add_agents(service)
    _add_knowledge(service)
    _add_webhooks(service)


def _add_workflows(service: Service) -> None:
    hello = Workflow(
        "wf_123",
        "Hello",
        -30 * DAY,
        "Greets by name.",
        {"name": InputField(label="Name", description="Whom to greet.")},
        _one_after_another(
            Node("compose", "Compose greeting", "transform", 0.2),
            Node("out", "Output", "output", 0.1),
        ),
    )
    welcome = Workflow(
        "wf_abc123",
        "Welcome a customer",
        -29 * DAY,
        "Writes a welcome. A run reads customer_email, which the server lists as input1.",
        {
            "customer_email": InputField(label="Email", description="Where to write to."),
            "customer_name": InputField(label="Name", description="How to address them."),
            "name": InputField(label="Short name", description="Used when there is no other."),
        },
        _one_after_another(
            Node("fetch_customer", "Fetch customer", "http", 0.8),
            Node("write_welcome", "Write welcome", "llm", 1.2),
            Node("send_email", "Send email", "email", 0.6),
        ),
        _welcome,
    )
    failing = Workflow(
        FAILING_WORKFLOW_ID,
        "Always fails",
        -28 * DAY,
        "Calls a service that is never there.",
        {},
        _one_after_another(
            Node("prepare", "Prepare", "transform", 0.2),
            Node("call", "Call service", "http", 0.3, error="Service answered 503"),
        ),
    )
    pausing = Workflow(
        PAUSING_WORKFLOW_ID,
        "Asks a human",
        -27 * DAY,
        "Waits for an approval.",
        {},
        _one_after_another(
            Node("draft", "Draft", "llm", 0.2), Node("approve", "Approve", "humanReview")
        ),
    )
    strict = Workflow(
        STRICT_WORKFLOW_ID,
        "Wants an email (the server does not check)",
        -26 * DAY,
        "Declares a required address, but starts without one, as on the deployed server.",
        {"email": InputField(label="Email", required=True)},
        _one_after_another(Node("check", "Check address", "transform", 0.1)),
    )
    for workflow in (hello, welcome, failing, pausing, strict):
        service.workflows[workflow.id] = workflow
    for trigger in (
        Trigger("trigger_abc123", "User signed up", "webhook", welcome, -20 * DAY),
        Trigger("trigger_123", "Order placed", "webhook", hello, -20 * DAY),
        Trigger(ENABLED_TRIGGER_ID, "Every morning", "schedule", hello, -19 * DAY),
        Trigger(DISABLED_TRIGGER_ID, "Old form", "webhook", hello, -18 * DAY, enabled=False),
    ):
        service.triggers[trigger.id] = trigger


def _one_after_another(*nodes: Node) -> List[NodeStep]:
    return [(node,) for node in nodes]


def _welcome(inputs: Dict[str, Any]) -> Dict[str, Any]:
    name = inputs.get("customer_name") or inputs.get("name") or "customer"
    return {"message": f"Welcome, {name}!", "sent_to": inputs.get("customer_email")}


def _add_executions(service: Service) -> None:
    cast = [service.workflows[id] for id in ("wf_123", "wf_abc123", FAILING_WORKFLOW_ID)]
    for number in range(PAST_EXECUTIONS):
        workflow, began = cast[number % len(cast)], -DAY + number * 600.0
        failed = workflow.id == FAILING_WORKFLOW_ID
        broken = {
            node.id: service.dialect.node_error or node.error
            for (node,) in workflow.nodes
            if node.error
        }
        inputs = {"name": f"Visitor {number}"}
        execution = Execution(
            service.new_id(),
            workflow,
            inputs,
            began,
            status="failed" if failed else "completed",
            outputs=None if failed else workflow.outputs(inputs),
            error=error_of_nodes(broken),
            failed_nodes=broken,
            started_at=began,
            completed_at=began + 1.0,
        )
        service.executions[execution.id] = execution
    inputs = {"customer_email": "john@example.com", "customer_name": "John Doe"}
    for id in ("exec_xyz789", "exec_123"):
        running = Execution(id, service.workflows["wf_abc123"], inputs, 0.0)
        service.executions[id] = running
        service.runner.start(running, pickup=0.0)


def _add_agents(service: Service) -> None:
    for agent_id, thread_id in (("agent_abc123", "thread_xyz789"), ("agent_123", "thread_123")):
        helper = Agent(
            agent_id, "Support", "gpt-4o", -25 * DAY, "Answers customers.", reply=_support
        )
        for user, text, metadata in (
            ("user_456", "Wants to be written to in German. Has a bicycle.", {"plan": "pro"}),
            ("user_789", "Asked about refunds twice.", {}),
        ):
            helper.memories[user] = Memory(user, text, metadata, -10 * DAY, -5 * DAY)
        thread = Thread(thread_id, helper, {}, -3 * DAY)
        for role, content in (
            ("user", "Hello, I ordered a bicycle last week."),
            ("assistant", "Thank you for your order! How can I help?"),
        ):
            thread.messages.append(Message(service.new_id(), role, content, -3 * DAY))
        if service.dialect.keeps_thread_metadata:
            thread.metadata = {"user_id": "user_456"}
        service.agents[helper.id] = helper
        service.threads[thread.id] = thread
    service.agents[SECOND_AGENT_ID] = Agent(
        SECOND_AGENT_ID,
        "Writer",
        "claude-3-5-sonnet",
        -24 * DAY,
        "Writes texts.",
        provider="anthropic",
    )


def _support(text: str) -> str:
    asked = text.lower()
    if "order" in asked:
        return "Your order has shipped and should arrive on Thursday."
    if "story" in asked:
        return (
            "Once upon a time a small workflow set out to greet the world. "
            "It asked every node it met for a kind word, and when it came to its end "
            "it had so many that it needed a second page."
        )
    return f"You said: {text}"


def _add_knowledge(service: Service) -> None:
    for id in ("kb_abc123", "kb_123"):
        manual = KnowledgeBase(id, "Help center", "What customers ask.", -15 * DAY)
        manual.add_document("doc_passwords", "passwords.md", _PASSWORDS)
        manual.add_document("doc_billing", "billing.md", _BILLING)
        manual.add_document("doc_orders", "orders.md", _ORDERS)
        service.knowledge_bases[id] = manual


def _add_webhooks(service: Service) -> None:
    url, created = "https://hooks.example.com/flowmaestro", -12 * DAY
    for id, name, events in (
        ("wh_abc123", "Order desk", ["execution.completed", "execution.failed"]),
        ("wh_123", "Audit", ["execution.cancelled"]),
    ):
        service.webhooks[id] = Webhook(id, name, url, events, {}, WEBHOOK_SECRET, created, created)

"""What a fresh fake holds: every id and key that the documentation names, and some company."""

from __future__ import annotations

from typing import Any, Dict

from flowmaestro.testing.model.agents import Agent, Memory, Message, Thread
from flowmaestro.testing.model.executions import Execution, InputField, Trigger, Workflow
from flowmaestro.testing.model.keys import READ_SCOPES, KeyRing
from flowmaestro.testing.model.knowledge import KnowledgeBase
from flowmaestro.testing.model.plans import Node
from flowmaestro.testing.model.service import Service
from flowmaestro.testing.model.webhooks import Webhook

TEST_KEY = "fm_test_embedded"
"""A test key with every scope; the deployed server refuses test keys."""
READ_ONLY_KEY = "fm_live_read_only"
EXPIRED_KEY = "fm_live_expired"
REVOKED_KEY = "fm_live_revoked"
DOCUMENTED_KEYS = ("fm_live_...", "fm_live_your_api_key", "...")
"""The keys that the documentation's examples use, word for word."""

FAILING_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000001"
"""A workflow that fails at its second node."""
PAUSING_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000002"
"""A workflow that waits for a human for ever."""
STRICT_WORKFLOW_ID = "0fa11000-0000-4000-8000-000000000003"
"""A workflow that refuses to start without its input `email`."""
ENABLED_TRIGGER_ID = "0fa11000-0000-4000-8000-000000000011"
DISABLED_TRIGGER_ID = "0fa11000-0000-4000-8000-000000000012"
SECOND_AGENT_ID = "0fa11000-0000-4000-8000-000000000021"

WEBHOOK_SECRET = "whsec_embedded"  # noqa: S105 - of a fake
"""The secret of the webhook `wh_abc123`."""

DAY = 86_400.0
PAST_EXECUTIONS = 25

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


def furnish(service: Service, keys: KeyRing) -> None:
    """Fill an empty service."""
    for key in (TEST_KEY, *DOCUMENTED_KEYS):
        keys.add(key)
    keys.add(READ_ONLY_KEY, READ_SCOPES)
    keys.add(EXPIRED_KEY, state="expired")
    keys.add(REVOKED_KEY, state="revoked")
    _add_workflows(service)
    _add_executions(service)
    _add_agents(service)
    _add_knowledge(service)
    _add_webhook(service)


def _add_workflows(service: Service) -> None:
    hello = Workflow(
        "wf_123",
        "Hello",
        -30 * DAY,
        "Greets by name.",
        {"name": InputField(label="Name", description="Whom to greet.")},
        [
            Node("compose", "Compose greeting", "transform", 0.2),
            Node("out", "Output", "output", 0.1),
        ],
    )
    welcome = Workflow(
        "wf_abc123",
        "Welcome a customer",
        -29 * DAY,
        "Looks a customer up and writes a welcome.",
        {
            "customer_email": InputField(label="Email", description="Where to write to."),
            "customer_name": InputField(label="Name", description="How to address them."),
            "name": InputField(label="Short name", description="Used when there is no other."),
        },
        [
            Node("fetch_customer", "Fetch customer", "http", 0.8),
            Node("write_welcome", "Write welcome", "llm", 1.2),
            Node("send_email", "Send email", "email", 0.6),
        ],
        _welcome,
    )
    failing = Workflow(
        FAILING_WORKFLOW_ID,
        "Always fails",
        -28 * DAY,
        "Calls a service that is never there.",
        {},
        [
            Node("prepare", "Prepare", "transform", 0.2),
            Node("call", "Call service", "http", 0.3, error="Service answered 503"),
        ],
    )
    pausing = Workflow(
        PAUSING_WORKFLOW_ID,
        "Asks a human",
        -27 * DAY,
        "Waits for an approval.",
        {},
        [Node("draft", "Draft", "llm", 0.2), Node("approve", "Approve", "user_input")],
    )
    strict = Workflow(
        STRICT_WORKFLOW_ID,
        "Needs an email",
        -26 * DAY,
        "Does not start without an address.",
        {"email": InputField(label="Email", required=True)},
        [Node("check", "Check address", "transform", 0.1)],
    )
    for workflow in (hello, welcome, failing, pausing, strict):
        service.workflows[workflow.id] = workflow
    for trigger in (
        Trigger("trigger_abc123", "User signed up", "webhook", welcome, -20 * DAY),
        Trigger(ENABLED_TRIGGER_ID, "Every morning", "schedule", hello, -19 * DAY),
        Trigger(DISABLED_TRIGGER_ID, "Old form", "webhook", hello, -18 * DAY, enabled=False),
    ):
        service.triggers[trigger.id] = trigger


def _welcome(inputs: Dict[str, Any]) -> Dict[str, Any]:
    name = inputs.get("customer_name") or inputs.get("name") or "customer"
    return {"message": f"Welcome, {name}!", "sent_to": inputs.get("customer_email")}


def _add_executions(service: Service) -> None:
    cast = [service.workflows[id] for id in ("wf_123", "wf_abc123", FAILING_WORKFLOW_ID)]
    for number in range(PAST_EXECUTIONS):
        workflow, began = cast[number % len(cast)], -DAY + number * 600.0
        failed = workflow.id == FAILING_WORKFLOW_ID
        inputs = {"name": f"Visitor {number}"}
        execution = Execution(
            service.new_id(),
            workflow,
            inputs,
            began,
            status="failed" if failed else "completed",
            outputs=None if failed else workflow.outputs(inputs),
            error="Service answered 503" if failed else None,
            started_at=began,
            completed_at=began + 1.0,
        )
        service.executions[execution.id] = execution
    inputs = {"customer_email": "john@example.com", "customer_name": "John Doe"}
    running = Execution("exec_xyz789", service.workflows["wf_abc123"], inputs, 0.0)
    service.executions[running.id] = running
    service.runner.start(running, pickup=0.0)


def _add_agents(service: Service) -> None:
    helper = Agent(
        "agent_abc123",
        "Support",
        "gpt-4o",
        -25 * DAY,
        "Answers customers.",
        reply=_support,
        memories={
            "user_456": Memory(
                "user_456",
                "Prefers to be written to in German. Ordered a bicycle.",
                {"plan": "pro"},
                -10 * DAY,
                -5 * DAY,
            ),
            "user_789": Memory("user_789", "Asked about refunds twice.", {}, -9 * DAY, -4 * DAY),
        },
    )
    writer = Agent(
        SECOND_AGENT_ID,
        "Writer",
        "claude-3-5-sonnet",
        -24 * DAY,
        "Writes what it is asked for.",
        provider="anthropic",
    )
    for agent in (helper, writer):
        service.agents[agent.id] = agent
    thread = Thread("thread_xyz789", helper, {}, -3 * DAY)
    for role, content in (
        ("user", "Hello, I ordered a bicycle last week."),
        ("assistant", "Thank you for your order! How can I help?"),
    ):
        thread.messages.append(Message(service.new_id(), role, content, -3 * DAY))
    if service.dialect.keeps_thread_metadata:
        thread.metadata = {"user_id": "user_456"}
    service.threads[thread.id] = thread


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
    manual = KnowledgeBase("kb_abc123", "Help center", "What customers ask.", -15 * DAY)
    manual.add_document("doc_passwords", "passwords.md", _PASSWORDS)
    manual.add_document("doc_billing", "billing.md", _BILLING)
    manual.add_document("doc_orders", "orders.md", _ORDERS)
    service.knowledge_bases[manual.id] = manual


def _add_webhook(service: Service) -> None:
    webhook = Webhook(
        "wh_abc123",
        "Order desk",
        "https://hooks.example.com/flowmaestro",
        ["execution.completed", "execution.failed"],
        {},
        WEBHOOK_SECRET,
        -12 * DAY,
        -12 * DAY,
    )
    service.webhooks[webhook.id] = webhook

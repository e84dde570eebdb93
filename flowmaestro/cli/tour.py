"""The tour: what a program does with FlowMaestro, in ordinary code."""

from __future__ import annotations

from flowmaestro import FlowMaestroClient, NotFoundError, WebhookVerificationError, webhooks
from flowmaestro.cli import CommandFailed
from flowmaestro.cli.mailbox import Mailbox
from flowmaestro.cli.narrator import Narrator
from flowmaestro.testing.model.seeds import FAILING_WORKFLOW_ID


def take_tour(client: FlowMaestroClient, mailbox: Mailbox, tell: Narrator) -> None:
    """Do the main job, on a server that holds what the embedded one does.

    Raises `FlowMaestroError` or `CommandFailed` as soon as something is not as it should be.
    """
    list_workflows(client, tell)
    execute_and_follow(client, tell)
    talk_to_an_agent(client, tell)
    query_a_knowledge_base(client, tell)
    fire_a_trigger_and_hear_of_it(client, mailbox, tell)
    see_failures(client, tell)


def list_workflows(client: FlowMaestroClient, tell: Narrator) -> None:
    """One page of a list; `iterate` walks them all."""
    tell.step("List workflows", "workflows.list")
    tell.page(client.workflows.list(), "name", "id", "description")


def execute_and_follow(client: FlowMaestroClient, tell: Narrator) -> None:
    """Start an execution, see its events as they come, and get its result."""
    tell.step("Execute one, follow its events", "workflows.execute", "executions.stream")
    inputs = {"customer_name": "Ada Lovelace", "customer_email": "ada@example.com"}
    response = client.workflows.execute("wf_abc123", inputs=inputs)
    execution_id = response["data"]["execution_id"]
    tell.started(execution_id)
    for event in client.executions.stream(execution_id):
        tell.event(event)
    execution = client.executions.get(execution_id)["data"]
    tell.ended(execution, "completed")


def talk_to_an_agent(client: FlowMaestroClient, tell: Narrator) -> None:
    """Send a message and see the answer's tokens as they come."""
    tell.step("Talk to an agent", "agents.create_thread", "threads.send_message_stream")
    thread = client.agents.create_thread("agent_abc123")["data"]
    question = "Tell me a story"
    tell.asked(question)
    for event in client.threads.send_message_stream(thread["id"], question):
        if event["type"] == "message:token":
            tell.token(event["token"])
        elif event["type"] == "message:completed":
            tell.answered(event)
        elif event["type"] == "message:failed":
            raise CommandFailed(f"the agent failed: {event.get('error')}")


def query_a_knowledge_base(client: FlowMaestroClient, tell: Narrator) -> None:
    """Search documents by meaning."""
    tell.step("Query a knowledge base", "knowledge_bases.query")
    question = "How do I reset my password?"
    response = client.knowledge_bases.query("kb_abc123", question, top_k=2)
    tell.hits(question, response["data"]["results"])


def fire_a_trigger_and_hear_of_it(
    client: FlowMaestroClient, mailbox: Mailbox, tell: Narrator
) -> None:
    """Fire a trigger, wait for its execution, and verify the webhook that reports its end."""
    tell.step("Fire a trigger, verify the webhook", "triggers.execute", "webhooks.parse")
    response = client.webhooks.create("Demo", mailbox.url, ["execution.completed"])
    webhook = response["data"]

    triggers = client.triggers.list(workflow_id="wf_123")["data"]
    enabled = [trigger for trigger in triggers if trigger["enabled"]]
    fired = client.triggers.execute(enabled[0]["id"], inputs={"name": "Ada"})
    execution_id = fired["data"]["execution_id"]
    tell.started(execution_id)
    execution = client.executions.wait_for_completion(execution_id)
    tell.ended(execution, "completed")

    delivery = mailbox.next()
    tell.verified(
        webhooks.parse(delivery.body, delivery.signature, webhook["secret"], tolerance=300)
    )
    tampered = delivery.body.replace(b"Ada", b"Eve")
    try:
        webhooks.parse(tampered, delivery.signature, webhook["secret"])
    except WebhookVerificationError as error:
        tell.refused("tampered body", error)
    else:
        raise CommandFailed("a tampered webhook delivery was believed")
    client.webhooks.delete(webhook["id"])


def see_failures(client: FlowMaestroClient, tell: Narrator) -> None:
    """A run that fails is a result; a call that fails raises."""
    tell.step("See a run fail, and a call", "workflows.run")
    execution = client.workflows.run(FAILING_WORKFLOW_ID, on_event=tell.event)
    tell.ended(execution, "failed")
    try:
        client.workflows.run("wf_unknown")
    except NotFoundError as error:
        tell.raised(error)
    else:
        raise CommandFailed("an unknown workflow was run")

"""The tour of `flowmaestro demo`: it runs the main tasks of a program and explains each."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Tuple, cast

from flowmaestro import FlowMaestroClient, NotFoundError, WebhookVerificationError, webhooks
from flowmaestro.cli import CommandFailed
from flowmaestro.cli.console import Console, Text
from flowmaestro.cli.output import written
from flowmaestro.testing.model.seeds import FAILING_WORKFLOW_ID
from flowmaestro.types import ExecutionEvent, ExecutionStatus

Delivery = Callable[[str], Tuple[bytes, str]]
"""Returns the body and the signature of the last delivery to a webhook."""
_RECEIVER = "https://receiver.example.com/webhook"
_MARGIN = "  "
_AGENT = _MARGIN + "agent "
_STYLES = {"completed": "green", "failed": "red", "started": "cyan"}


class Narrator:
    """Prints what the tour of `flowmaestro demo` does. `now` is the transport's clock, in seconds.

    The tour runs the main tasks of a program, one after another, against a fake server.
    """

    def __init__(self, screen: Console, now: Callable[[], float]) -> None:
        self.screen = screen
        self._now = now
        self._since = now()

    def say(self, *texts: Text, indent: int = 0) -> None:
        """Write a line below the heading of the step.

        If the line is wrapped, its other parts begin `indent` columns further to the right, unless
        a word is too long for that.
        """
        self.screen.line(_MARGIN, *texts, indent=len(_MARGIN) + indent)

    def good(self, text: str) -> None:
        """Write a result that is as expected, with the sign for success."""
        self.say((self.screen.symbols.good + " ", "green"), text, indent=2)

    def bad(self, text: str) -> None:
        """Write a failure, with the sign for one. `flowmaestro demo` shows some on purpose."""
        self.say((self.screen.symbols.bad + " ", "red"), text, indent=2)

    def step(self, title: str, calls: str) -> None:
        """Write the heading of the next part of `flowmaestro demo`.

        `calls` names the methods and functions that this part shows.
        """
        self.screen.line()
        sign = self.screen.symbols.step + " "
        self.screen.line((sign, "cyan"), (title, "bold"), ("  " + calls, "dim"), indent=2)
        self._since = self._now()

    def started(self, execution_id: str) -> None:
        """Write that an execution was started. The times of its events count from now."""
        self.say("execution ", (execution_id, "cyan"), " started")
        self._since = self._now()

    def event(self, event: ExecutionEvent) -> None:
        """Write an event of an execution."""
        told = cast("Mapping[str, Any]", event)
        style = _STYLES.get(event["type"].partition(":")[2], "dim")
        lead = f"{self._now() - self._since:6.2f} s  "
        keys = ("status",) if event["type"] == "connected" else ("error", "node_name", "node_id")
        detail = next((str(told[key]) for key in keys if told.get(key) is not None), "")
        if told.get("progress") is not None:
            detail = f"{told['progress']:3.0f} %"
        self.say((lead, "dim"), (f"{event['type']:22}", style), detail, indent=len(lead))

    def ended(self, execution: Mapping[str, Any], wanted: ExecutionStatus) -> None:
        """Write how an execution ended if its status is `wanted`, else raise `CommandFailed`."""
        status, error = execution["status"], execution["error"]
        if status != wanted:
            raise CommandFailed(f"execution {execution['id']} is {status}, not {wanted}: {error}")
        if status == "completed":
            self.good(written(execution["outputs"]))
        else:
            self.bad(f"{status}: {error}")


def take_tour(client: FlowMaestroClient, delivery: Delivery, tell: Narrator) -> None:
    """Take the tour of `flowmaestro demo`, on a server with the resources of the fake one.

    `delivery` returns the last delivery to a webhook; `tell` writes each step.

    Raises `FlowMaestroError` or `CommandFailed` at the first result that is not as expected.
    """
    list_workflows(client, tell)
    execute_and_follow(client, tell)
    talk_to_an_agent(client, tell)
    query_a_knowledge_base(client, tell)
    fire_a_trigger(client, delivery, tell)
    see_failures(client, tell)


def list_workflows(client: FlowMaestroClient, tell: Narrator) -> None:
    """Show the first page of the list of workflows."""
    tell.step("List workflows", "workflows.list")
    found = client.workflows.list()["data"]
    names = max(len(workflow["name"]) for workflow in found)
    ids = max(len(workflow["id"]) for workflow in found)
    for workflow in found:
        about = f"  {workflow['id']:{ids}}  {workflow['description'] or ''}"
        tell.say(workflow["name"].ljust(names), (about, "dim"))


def execute_and_follow(client: FlowMaestroClient, tell: Narrator) -> None:
    """Start an execution, show its events as they come, and its result."""
    tell.step("Execute one, follow its events", "workflows.execute, executions.stream")
    inputs = {"customer_name": "Ada Lovelace", "customer_email": "ada@example.com"}
    execution_id = client.workflows.execute("wf_abc123", inputs=inputs)["data"]["execution_id"]
    tell.started(execution_id)
    for event in client.executions.stream(execution_id):
        tell.event(event)
    tell.ended(client.executions.get(execution_id)["data"], "completed")


def talk_to_an_agent(client: FlowMaestroClient, tell: Narrator) -> None:
    """Send a message and show the answer's tokens as they come."""
    tell.step("Talk to an agent", "agents.create_thread, threads.send_message_stream")
    thread = client.agents.create_thread("agent_abc123")["data"]
    tell.say(("you   ", "dim"), "Tell me a story")
    for event in client.threads.send_message_stream(thread["id"], "Tell me a story"):
        if event["type"] == "message:token":
            tell.screen.stream(event["token"], _AGENT)
        elif event["type"] == "message:completed":
            tell.screen.end_stream(len(_AGENT))
            total = cast("Mapping[str, Any]", event.get("usage") or {}).get("total_tokens")
            unknown = "this server does not say how many tokens"
            tell.good(f"answered; {unknown if total is None else f'{total} tokens'}")
        elif event["type"] == "message:failed":
            raise CommandFailed(f"the agent failed: {event.get('error')}")


def query_a_knowledge_base(client: FlowMaestroClient, tell: Narrator) -> None:
    """Search documents by meaning."""
    tell.step("Query a knowledge base", "knowledge_bases.query")
    question = "How do I reset my password?"
    tell.say(("query ", "dim"), question)
    response = client.knowledge_bases.query("kb_abc123", question, top_k=2)
    for result in response["data"]["results"]:
        tell.say(f"{result['similarity'] or 0.0:.3f}  ", written(result["document_name"]))
        tell.say((" " * 7 + written(result["content"]), "dim"), indent=7)


def fire_a_trigger(client: FlowMaestroClient, delivery: Delivery, tell: Narrator) -> None:
    """Fire a trigger, wait for its execution, and verify the webhook that reports its end."""
    tell.step("Fire a trigger, verify the webhook", "triggers.execute, webhooks.parse")
    webhook = client.webhooks.create("Demo", _RECEIVER, ["execution.completed"])["data"]
    triggers = client.triggers.list(workflow_id="wf_123")["data"]
    enabled = [trigger for trigger in triggers if trigger["enabled"]]
    fired = client.triggers.execute(enabled[0]["id"], inputs={"name": "Ada"})
    execution_id = fired["data"]["execution_id"]
    tell.started(execution_id)
    tell.ended(client.executions.wait_for_completion(execution_id), "completed")
    body, signature = delivery(webhook["id"])
    event = webhooks.parse(body, signature, webhook["secret"], tolerance=300)
    about = f"{event['event']}, execution {event['data'].get('execution_id')}"
    tell.good(f"delivery verified: {about}")
    try:
        webhooks.parse(body.replace(b"Ada", b"Eve"), signature, webhook["secret"])
    except WebhookVerificationError as error:
        tell.bad(f"tampered body refused: {error.message}")
    else:
        raise CommandFailed("a tampered webhook delivery was believed")
    client.webhooks.delete(webhook["id"])


def see_failures(client: FlowMaestroClient, tell: Narrator) -> None:
    """Show a failed run, which is a result, and a failed call, which raises."""
    tell.step("See a run fail, and a call", "workflows.run")
    tell.ended(client.workflows.run(FAILING_WORKFLOW_ID, on_event=tell.event), "failed")
    try:
        client.workflows.run("wf_unknown")
    except NotFoundError as error:
        tell.bad(f"{type(error).__name__}: {error}")
    else:
        raise CommandFailed("an unknown workflow was run")

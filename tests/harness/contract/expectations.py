"""What each block must print, and do, so that one that does nothing at all cannot pass.

The expected output is text, or a pattern where the service invents something. Where the deployed
server sends no value, the block shows `None`.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Union

import pytest

from flowmaestro import ClientClosedError, NotFoundError
from tests.harness.contract.worlds import World

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
STORY = r"Once upon a time [^\n]+ a second page\."
WELCOME = "{'message': 'Welcome, John Doe!', 'sent_to': 'john@example.com'}"

Names = Dict[str, Any]
Output = Union[str, "re.Pattern[str]"]


def _nothing(names: Names, world: World) -> Any:
    """There is nothing but the output to look at."""


@dataclass(frozen=True)
class Expected:
    """`documented` is the output where it differs; `after` looks at what the block has done.

    `after` is given the names that the block defined; if it returns an awaitable, that is
    awaited in the block's loop.
    """

    output: Output = ""
    documented: Union[Output, None] = None
    after: Callable[[Names, World], Any] = _nothing

    def check(self, printed: str, shapes: str) -> None:
        wanted = self.output
        if shapes == "documented" and self.documented is not None:
            wanted = self.documented
        if isinstance(wanted, str):
            assert printed == wanted
        else:
            assert wanted.fullmatch(printed), f"{printed!r} is not {wanted.pattern!r}"


def _pattern(*lines: str) -> re.Pattern[str]:
    return re.compile("".join(line + "\n" for line in lines))


def _configured(names: Names, world: World) -> Any:
    """The configured client works, and sends the custom header."""
    answer = names["client"].workflows.list()

    def look() -> None:
        assert world.fake.requests[-1].headers["X-Custom-Header"] == "value"
        assert world.fake.requests[-1].status == 200  # The fake knows the key of the block.

    async def look_later() -> None:
        await answer
        look()

    return look_later() if inspect.isawaitable(answer) else look()


def _listed_and_closed(names: Names, world: World) -> Any:
    assert names["response"]["data"][0]["id"] == "wf_123"
    return _closed(names, world)


def _closed(names: Names, world: World) -> Any:
    """The block has closed its client."""
    list_workflows = names["client"].workflows.list

    async def refuses_later() -> None:
        with pytest.raises(ClientClosedError):
            await list_workflows()

    if inspect.iscoroutinefunction(list_workflows):
        return refuses_later()
    with pytest.raises(ClientClosedError):
        list_workflows()
    return None


def _cancelled(names: Names, world: World) -> None:
    execution = world.observer.executions.get("exec_xyz789")["data"]
    assert execution["status"] == "cancelled"


def _thread_exists(names: Names, world: World) -> None:
    assert world.observer.threads.get(names["thread_id"])["data"]["agent_id"] == "agent_abc123"


def _thread_is_gone(names: Names, world: World) -> None:
    with pytest.raises(NotFoundError):
        world.observer.threads.get("thread_xyz789")


def _said(text: str) -> Callable[[Names, World], None]:
    def after(names: Names, world: World) -> None:
        messages = world.observer.threads.list_messages("thread_xyz789")["data"]
        assert [message["content"] for message in messages].count(text) == 1

    return after


def _webhook_exists(names: Names, world: World) -> None:
    webhook = world.observer.webhooks.get(names["response"]["data"]["id"])["data"]
    assert webhook["url"] == "https://api.example.com/webhook"
    assert webhook["events"] == ["execution.completed", "execution.failed"]


def _webhook_is_gone(names: Names, world: World) -> None:
    with pytest.raises(NotFoundError):
        world.observer.webhooks.get("wh_abc123")


def _execution_exists(names: Names, world: World) -> None:
    started = names["response"]["data"]["execution_id"]
    assert world.observer.executions.get(started)["data"]["workflow_id"] == "wf_abc123"


def _processes_a_workflow(names: Names, world: World) -> None:
    names["process_workflow"](world.observer.workflows.get("wf_123")["data"])


EXPECTED: Dict[str, Expected] = {
    "Synchronous Client": Expected("Result: {'message': 'Hello, John!'}\n", after=_closed),
    "Async Client": Expected("Result: {'message': 'Hello, John!'}\n"),
    "Configuration": Expected(after=_configured),
    "List Workflows": Expected(
        _pattern(
            r"Hello \(wf_123\)",
            r"Welcome a customer \(wf_abc123\)",
            rf"(.+ \({UUID}\)\n)+Total: [0-9]+",
        )
    ),
    "Get Workflow": Expected(
        re.compile(
            r"Workflow: Welcome a customer\n"
            r"Input Schema: \{'type': 'object', 'properties': "
            r"\{'(input1|customer_email)': .*\}.*\}\n"
        )
    ),
    "Execute Workflow": Expected(
        _pattern(rf"Execution ID: {UUID}", "Status: pending"), after=_execution_exists
    ),
    "Get Execution Status": Expected("Status: running\n"),
    "Wait for Completion": Expected(f"Success: {WELCOME}\n"),
    "Stream Execution Events": Expected(
        re.compile(
            r"Event: connected\n"
            r"(Event: (execution:(started|progress)|node:(started|completed))\n)*"
            rf"Event: execution:completed\nOutputs: {re.escape(WELCOME)}\n"
        )
    ),
    "Async Streaming": Expected(
        re.compile(
            r"(Starting node: fetch_customer\n)?Starting node: write_welcome\n"
            rf"Starting node: send_email\nDone: {re.escape(WELCOME)}\n"
        )
    ),
    "Cancel Execution": Expected("Cancelled: True\n", after=_cancelled),
    "List Agents": Expected("Support (gpt-4o)\nSupport (gpt-4o)\nWriter (claude-3-5-sonnet)\n"),
    "Create Thread": Expected(_pattern(rf"Thread ID: {UUID}"), after=_thread_exists),
    "Send Message": Expected(
        "Response: Your order has shipped and should arrive on Thursday.\nTokens used: None\n",
        documented=_pattern(
            "Response: Your order has shipped and should arrive on Thursday.",
            "Tokens used: [1-9][0-9]*",
        ),
        after=_said("What is my order status?"),
    ),
    "Stream Message Response": Expected(
        re.compile(STORY + r"\n\nDone!\n"), after=_said("Tell me a story")
    ),
    "Get Thread Messages": Expected(
        "[user]: Hello, I ordered a bicycle last week.\n"
        "[assistant]: Thank you for your order! How can I help?\n"
    ),
    "Delete Thread": Expected(after=_thread_is_gone),
    "List Knowledge Bases": Expected("Help center - 3 documents\nHelp center - 3 documents\n"),
    "Query Knowledge Base": Expected(
        re.compile(
            r"Score: (0\.[0-9]{3}|1\.000)\nContent: To reset your password, [^\n]+\n"
            r"Source: passwords\.md\n---\n"
            r"(Score: [01]\.[0-9]{3}\nContent: [^\n]+\nSource: [a-z]+\.md\n---\n){0,4}"
        )
    ),
    "List Triggers": Expected("User signed up (webhook)\n"),
    "Execute Trigger": Expected(_pattern(rf"Execution ID: {UUID}"), after=_execution_exists),
    "Create Webhook": Expected(
        _pattern(rf"Webhook ID: {UUID}", r"Secret: whsec_\S+"), after=_webhook_exists
    ),
    "List Webhooks": Expected(
        "Order desk - https://hooks.example.com/flowmaestro\n"
        "Audit - https://hooks.example.com/flowmaestro\n"
    ),
    "Test Webhook": Expected(
        "Webhook working! Response time: Nonems\n",
        documented=_pattern(r"Webhook working! Response time: [0-9]+ms"),
    ),
    "Delete Webhook": Expected(after=_webhook_is_gone),
    "Error Handling": Expected("Workflow not found\n"),
    "Type Hints": Expected("Processing: Hello\n", after=_processes_a_workflow),
    "Context Managers": Expected(after=_listed_and_closed),
    "Context Managers again": Expected(after=_listed_and_closed),
}

SILENT: Dict[str, Expected] = {
    "Stream Execution Events": Expected(
        f"Event: connected\nEvent: execution:completed\nOutputs: {WELCOME}\n"
    ),
    "Async Streaming": Expected(f"Done: {WELCOME}\n"),
}
"""Where the stream says nothing: the execution itself is asked."""

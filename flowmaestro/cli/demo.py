"""`demo`: the main tasks of a program, run against the fake and explained."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Generator, Iterator, Mapping, Tuple, cast

import flowmaestro_transports
from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    NotFoundError,
    WebhookVerificationError,
    __version__,
    webhooks,
)
from flowmaestro.cli import CommandFailed
from flowmaestro.cli.console import Console, Text
from flowmaestro.cli.output import written
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, running_server
from flowmaestro.testing.fake.model.seeds import FAILING_WORKFLOW_ID
from flowmaestro.testing.fake.sample_runs import add_invoices
from flowmaestro.types import ExecutionEvent, ExecutionStatus
from flowmaestro.webhooks import SIGNATURE_HEADER

_NAMES = {"sockets": "Socket", "trio": "Anyio"}
"""The beginning of a transport's class name, by its name in `--transport`, if they differ."""
Delivery = Callable[[str], Tuple[bytes, str]]
"""Returns the body and the signature of the last delivery to a webhook."""
_RECEIVER = "https://receiver.example.com/webhook"
_UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
_MARGIN = "  "
_STYLES = {"completed": "green", "failed": "red", "started": "cyan"}
_SCRIPT = """\
import flowmaestro as fm
client = fm.FlowMaestroClient()
for it in client.workflows.iterate():
    print(it["name"])
"""
"""No line is longer than 38 columns, so that it can be copied from a terminal of 40."""


def demo_command(options: argparse.Namespace) -> None:
    """Run the main tasks of a program, one after another, and print what they do.

    They run against a fake server: in memory, or on a port of this machine. Raises `CommandFailed`
    if the transport needs a package that is missing.
    """
    began = time.monotonic()
    screen = Console(sys.stdout)
    about = f", over {options.transport}"
    screen.line(("FlowMaestro for Python", "bold"), f" {__version__}", (about, "dim"))
    fake = FakeFlowMaestro(options.shapes, options.events, epoch=time.time())
    add_invoices(fake)
    about = f"({options.shapes} shapes, {options.events} events)"
    delivery = partial(last_delivery, fake)
    if options.transport == "memory":
        screen.line(f"a fake FlowMaestro in memory, on a virtual clock {about}")
        transport = MemoryTransport(fake)
        with FlowMaestroClient(fake.api_key, transport=transport) as client:
            show_everything(client, delivery, Narrator(screen, transport.now))
    else:
        with running_server(fake) as url:
            screen.line(f"a fake FlowMaestro on {url} {about}")
            with _client(options.transport, fake.api_key, url) as client:
                show_everything(client, delivery, Narrator(screen, time.monotonic))
    screen.line()
    screen.line(f"Everything worked, in {time.monotonic() - began:.1f} s.")
    _say_what_is_next(screen)


def _say_what_is_next(screen: Console) -> None:
    """Write what a user does after the demo: log in, or start the fake, and a first script.

    A script reads the key from the environment: that of `login` is for commands only.
    """
    screen.line()
    screen.line((screen.symbols.step + " ", "cyan"), ("What next", "bold"))
    screen.line(_MARGIN, "more commands:  ", ("flowmaestro login", "cyan"))
    screen.line(_MARGIN, "without a key:  ", ("flowmaestro serve", "cyan"))
    screen.line(_MARGIN, "a script, with FLOWMAESTRO_API_KEY set:", indent=len(_MARGIN))
    for line in _SCRIPT.splitlines():
        screen.copyable(_MARGIN + line)


class Narrator:
    """Prints what the demo does. `now` is the transport's clock, in seconds.

    The demo runs the main tasks of a program, one after another, against a fake server.
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
        keys: Tuple[str, ...] = ("error", "node_name", "node_id")
        if event["type"] == "connected":
            keys = ("status",)
        elif event["type"] == "execution:failed":
            keys = ()  # The result says why.
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


def show_everything(client: FlowMaestroClient, delivery: Delivery, tell: Narrator) -> None:
    """Run the tasks of the demo, on a server with the resources of the fake one.

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
    for workflow in client.workflows.list()["data"]:
        tell.say(workflow["name"], ("  " + workflow["id"], "dim"))
        if workflow["description"]:
            tell.say(("  " + workflow["description"], "dim"), indent=2)


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
    """Send a message and show the answer, whose tokens come one by one."""
    tell.step("Talk to an agent", "agents.create_thread, threads.send_message_stream")
    thread = client.agents.create_thread("agent_abc123")["data"]
    tell.say(("you   ", "dim"), "Tell me a story")
    answer = ""
    for event in client.threads.send_message_stream(thread["id"], "Tell me a story"):
        if event["type"] == "message:token":
            answer += event["token"]
        elif event["type"] == "message:completed":
            tell.say(("agent ", "dim"), answer, indent=len("agent "))
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

    def show(event: ExecutionEvent) -> None:
        # The last part and what is next fit a terminal of 24 lines.
        if event["type"] not in ("connected", "execution:progress"):
            tell.event(event)

    tell.ended(client.workflows.run(FAILING_WORKFLOW_ID, on_event=show), "failed")
    try:
        client.workflows.run(_UNKNOWN_ID)
    except NotFoundError as error:
        tell.bad(f"{type(error).__name__}: {error.message}")
    else:
        raise CommandFailed("an unknown workflow was run")


def last_delivery(fake: FakeFlowMaestro, webhook_id: str) -> Tuple[bytes, str]:
    """Return the body and the signature ("" if unsigned) of the last delivery to a webhook.

    Raises `CommandFailed` if there is none within 5 s.
    """
    deadline = time.monotonic() + 5
    while True:
        sent = [it.request for it in fake.deliveries if it.webhook_id == webhook_id]
        if sent:
            return sent[-1].body, sent[-1].headers.get(SIGNATURE_HEADER) or ""
        if time.monotonic() > deadline:
            raise CommandFailed("no webhook delivery was made within 5 s")
        time.sleep(0.01)


@contextmanager
def _client(transport: str, api_key: str, base_url: str) -> Generator[Any, None, None]:
    """Yield a client whose methods the demo can call without `await`.

    For a sync `transport`, it is a sync client. For an async one, it is a `_Called`, which carries
    out each call of an async client on an event loop in another thread. Raises `CommandFailed` if a
    package is missing.
    """
    try:
        name = f"{_NAMES.get(transport, transport.capitalize())}Transport"
        os.environ["no_proxy"] = "127.0.0.1"
        carrier: Any = getattr(flowmaestro_transports, name)()
        if transport in ("sockets", "requests"):
            with FlowMaestroClient(api_key, base_url=base_url, transport=carrier) as client:
                yield client
            return
        from anyio.from_thread import start_blocking_portal

        if transport == "trio":
            import trio as trio
    except ImportError as error:
        hint = f"pip install 'flowmaestro[{transport}]'"
        raise CommandFailed(f"the transport {transport} needs {error.name}: {hint}") from None
    made = AsyncFlowMaestroClient(api_key, base_url=base_url, transport=carrier)
    backend = "trio" if transport == "trio" else "asyncio"
    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(made) as it:
        yield _Called(it, portal.call)


class _Called:
    """An async client, or a part of it, that the demo calls like a sync one.

    `run` carries out a coroutine function on the event loop in another thread, and returns the
    result.
    """

    def __init__(self, target: Any, run: Callable[..., Any]) -> None:
        self._target = target
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return _Called(getattr(self._target, name), self._run)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            made = self._target(*args, **kwargs)
            return made if hasattr(made, "__anext__") else await made

        result = self._run(call)
        return self._iterate(result) if hasattr(result, "__anext__") else result

    def _iterate(self, stream: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._run(stream.__anext__)
            except StopAsyncIteration:
                return

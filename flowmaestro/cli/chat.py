"""`chat`: a conversation with an agent. Ctrl-C stops an answer, Ctrl-D ends the conversation."""

from __future__ import annotations

import argparse
import sys
from typing import Any, cast

from flowmaestro import FlowMaestroClient
from flowmaestro.cli.console import Console, console
from flowmaestro.cli.session import client_for
from flowmaestro.errors import FlowMaestroError, NotFoundError

_LEAD = "agent  "


def chat_command(options: argparse.Namespace) -> None:
    """Send what the user types, show the answers as they come."""
    screen, hints = console(sys.stdout), console(sys.stderr)
    with client_for(options) as client:
        agent: Any = client.agents.get(options.agent)["data"]
        thread_id = options.thread or client.agents.create_thread(options.agent)["data"]["id"]
        hints.line(f"{agent['name']}, thread {thread_id}. Ctrl-C stops an answer, Ctrl-D ends.")
        while True:
            text = _ask(hints)
            if text is None:
                return
            if text.strip():
                _answer(client, thread_id, text, screen, hints)


def _ask(hints: Console) -> str | None:
    """The next line that the user types; `None` at the end of input."""
    if sys.stdin.isatty():
        sys.stderr.write("you    ")
        sys.stderr.flush()
    line = sys.stdin.readline()
    if not line and sys.stdin.isatty():
        hints.line()
    return line.rstrip("\n") if line else None


def _answer(
    client: FlowMaestroClient, thread_id: str, text: str, screen: Console, hints: Console
) -> None:
    stream = client.threads.send_message_stream(thread_id, text)
    try:
        for event in stream:
            if event["type"] == "message:token":
                screen.stream(event["token"], _LEAD)
            elif event["type"] == "message:failed":
                screen.end_stream(len(_LEAD))
                hints.line("the agent failed: ", str(cast("Any", event).get("error")))
    except KeyboardInterrupt:
        screen.end_stream(len(_LEAD))
        hints.line("stopped; the agent may still finish its answer on the server")
    except NotFoundError:
        raise
    except FlowMaestroError as error:
        screen.end_stream(len(_LEAD))
        if not sys.stdin.isatty():
            raise
        hints.line(f"no answer: {error}")
    else:
        screen.end_stream(len(_LEAD))
    finally:
        stream.close()

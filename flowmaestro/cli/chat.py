"""`chat`: a conversation with an agent. Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import argparse
import sys
from typing import Any, cast

from flowmaestro import FlowMaestroClient
from flowmaestro.cli.console import Console, Writer, console
from flowmaestro.cli.session import client_for
from flowmaestro.errors import FlowMaestroError, NotFoundError

_LEAD = "agent  "


def chat_command(options: argparse.Namespace) -> None:
    """Send each line that the user types, and show the answers as they come."""
    screen, hints = console(sys.stdout), console(sys.stderr)
    with client_for(options) as client:
        agent: Any = client.agents.get(options.agent)["data"]
        thread_id = options.thread or client.agents.create_thread(options.agent)["data"]["id"]
        hints.line(f"{agent['name']}, thread {thread_id}. Ctrl-C stops an answer, Ctrl-D ends.")
        while True:
            text = _ask()
            if not text:
                return
            if text.strip():
                _answer(client, thread_id, text.rstrip("\r\n"), screen, hints)


def _ask() -> str:
    """Return the next line that the user types, with its end; "" at the end of input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    prompt = Writer(sys.stderr)
    prompt.write("you    ")
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:  # No answer is coming: drop the line that was being typed.
        line = "\n"
        prompt.write("\n")
    if not line:
        prompt.write("\n")
    return line


def _answer(
    client: FlowMaestroClient, thread_id: str, text: str, screen: Console, hints: Console
) -> None:
    said = ""
    with client.threads.send_message_stream(thread_id, text) as stream:
        try:
            for event in stream:
                if event["type"] == "message:token":
                    screen.stream(event["token"], _LEAD)
                elif event["type"] == "message:failed":
                    said = f"the agent failed: {cast('Any', event).get('error')}"
        except KeyboardInterrupt:
            said = "stopped; the agent may still finish its answer on the server"
        except FlowMaestroError as error:
            if isinstance(error, NotFoundError) or not sys.stdin.isatty():
                raise
            said = f"no answer: {error}"
        finally:
            screen.end_stream(len(_LEAD))
    if said:
        hints.line(said)

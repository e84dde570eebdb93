"""Talk to an agent: your lines in a terminal, else two questions of our own."""

from __future__ import annotations

import sys
from typing import Iterator

from service import AGENT, service

from flowmaestro import FlowMaestroClient, StreamError

QUESTIONS = ("What is my order status?", "Tell me a story")


def questions() -> Iterator[str]:
    """Yield the questions of the user, until the end of the input."""
    if not sys.stdin.isatty():
        for question in QUESTIONS:
            print(f"> {question}")
            yield question
        return
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def main() -> None:
    """Keep one thread for the whole conversation, and delete it at the end."""
    with FlowMaestroClient() as client:
        thread = client.agents.create_thread(AGENT)["data"]["id"]
        try:
            for question in questions():
                answer = client.threads.send_message_stream(thread, question)
                try:
                    for piece in answer.text():
                        print(piece, end="", flush=True)
                    print()
                except StreamError as error:
                    print(f"\nno answer: {error.message}")
            print(f"{sum(1 for _ in client.threads.iterate_messages(thread))} messages")
        finally:
            client.threads.delete(thread)


if __name__ == "__main__":
    with service():
        main()

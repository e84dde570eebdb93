"""The text of an answer, on both handles, whichever way the server streams."""

from __future__ import annotations

import pytest

from flowmaestro import FlowMaestroClient, Hooks, StreamError
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from tests.harness.transports.player import KINDS, Player


def a_thread(fake):
    made = fake.agent("agent_storyteller")
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        return client.agents.create_thread(made)["data"]["id"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["refused", "sse"])
def test_the_text_is_whole_and_the_message_is_there_afterwards(kind, way):
    fake = FakeFlowMaestro(messages=way)
    thread, answers = a_thread(fake), []

    def ask(client):
        answers.append(client.threads.send_message_stream(thread, said))
        assert answers[-1].message is None
        return answers[-1].text()

    for said in ("Hello you", "And again"):
        pieces = Player(kind)(fake, ask, Hooks())
        assert "".join(pieces) == f"You said: {said}"
        assert all(pieces)
        assert answers[-1].message["type"] == "message:completed"
        assert answers[-1].message["content"] == f"You said: {said}"


def test_a_finished_answer_cannot_be_read_again():
    fake = FakeFlowMaestro(messages="sse")
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        answer = client.threads.send_message_stream(a_thread(fake), "Hello")
        assert list(answer.text())
        with pytest.raises(StreamError):
            answer.text()

"""The text of an answer, on both handles, whichever way the server streams."""

from __future__ import annotations

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport

WAYS = ["refused", "sse"]
BACKENDS = ["asyncio", "trio"]


def a_thread(fake, *replies):
    made = fake.agent("agent_storyteller", *replies)
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        return client.agents.create_thread(made)["data"]["id"]


def read(fake, thread, *messages):
    """Each answer's pieces and its last event."""
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        found = []
        for message in messages:
            answer = client.threads.send_message_stream(thread, message)
            assert answer.message is None
            found.append((list(answer.text()), answer.message))
        return found


def read_async(backend):
    def read(fake, thread, *messages):
        async def main():
            transport = AsyncMemoryTransport(fake)
            async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
                found = []
                for message in messages:
                    answer = client.threads.send_message_stream(thread, message)
                    assert answer.message is None
                    found.append(([piece async for piece in answer.text()], answer.message))
                return found

        return anyio.run(main, backend=backend)

    return read


readers = pytest.mark.parametrize(
    "reader", [read, *map(read_async, BACKENDS)], ids=["blocking", *BACKENDS]
)


@readers
@pytest.mark.parametrize("way", WAYS)
def test_the_text_is_whole_and_the_message_is_there_afterwards(reader, way):
    fake = FakeFlowMaestro(messages=way)
    answers = reader(fake, a_thread(fake), "Hello you", "And again")
    for said, (pieces, message) in zip(["Hello you", "And again"], answers):
        assert "".join(pieces) == f"You said: {said}"
        assert all(pieces)
        assert message["type"] == "message:completed"
        assert message["content"] == f"You said: {said}"


def test_a_finished_answer_cannot_be_read_again():
    fake = FakeFlowMaestro(messages="sse")
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        answer = client.threads.send_message_stream(a_thread(fake), "Hello")
        assert list(answer.text())
        with pytest.raises(StreamError):
            answer.text()

"""What a test can script of agents, knowledge bases and triggers."""

from __future__ import annotations

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport


@pytest.fixture(params=["deployed", "documented"])
def fake(request):
    return FakeFlowMaestro(request.param)


def ask(client, agent, *messages):
    thread = client.agents.create_thread(agent)["data"]["id"]
    return ["".join(client.threads.send_message_stream(thread, text).text()) for text in messages]


class TestAgents:
    def test_replies_one_after_another_and_the_last_for_ever(self, fake, client):
        assert fake.agent("agent_x", "One", "Two") == "agent_x"
        assert ask(client, "agent_x", "a", "b", "c") == ["One", "Two", "Two"]

    def test_a_function_makes_the_answers(self, fake, client):
        assert ask(client, fake.agent(None, str.upper), "hello") == ["HELLO"]
        assert ask(client, fake.agent(), "hello") == ["You said: hello"]

    @pytest.mark.parametrize("reply", [["Hel", "lo", " you"], lambda text: iter(["Hel", "lo you"])])
    def test_token_by_token_whatever_the_dialect(self, fake, client, reply):
        thread = client.agents.create_thread(fake.agent(None, reply))["data"]["id"]
        answer = client.threads.send_message_stream(thread, "Hi")
        pieces = list(answer.text())
        assert pieces[0] == "Hel"
        assert "".join(pieces) == answer.message["content"] == "Hello you"

    def test_messages_refused_yields_the_answer_as_one_token(self):
        fake = FakeFlowMaestro("documented", messages="refused")
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        thread = client.agents.create_thread(fake.agent(None, ["Hel", "lo"]))["data"]["id"]
        assert list(client.threads.send_message_stream(thread, "Hi").text()) == ["Hello"]

    def test_an_answer_that_breaks_off(self):
        def halting(text):
            yield "Well"
            raise RuntimeError("no tokens left")

        fake = FakeFlowMaestro(messages="sse")
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        thread = client.agents.create_thread(fake.agent(None, halting))["data"]["id"]
        events = list(client.threads.send_message_stream(thread, "Hi"))
        assert [event["type"] for event in events][-2:] == ["message:token", "message:failed"]
        assert events[-1]["error"] == "RuntimeError: no tokens left"

    def test_a_function_that_returns_no_texts_is_a_failure(self):
        fake = FakeFlowMaestro("documented")
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        fake.agent("agent_1", lambda text: b"xy")
        thread = client.agents.create_thread("agent_1")["data"]["id"]
        *_, last = client.threads.send_message_stream(thread, "hi")
        assert last["type"] == "message:failed"
        assert "must return a text or its tokens, not b'xy'" in str(last)

    @pytest.mark.parametrize("reply", [7, None, b"x", {"a": 1}, ["a", 1], str], ids=repr)
    def test_reply_that_is_not_text_is_refused(self, fake, reply):
        with pytest.raises(TypeError, match=r"replies\[1\] must be a text"):
            fake.agent("agent_x", "fine", reply)


class TestKnowledgeBasesAndTriggers:
    @pytest.mark.parametrize("texts", [["Cats purr.\n\nDogs bark."], {"pets": "Cats purr."}])
    def test_a_knowledge_base_from_texts(self, fake, client, texts):
        assert fake.knowledge_base("kb", texts=texts) == "kb"
        found = client.knowledge_bases.query("kb", query="what do cats do?")
        assert "Cats purr." in str(found)
        assert "Dogs" not in str(found)

    def test_scripted_trigger_starts_its_workflow(self, fake, client):
        workflow = fake.workflow("wf_x", outputs={"x": 1})
        fired = client.triggers.execute(fake.trigger("trigger_x", workflow=workflow))
        assert fired["data"]["workflow_id"] == "wf_x"
        fake.assert_executed("wf_x")
        with pytest.raises(ValueError, match="workflow must be the id of a workflow, not 'wf_y'"):
            fake.trigger(workflow="wf_y")


def test_an_agent_that_says_nothing(fake):
    agent = fake.agent(None, lambda _: None)
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        thread = client.agents.create_thread(agent)["data"]["id"]
        stream = client.threads.send_message_stream(thread, "Hello")
        assert "must return a text or its tokens, not None" in str(list(stream)[-1])

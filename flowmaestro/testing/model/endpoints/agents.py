"""Agents, their threads, and the messages in them."""

from __future__ import annotations

from flowmaestro.testing.model.agents import Thread, Utterance
from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.endpoints.reading import every, one
from flowmaestro.testing.model.refusals import Refusal
from flowmaestro.testing.model.replies import Answer, EventStream, Later
from flowmaestro.testing.model.routing import Outcome, Route
from flowmaestro.testing.model.service import Service

LONGEST_ANSWER_MS = 120_000


def create_thread(service: Service, call: Call) -> Outcome:
    """Begin a conversation; not every dialect keeps its metadata."""
    agent = service.agents.find(call.id)
    metadata = call.mapping("metadata") if service.dialect.keeps_thread_metadata else {}
    thread = Thread(service.new_id(), agent, metadata, service.timeline.now)
    service.threads[thread.id] = thread
    return Answer(201, {"data": service.dialect.new_thread(thread)})


def list_messages(service: Service, call: Call) -> Outcome:
    """What has been said in a thread."""
    return Answer(200, service.dialect.list_messages(service.threads.find(call.id), call.query))


def send_message(service: Service, call: Call) -> Outcome:
    """Say something to the agent, and be answered in one of four ways."""
    thread = service.threads.find(call.id)
    text = call.text("content", "Message content is required")
    if not call.flag("stream"):
        return _answer_whole(service, thread, text, call.number("timeout", LONGEST_ANSWER_MS))
    answers = service.message_answers(thread.agent)
    if answers == "refused":
        message = "Streaming messages not yet implemented in public API. Use stream=false."
        raise Refusal(501, "not_implemented", message)
    if answers == "two-connection":
        turn = service.ask(thread, text)
        ids = {"message_id": turn.answer_id, "thread_id": thread.id}
        return Answer(200, {"data": {**ids, "status": "processing"}})
    return _answer_as_events(service, thread, text)


def _answer_whole(service: Service, thread: Thread, text: str, limit_ms: float) -> Later:
    """The answer when it is there; 408 once the limit is over, though the agent goes on.

    Not every dialect notices that an agent failed: it waits on, and stores nothing.
    """
    reply = Later()

    def hear(utterance: Utterance) -> None:
        turn = utterance.turn
        if turn.answer is not None:
            reply.resolve(Answer(200, {"data": service.dialect.answered(turn, turn.answer)}))
        elif utterance.name == "message:failed" and not service.dialect.misses_failed_agents:
            reply.resolve(Refusal(500, "execution_failed", str(turn.error)))

    turn = service.ask(thread, text, hear)
    if turn.error is not None and service.dialect.misses_failed_agents:
        thread.messages.pop()
    limit = max(0, min(limit_ms, LONGEST_ANSWER_MS))
    message = (
        f"Execution did not complete within {limit}ms. "
        f"Use GET /api/v1/threads/{thread.id}/messages to check for new messages."
    )
    too_slow = Refusal(408, "timeout", message)
    service.timeline.schedule(limit / 1000, lambda: reply.resolve(too_slow))
    return reply


def _answer_as_events(service: Service, thread: Thread, text: str) -> EventStream:
    stream = EventStream(service.timeline)

    def hear(utterance: Utterance) -> None:
        stream.publish(utterance.name, utterance.data)
        if utterance.name in ("message:completed", "message:failed"):
            stream.finish()

    service.ask(thread, text, hear)
    return stream


def stream_thread(service: Service, call: Call) -> Outcome:
    """What is said in a thread from now on."""
    thread = service.threads.find(call.id)
    if service.message_answers(thread.agent) == "refused":
        raise service.dialect.no_route("GET", f"/api/v1/threads/{thread.id}/events")
    stream = service.subscribe(thread.id)
    stream.publish("connected", {"thread_id": thread.id, "status": "active"})
    return stream


def delete_thread(service: Service, call: Call) -> Outcome:
    """Forget a thread and all its messages."""
    thread = service.threads.find(call.id)
    del service.threads[thread.id]
    return service.dialect.deleted(thread.id)


_MESSAGES = "/threads/{id}/messages"
ROUTES = (
    Route("GET", "/agents", every("agents", "agent_row"), ("agents:read",)),
    Route("GET", "/agents/{id}", one("agents", "agent"), ("agents:read",)),
    Route("POST", "/agents/{id}/threads", create_thread, ("agents:read", "threads:write")),
    Route("GET", "/threads/{id}", one("threads", "thread"), ("threads:read",)),
    Route("GET", _MESSAGES, list_messages, ("threads:read",)),
    Route("POST", _MESSAGES, send_message, ("agents:execute", "threads:write")),
    Route("GET", "/threads/{id}/events", stream_thread, ("threads:read",)),
    Route("DELETE", "/threads/{id}", delete_thread, ("threads:write",)),
)

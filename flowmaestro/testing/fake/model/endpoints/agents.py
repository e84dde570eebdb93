"""Endpoints of agents, their threads and messages, and their memories of users."""

from __future__ import annotations

from typing import List, Tuple

from flowmaestro.testing.fake.model.agents import Agent, Memory, Thread, Turn
from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.knowledge import KnowledgeBase, similarity, words
from flowmaestro.testing.fake.model.refusals import Refusal, no_route, not_found
from flowmaestro.testing.fake.model.replies import Answer, JsonObject, Later, Respond
from flowmaestro.testing.fake.model.routing import EndpointRoute, Outcome, deleted, every, one
from flowmaestro.testing.fake.model.service import Service

LONGEST_ANSWER_MS = 120_000
"""Milliseconds that the server waits for an agent, if not less (`docs/api-facts.md`)."""
MEMORY_OWNER = "0fa11000-0000-4000-8000-000000000031"
"""The user whose messages agents remember, the owner of the API key."""


def create_thread(service: Service, call: EndpointRequest) -> Outcome:
    """Create a thread. With the deployed shapes, its metadata is dropped, as on that server."""
    agent = service.agents.find(call.id)
    metadata = call.mapping("metadata") if service.dialect.keeps_thread_metadata else {}
    thread = Thread(service.new_id(), agent, metadata, service.model_time.now)
    service.threads[thread.id] = thread
    return Answer(201, {"data": service.dialect.new_thread(thread)})


def list_messages(service: Service, call: EndpointRequest) -> Outcome:
    """List the messages of a thread."""
    return Answer(200, service.dialect.list_messages(service.threads.find(call.id), call.query))


def send_message(service: Service, call: EndpointRequest) -> Outcome:
    """Post a message, and answer with JSON or with events.

    If the request asks for events, and the agent does not answer with events
    (`Service.message_answers`), post nothing and raise a refusal with 501.
    """
    thread = service.threads.find(call.id)
    text = call.text("content", "Message content is required")
    if call.body.get("stream") is not True:
        return _answer_whole(service, thread, text, call.number("timeout", LONGEST_ANSWER_MS))
    if service.message_answers(thread.agent) == "refused":
        message = "Streaming messages not yet implemented in public API. Use stream=false."
        raise Refusal(501, "not_implemented", message)
    turn = service.ask(thread, text)
    return service.subscribe(turn.execution_id)


def _answer_whole(service: Service, thread: Thread, text: str, limit_ms: float) -> Later:
    """Return a response that comes later: the agent's message, or 408 after `limit_ms`.

    The limit is at most `LONGEST_ANSWER_MS`. After a 408, the agent continues its answer. If the
    agent fails within the limit, the response is a 500. With the deployed dialect, it is the 408
    at the limit instead, and the user's message is not stored.
    """

    def later(respond: Respond) -> None:
        def ended(turn: Turn) -> None:
            if turn.answer is not None:
                respond(Answer(200, {"data": service.dialect.answered(turn, turn.answer)}))
            elif not service.dialect.misses_failed_agents:
                respond(Refusal(500, "execution_failed", str(turn.error)))

        turn = service.ask(thread, text, ended)
        if turn.error is not None and service.dialect.misses_failed_agents:
            thread.messages.pop()
        limit = max(0, min(limit_ms, LONGEST_ANSWER_MS))
        message = (
            f"Execution did not complete within {limit}ms. "
            f"Use GET /api/v1/threads/{thread.id}/messages to check for new messages."
        )
        too_slow = Refusal(408, "timeout", message)
        service.model_time.schedule(limit / 1000, lambda: respond(too_slow))

    return later


def stream_thread(service: Service, call: EndpointRequest) -> Outcome:
    """Stream the events of a thread from now on.

    If its agent does not answer with events (`Service.message_answers`), raise the 404 refusal of a
    path without an endpoint.
    """
    known = service.threads.get(call.id)
    if service.message_answers(known.agent if known else None) == "refused":
        raise no_route("GET", f"/api/v1/threads/{call.id}/events")
    thread = service.threads.find(call.id)
    stream = service.subscribe(thread.id)
    stream.publish("connected", {"thread_id": thread.id, "status": "active"})
    return stream


def delete_thread(service: Service, call: EndpointRequest) -> Outcome:
    """Delete a thread and all its messages."""
    thread = service.threads.find(call.id)
    del service.threads[thread.id]
    return deleted(service, thread.id)


def list_memory(service: Service, call: EndpointRequest) -> Outcome:
    """List the memories of the agent, one for each user."""
    memories = service.agents.find(call.id).memories.values()
    rows = [service.dialect.memory(memory) for memory in memories]
    return Answer(200, service.dialect.listed(rows, call.query))


def get_memory(service: Service, call: EndpointRequest) -> Outcome:
    """Return the memory of the agent about one user."""
    memory = service.dialect.memory(_memory(service, call))
    return Answer(200, {"data": {"agent_id": call.id, **memory}})


def update_memory(service: Service, call: EndpointRequest) -> Outcome:
    """Set the memory of the agent about one user.

    The `metadata` of the request are merged into the earlier ones.
    """
    agent, user_id, now = service.agents.find(call.id), call.ids["user_id"], service.model_time.now
    refusal = "working_memory is required and must be a non-empty string"
    text, metadata = call.trimmed("working_memory", refusal), call.mapping("metadata")
    if user_id not in agent.memories:
        service.dialect.check_id(user_id)
    memory = agent.memories.setdefault(user_id, Memory(user_id, text, {}, now, now))
    memory.working_memory, memory.updated_at = text, now
    memory.metadata = {**memory.metadata, **metadata}
    return Answer(200, {"data": {"agent_id": agent.id, **service.dialect.memory(memory)}})


def delete_memory(service: Service, call: EndpointRequest) -> Outcome:
    """Delete the memory of the agent about one user."""
    memory = _memory(service, call)
    del service.agents.find(call.id).memories[memory.user_id]
    ids = {"agent_id": call.id, "user_id": memory.user_id}
    return Answer(200, {"data": {**ids, "deleted": True}})


def search_memory(service: Service, call: EndpointRequest) -> Outcome:
    """Return the messages of an agent's threads that are most similar to a query.

    The result is empty if the request has a `user_id` other than `MEMORY_OWNER`.
    """
    agent = service.agents.find(call.id)
    query = call.trimmed("query", "query is required and must be a non-empty string")
    top_k, threshold = call.count("top_k", 10), call.number("similarity_threshold", 0.0)
    said = _said(service, agent) if call.body.get("user_id") in (None, MEMORY_OWNER) else []
    asked = words(query)
    found = [(similarity(asked, thread.messages[at].content), thread, at) for thread, at in said]
    fitting = [hit for hit in found if hit[0] > 0 and hit[0] >= threshold]
    best = sorted(fitting, key=lambda hit: -hit[0])[:top_k]
    results = [
        {
            "content": thread.messages[at].content,
            "role": thread.messages[at].role,
            "similarity": score,
            "execution_id": thread.id,
            "context_before": _embedded(service, thread, at - 1),
            "context_after": _embedded(service, thread, at + 1),
        }
        for score, thread, at in best
    ]
    data = {"agent_id": agent.id, "query": query, "results": results}
    return Answer(200, {"data": {**data, "result_count": len(results)}})


def memory_stats(service: Service, call: EndpointRequest) -> Outcome:
    """Count the memories of the agent, and the messages of its threads."""
    agent = service.agents.find(call.id)
    stats: JsonObject = {
        "agent_id": agent.id,
        "working_memory_count": len(agent.memories),
        "embedding_count": len(_said(service, agent)),
        "memory_config": {"type": "buffer", "max_messages": 20},
    }
    return Answer(200, {"data": stats})


def _memory(service: Service, call: EndpointRequest) -> Memory:
    user_id = call.ids["user_id"]
    memory = service.agents.find(call.id).memories.get(user_id)
    if memory is None:
        service.dialect.check_id(user_id)
        raise not_found("working memory", f"{call.id}/{user_id}")
    return memory


def _said(service: Service, agent: Agent) -> List[Tuple[Thread, int]]:
    """Return all messages of the agent's threads, each as a pair of its thread and its index."""
    threads = [thread for thread in service.threads.values() if thread.agent is agent]
    return [(thread, at) for thread in threads for at in range(len(thread.messages))]


def _embedded(service: Service, thread: Thread, index: int) -> List[JsonObject]:
    """Return a list that contains only the message at `index` of a thread, or `[]`.

    The message has the form of `context_before` and `context_after` in a memory search. The list
    is empty if the thread has no message at `index`.
    """
    if not 0 <= index < len(thread.messages):
        return []
    message = thread.messages[index]
    shown = {
        "id": message.id,
        "agent_id": thread.agent.id,
        "user_id": MEMORY_OWNER,
        "execution_id": thread.id,
        "message_id": message.id,
        "message_role": message.role,
        "message_index": index,
        "content": message.content,
        "embedding": "[0,0,0]",
        "embedding_model": KnowledgeBase.embedding_model,
        "embedding_provider": "openai",
        "created_at": service.model_time.iso(message.created_at),
    }
    return [shown]


_MESSAGES = "/threads/{id}/messages"
_MEMORY, _OF_USER = "/agents/{id}/memory", "/agents/{id}/memory/{user_id}"
_READ = ("agents:read",)
ROUTES = (
    EndpointRoute("GET", "/agents", every("agents", "agent_row"), _READ),
    EndpointRoute("GET", "/agents/{id}", one("agents", "agent"), _READ),
    EndpointRoute("POST", "/agents/{id}/threads", create_thread, ("agents:read", "threads:write")),
    EndpointRoute("GET", "/threads/{id}", one("threads", "thread"), ("threads:read",)),
    EndpointRoute("GET", _MESSAGES, list_messages, ("threads:read",)),
    EndpointRoute("POST", _MESSAGES, send_message, ("agents:execute", "threads:write")),
    EndpointRoute("GET", "/threads/{id}/events", stream_thread, ("threads:read",)),
    EndpointRoute("DELETE", "/threads/{id}", delete_thread, ("threads:write",)),
    EndpointRoute("GET", _MEMORY, list_memory, _READ),
    EndpointRoute("GET", f"{_MEMORY}/stats", memory_stats, _READ),
    EndpointRoute("POST", f"{_MEMORY}/search", search_memory, _READ),
    EndpointRoute("GET", _OF_USER, get_memory, _READ),
    EndpointRoute("PUT", _OF_USER, update_memory, _READ),
    EndpointRoute("DELETE", _OF_USER, delete_memory, _READ),
)

"""What agents remember of the users they talk to."""

from __future__ import annotations

from typing import List, Optional, Tuple

from flowmaestro.testing.model.agents import Agent, Memory, MemoryHit, Thread
from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.knowledge import KnowledgeBase, LexicalIndex
from flowmaestro.testing.model.refusals import not_found
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.routing import Outcome, Route
from flowmaestro.testing.model.service import Service

MEMORY_OWNER = "0fa11000-0000-4000-8000-000000000031"
"""The user whose messages agents remember: the owner of the API key."""


def list_memory(service: Service, call: Call) -> Outcome:
    """Everything that one agent remembers."""
    memories = _agent(service, call).memories.values()
    rows = [service.dialect.memory(memory) for memory in memories]
    return Answer(200, service.dialect.listed(rows, call.query))


def get_memory(service: Service, call: Call) -> Outcome:
    """What it remembers of one user."""
    memory = service.dialect.memory(_memory(service, call))
    return Answer(200, {"data": {"agent_id": call.id, **memory}})


def update_memory(service: Service, call: Call) -> Outcome:
    """Remember this of that user; what is left out, if it may be, stays as it was."""
    agent, user_id, now = _agent(service, call), call.ids["user_id"], service.timeline.now
    text: Optional[str] = None
    if "working_memory" in call.body or service.dialect.memory_needs_text:
        text = call.text(
            "working_memory", "working_memory is required and must be a non-empty string"
        )
    metadata = call.mapping("metadata")
    if user_id not in agent.memories:
        service.dialect.check_id(user_id)
    memory = agent.memories.setdefault(user_id, Memory(user_id, "", {}, now, now))
    memory.working_memory = memory.working_memory if text is None else text
    memory.metadata = {**memory.metadata, **metadata}
    memory.updated_at = now
    return Answer(200, {"data": {"agent_id": agent.id, **service.dialect.memory(memory)}})


def delete_memory(service: Service, call: Call) -> Outcome:
    """Forget that user."""
    memory = _memory(service, call)
    del _agent(service, call).memories[memory.user_id]
    ids = {"agent_id": call.id, "user_id": memory.user_id}
    return Answer(200, {"data": {**ids, "deleted": True}})


def search_memory(service: Service, call: Call) -> Outcome:
    """The messages of an agent's threads that fit a query best; all are of one user."""
    agent = _agent(service, call)
    query = call.text("query", "query is required and must be a non-empty string")
    top_k, threshold = call.count("top_k", 10), call.number("similarity_threshold", 0.0)
    said = _said(service, agent) if call.body.get("user_id") in (None, MEMORY_OWNER) else []
    scores = LexicalIndex([thread.messages[index].content for thread, index in said]).scores(query)
    hits = [MemoryHit(*it, score) for it, score in zip(said, scores)]
    hits = [hit for hit in hits if hit.score > 0 and hit.score >= threshold]
    best = sorted(hits, key=lambda hit: -hit.score)[:top_k]
    results = [_hit(service, hit) for hit in best]
    data = {"agent_id": agent.id, "query": query, "results": results}
    return Answer(200, {"data": {**data, "result_count": len(results)}})


def memory_stats(service: Service, call: Call) -> Outcome:
    """How much it remembers."""
    agent = _agent(service, call)
    stats: JsonObject = {
        "agent_id": agent.id,
        "working_memory_count": len(agent.memories),
        "embedding_count": len(_said(service, agent)),
        "memory_config": {},
    }
    return Answer(200, {"data": stats})


def _agent(service: Service, call: Call) -> Agent:
    return service.agents.find(call.id)


def _memory(service: Service, call: Call) -> Memory:
    user_id = call.ids["user_id"]
    memory = _agent(service, call).memories.get(user_id)
    if memory is None:
        service.dialect.check_id(user_id)
        raise not_found("working memory", f"{call.id}/{user_id}")
    return memory


def _said(service: Service, agent: Agent) -> List[Tuple[Thread, int]]:
    """Every message of the agent's threads, as a thread and an index into its messages."""
    threads = [thread for thread in service.threads.values() if thread.agent is agent]
    return [(thread, index) for thread in threads for index in range(len(thread.messages))]


def _hit(service: Service, hit: MemoryHit) -> JsonObject:
    """One result of a search, with the messages around it."""
    messages, number = hit.thread.messages, hit.number
    last = len(messages) - 1
    return {
        "content": messages[number].content,
        "role": messages[number].role,
        "similarity": hit.score,
        "execution_id": hit.thread.id,
        "context_before": [_embedding(service, hit.thread, number - 1)] if number else [],
        "context_after": [_embedding(service, hit.thread, number + 1)] if number < last else [],
    }


def _embedding(service: Service, thread: Thread, index: int) -> JsonObject:
    message = thread.messages[index]
    return {
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
        "created_at": service.timeline.iso(message.created_at),
    }


_MEMORY, _OF_USER = "/agents/{id}/memory", "/agents/{id}/memory/{user_id}"
_SCOPES = ("agents:read",)
ROUTES = (
    Route("GET", _MEMORY, list_memory, _SCOPES),
    Route("GET", f"{_MEMORY}/stats", memory_stats, _SCOPES),
    Route("POST", f"{_MEMORY}/search", search_memory, _SCOPES),
    Route("GET", _OF_USER, get_memory, _SCOPES),
    Route("PUT", _OF_USER, update_memory, _SCOPES),
    Route("DELETE", _OF_USER, delete_memory, _SCOPES),
)

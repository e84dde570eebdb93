"""What agents remember of the users they talk to."""

from __future__ import annotations

from flowmaestro.testing.model.agents import Agent, Memory
from flowmaestro.testing.model.refusals import invalid, not_found
from flowmaestro.testing.model.replies import Answer
from flowmaestro.testing.model.routing import Call, Outcome, Route
from flowmaestro.testing.model.service import Service


def list_memory(service: Service, call: Call) -> Outcome:
    """Everything that one agent remembers."""
    memories = _agent(service, call).memories.values()
    rows = [service.dialect.memory(memory) for memory in memories]
    return Answer(200, service.dialect.listed(rows, call.query))


def get_memory(service: Service, call: Call) -> Outcome:
    """What it remembers of one user."""
    return Answer(200, {"data": service.dialect.memory(_memory(service, call))})


def update_memory(service: Service, call: Call) -> Outcome:
    """Remember this of that user; what is left out stays as it was."""
    agent, user_id, now = _agent(service, call), call.ids["user_id"], service.timeline.now
    if not isinstance(call.body.get("working_memory", ""), str):
        raise invalid("working_memory is not a string", working_memory="must be a string")
    memory = agent.memories.setdefault(user_id, Memory(user_id, "", {}, now, now))
    memory.working_memory = call.body.get("working_memory", memory.working_memory)
    memory.metadata = {**memory.metadata, **call.mapping("metadata")}
    memory.updated_at = now
    return Answer(200, {"data": service.dialect.memory(memory)})


def delete_memory(service: Service, call: Call) -> Outcome:
    """Forget that user."""
    memory = _memory(service, call)
    del _agent(service, call).memories[memory.user_id]
    return Answer(200, {"data": {"user_id": memory.user_id, "deleted": True}})


def search_memory(service: Service, call: Call) -> Outcome:
    """The memories that fit a query best."""
    agent, query = _agent(service, call), call.text("query")
    top_k, threshold = call.count("top_k", 10), call.number("similarity_threshold", 0.0)
    hits = agent.recall(query, top_k, threshold, call.body.get("user_id"))
    results = [service.dialect.memory_hit(hit) for hit in hits]
    return Answer(200, {"data": {"query": query, "results": results, "count": len(results)}})


def memory_stats(service: Service, call: Call) -> Outcome:
    """How much it remembers."""
    agent = _agent(service, call)
    size = sum(len(memory.working_memory) for memory in agent.memories.values())
    counts = {"total_users": len(agent.memories), "total_characters": size}
    return Answer(200, {"data": {"agent_id": agent.id, **counts}})


def _agent(service: Service, call: Call) -> Agent:
    return service.find(service.agents, "agent", call.id)


def _memory(service: Service, call: Call) -> Memory:
    user_id = call.ids["user_id"]
    memory = _agent(service, call).memories.get(user_id)
    if memory is None:
        raise not_found("memory", user_id)
    return memory


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

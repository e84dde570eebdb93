"""Knowledge bases, and asking them."""

from __future__ import annotations

from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.replies import Answer
from flowmaestro.testing.model.routing import Outcome, Route
from flowmaestro.testing.model.service import Service


def list_knowledge_bases(service: Service, call: Call) -> Outcome:
    """Every knowledge base."""
    bases = service.every(service.knowledge_bases, "knowledge base")
    rows = [service.dialect.knowledge_base_row(base) for base in bases]
    return Answer(200, service.dialect.listed(rows, call.query))


def get_knowledge_base(service: Service, call: Call) -> Outcome:
    """One knowledge base."""
    base = service.find(service.knowledge_bases, "knowledge base", call.id)
    return Answer(200, {"data": service.dialect.knowledge_base(base)})


def query_knowledge_base(service: Service, call: Call) -> Outcome:
    """The passages that answer best."""
    base = service.find(service.knowledge_bases, "knowledge base", call.id)
    query, top_k = call.text("query", "Query is required"), service.dialect.top_k(call)
    results = [service.dialect.hit(hit) for hit in base.search(query, top_k)]
    return Answer(200, {"data": {"results": results, "query": query, "top_k": top_k}})


_READ, _QUERY = "knowledge-bases:read", "knowledge-bases:query"
ROUTES = (
    Route("GET", "/knowledge-bases", list_knowledge_bases, (_READ,)),
    Route("GET", "/knowledge-bases/{id}", get_knowledge_base, (_READ,)),
    Route("POST", "/knowledge-bases/{id}/query", query_knowledge_base, (_READ, _QUERY)),
)

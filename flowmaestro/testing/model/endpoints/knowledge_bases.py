"""Knowledge bases, and asking them."""

from __future__ import annotations

from flowmaestro.testing.model.replies import Answer
from flowmaestro.testing.model.routing import Call, Outcome, Route
from flowmaestro.testing.model.service import Service

DEFAULT_TOP_K = 5


def list_knowledge_bases(service: Service, call: Call) -> Outcome:
    """Every knowledge base."""
    bases = service.every(service.knowledge_bases, "knowledge base")
    rows = [service.dialect.knowledge_base(base) for base in bases]
    return Answer(200, service.dialect.listed(rows, call.query))


def get_knowledge_base(service: Service, call: Call) -> Outcome:
    """One knowledge base."""
    base = service.find(service.knowledge_bases, "knowledge base", call.id)
    return Answer(200, {"data": service.dialect.knowledge_base(base)})


def query_knowledge_base(service: Service, call: Call) -> Outcome:
    """The passages that answer best; a `top_k` of null may find nothing at all."""
    base = service.find(service.knowledge_bases, "knowledge base", call.id)
    query, top_k = call.text("query"), call.count("top_k", DEFAULT_TOP_K)
    if "top_k" in call.body and call.body["top_k"] is None:
        top_k = 0 if service.dialect.null_top_k_finds_nothing else DEFAULT_TOP_K
    results = [service.dialect.hit(hit) for hit in base.search(query, top_k)]
    return Answer(200, {"data": {"query": query, "results": results}})


_READ, _QUERY = "knowledge-bases:read", "knowledge-bases:query"
ROUTES = (
    Route("GET", "/knowledge-bases", list_knowledge_bases, (_READ,)),
    Route("GET", "/knowledge-bases/{id}", get_knowledge_base, (_READ,)),
    Route("POST", "/knowledge-bases/{id}/query", query_knowledge_base, (_READ, _QUERY)),
)

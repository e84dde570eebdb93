"""The endpoints of knowledge bases."""

from __future__ import annotations

from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.replies import Answer
from flowmaestro.testing.fake.model.routing import EndpointRoute, Outcome, every, one
from flowmaestro.testing.fake.model.service import Service

MOST_RESULTS = 20
"""The server returns no more, whatever the request says, and returns this as `top_k`."""


def query_knowledge_base(service: Service, call: EndpointRequest) -> Outcome:
    """Return the paragraphs that are most similar to a query."""
    base = service.knowledge_bases.find(call.id)
    query = call.text("query", "Query is required")
    top_k = min(service.dialect.top_k(call), MOST_RESULTS)
    results = [service.dialect.hit(hit) for hit in base.search(query, top_k)]
    return Answer(200, {"data": {"results": results, "query": query, "top_k": top_k}})


_READ, _QUERY = "knowledge-bases:read", "knowledge-bases:query"
ROUTES = (
    EndpointRoute(
        "GET", "/knowledge-bases", every("knowledge_bases", "knowledge_base_row"), (_READ,)
    ),
    EndpointRoute(
        "GET", "/knowledge-bases/{id}", one("knowledge_bases", "knowledge_base"), (_READ,)
    ),
    EndpointRoute("POST", "/knowledge-bases/{id}/query", query_knowledge_base, (_READ, _QUERY)),
)

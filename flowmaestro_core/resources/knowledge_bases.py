"""Knowledge bases: documents that can be searched by meaning."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.arguments import count, text
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.listing import iterate_pages, list_call
from flowmaestro_core.types import KnowledgeBase, QueryKnowledgeBaseResponse


class KnowledgeBases(Resource[D]):
    """`client.knowledge_bases`. Needs the scope `knowledge-bases:read`.

    `query` needs the scope `knowledge-bases:query` too.
    """

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[KnowledgeBase]]:
        """List knowledge bases, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        return list_call("/knowledge-bases", page, per_page, shapes.resource(KnowledgeBase))

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[KnowledgeBase]:
        """Iterate over all knowledge bases, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(KnowledgeBases.list, per_page)

    @endpoint
    def get(self, knowledge_base_id: str) -> Call[Reply[KnowledgeBase]]:
        """Get one knowledge base. Raises `NotFoundError` if there is none."""
        where = _knowledge_base(knowledge_base_id)
        return Call("GET", where, shape=shapes.resource(KnowledgeBase))

    @endpoint
    def query(
        self,
        knowledge_base_id: str,
        query: str,
        *,
        top_k: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[QueryKnowledgeBaseResponse]]:
        """Search a knowledge base; `data["results"]` has the best first.

        Args:
            query: what to look for.
            top_k: at most so many results; the server's own choice when left out.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        """
        return Call(
            "POST",
            _knowledge_base(knowledge_base_id) + "/query",
            json_body(query=text("query", query), top_k=count("top_k", top_k)),
            shape=shapes.knowledge_search,
            idempotency_key=idempotency_key,
        )


def _knowledge_base(knowledge_base_id: str) -> str:
    return path("/knowledge-bases/{knowledge_base_id}", knowledge_base_id=knowledge_base_id)

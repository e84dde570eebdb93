"""Agents: what they are, threads with them, and what they remember of users."""

from __future__ import annotations

from functools import partial
from typing import Any, Mapping, Optional

from flowmaestro_core.arguments import count, mapping, number, optional_text, text
from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.listing import iterate_pages, list_call
from flowmaestro_core.types import Agent, DeletedResource, Memory, MemorySearch, MemoryStats, Thread


class Agents(Resource[D]):
    """`client.agents`. Needs the scope `agents:read`; `create_thread` needs `threads:write` too."""

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Agent]]:
        """List agents, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        return list_call("/agents", page, per_page, shapes.resource(Agent))

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[Agent]:
        """Iterate over all agents, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(Agents.list, per_page)

    @endpoint
    def get(self, agent_id: str) -> Call[Reply[Agent]]:
        """Get one agent. Raises `NotFoundError` if there is none."""
        where = path("/agents/{agent_id}", agent_id=agent_id)
        return Call("GET", where, shape=shapes.resource(Agent))

    @endpoint
    def create_thread(
        self,
        agent_id: str,
        *,
        metadata: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[Thread]]:
        """Begin a conversation with an agent; `data["id"]` is the thread's id.

        Args:
            metadata: your own data about the thread. The deployed server drops it.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        """
        return Call(
            "POST",
            path("/agents/{agent_id}/threads", agent_id=agent_id),
            json_body(metadata=mapping("metadata", metadata) or {}),
            repeatable=False,
            shape=shapes.resource(Thread),
            idempotency_key=idempotency_key,
        )

    @endpoint
    def list_memory(
        self, agent_id: str, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Memory]]:
        """List what an agent remembers, one page at a time. Each `Memory` is about one user.

        Args:
            page: which page, from 1.
            per_page: how many users on a page, 1 to 100; the server's default is 20.

        """
        return list_call(_memory(agent_id), page, per_page, _MEMORY)

    @iterating_endpoint
    def iterate_memory(self, agent_id: str, *, per_page: Optional[int] = None) -> Pages[Memory]:
        """Iterate over what an agent remembers, page after page. Each `Memory` is about one user.

        Args:
            per_page: how many users the SDK requests at a time, 1 to 100; the server's default is
                20.

        """
        return iterate_pages(partial(Agents.list_memory, agent_id), per_page)

    @endpoint
    def get_memory(self, agent_id: str, user_id: str) -> Call[Reply[Memory]]:
        """Get what an agent remembers of one user.

        Args:
            user_id: the user's id, a UUID.

        """
        return Call("GET", _memory_of(agent_id, user_id), shape=_MEMORY)

    @endpoint
    def update_memory(
        self,
        agent_id: str,
        user_id: str,
        *,
        working_memory: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> Call[Reply[Memory]]:
        """Set what an agent remembers of one user.

        Args:
            user_id: the user's id, a UUID.
            working_memory: the text that the agent is given about the user. The deployed server
                refuses a call without it or with an empty text (`ValidationError`).
            metadata: your own data about the user; left out, it stays as it is.

        """
        body = json_body(
            working_memory=optional_text("working_memory", working_memory),
            metadata=mapping("metadata", metadata),
        )
        return Call("PUT", _memory_of(agent_id, user_id), body, shape=_MEMORY)

    @endpoint
    def delete_memory(self, agent_id: str, user_id: str) -> Call[Reply[DeletedResource]]:
        """Delete what an agent remembers of one user.

        The deployed server returns `agent_id` and `user_id` in `data` beside `deleted`. They may be
        missing if an attempt got no reply or a server error, and the retry found nothing.

        Args:
            user_id: the user's id, a UUID.

        """
        return Call(
            "DELETE",
            _memory_of(agent_id, user_id),
            shape=partial(shapes.deleted, user_id),
            confirmation=Confirmation(404),
        )

    @endpoint
    def search_memory(
        self,
        agent_id: str,
        query: str,
        *,
        top_k: Optional[int] = None,
        similarity_threshold: Optional[float] = None,
        user_id: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[MemorySearch]]:
        """Search what an agent remembers; `data["results"]` has the best first.

        Args:
            query: what to look for.
            top_k: at most so many results; the server's own choice when left out.
            similarity_threshold: only results at least so similar, 0 to 1.
            user_id: only what is remembered of this user.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        """
        return Call(
            "POST",
            _memory(agent_id) + "/search",
            json_body(
                query=text("query", query),
                top_k=count("top_k", top_k),
                similarity_threshold=number("similarity_threshold", similarity_threshold),
                user_id=optional_text("user_id", user_id),
            ),
            shape=shapes.memory_search,
            idempotency_key=idempotency_key,
        )

    @endpoint
    def memory_stats(self, agent_id: str) -> Call[Reply[MemoryStats]]:
        """Get figures about an agent's memory."""
        where = _memory(agent_id) + "/stats"
        return Call("GET", where, shape=shapes.resource(MemoryStats))


_MEMORY = shapes.resource(Memory)


def _memory(agent_id: str) -> str:
    return path("/agents/{agent_id}/memory", agent_id=agent_id)


def _memory_of(agent_id: str, user_id: str) -> str:
    return path("/agents/{agent_id}/memory/{user_id}", agent_id=agent_id, user_id=user_id)

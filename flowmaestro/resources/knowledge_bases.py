"""The types of `client.knowledge_bases`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.knowledge_bases import KnowledgeBases


class SyncKnowledgeBases(KnowledgeBases[Sync]):
    """`client.knowledge_bases` of a sync client."""


class AsyncKnowledgeBases(KnowledgeBases[Async]):
    """`client.knowledge_bases` of an async client."""


__all__ = ["AsyncKnowledgeBases", "KnowledgeBases", "SyncKnowledgeBases"]

"""The types of `client.knowledge_bases`, for annotations."""

from flowmaestro_core.operation import Async, Sync
from flowmaestro_core.resources.knowledge_bases import KnowledgeBases

SyncKnowledgeBases = KnowledgeBases[Sync]
AsyncKnowledgeBases = KnowledgeBases[Async]

__all__ = ["AsyncKnowledgeBases", "KnowledgeBases", "SyncKnowledgeBases"]

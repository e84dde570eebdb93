"""Knowledge bases, with a search by the words that a query and a paragraph share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import List, NamedTuple, Set

_WORD = re.compile(r"\w+")
_TRIVIAL = re.compile(
    r"an?|and|are|as|at|be|by|can|does?|for|from|how|i|in|is|it|my|of|on|or|our|the|to|was|we"
    r"|what|when|where|which|who|will|with|your?"
)
_BLANK_LINES = re.compile(r"\n\s*\n")
_ENDING = re.compile(r"(?<=\w{3})(ing|ed|es|s)$")


def words(text: str) -> Set[str]:
    """Return the words of a text, to compare them in a search.

    They are in lower case. An ending `ing`, `ed`, `es` or `s` after at least three characters is
    removed. Stop words are left out.
    """
    found = (word for word in set(_WORD.findall(text.lower())) if not _TRIVIAL.fullmatch(word))
    return {_ENDING.sub("", word) for word in found}


def similarity(asked: Set[str], text: str) -> float:
    """Return how well a text fits the words of a query, from 0 to 1.

    It is the cosine of the two sets of words.
    """
    held = words(text)
    shared = len(asked & held)
    return shared / math.sqrt(len(asked) * len(held)) if shared else 0.0


class Chunk(NamedTuple):
    """One paragraph of a document."""

    id: str
    document_id: str
    document_name: str
    content: str
    position: int


class Hit(NamedTuple):
    """A chunk that a query found, with its similarity from 0 to 1."""

    chunk: Chunk
    score: float


@dataclass
class KnowledgeBase:
    """A knowledge base: documents, split into paragraphs that can be searched."""

    id: str
    name: str
    description: str
    created_at: float
    chunks: List[Chunk] = field(default_factory=list[Chunk])
    document_count: int = 0

    embedding_model = "text-embedding-3-small"
    chunk_size = 1000
    chunk_overlap = 200

    @property
    def chunk_count(self) -> int:
        """The number of paragraphs of all documents."""
        return len(self.chunks)

    def add_document(self, id: str, name: str, text: str) -> None:
        """Add one document. Lines that are blank, or only white space, separate its paragraphs."""
        self.document_count += 1
        paragraphs = [part.strip() for part in _BLANK_LINES.split(text) if part.strip()]
        for index, paragraph in enumerate(paragraphs):
            self.chunks.append(Chunk(f"{id}_chunk_{index}", id, name, paragraph, index))

    def search(self, query: str, top_k: int) -> List[Hit]:
        """Return at most `top_k` chunks that fit `query`, the most similar first.

        A chunk fits if it shares at least one word with `query`, as the function `words` sees it.
        """
        asked = words(query)
        hits = [Hit(chunk, similarity(asked, chunk.content)) for chunk in self.chunks]
        return sorted((hit for hit in hits if hit.score), key=lambda hit: -hit.score)[:top_k]

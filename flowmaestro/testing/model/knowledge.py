"""Knowledge bases with a real, small, lexical search: Okapi BM25 over paragraphs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Counter, List, NamedTuple, Sequence, Set

_WORD = re.compile(r"\w+")
_TRIVIAL = re.compile(
    r"an?|and|are|as|at|be|by|can|does?|for|from|how|i|in|is|it|my|of|on|or|our|the|to|was|we"
    r"|what|when|where|which|who|will|with|your?"
)
_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75
_HALF_SCORE = 2.0


def words(text: str) -> List[str]:
    """The words of a text that a search goes by: lower case, singular, none of the trivial."""
    found = (word.lower() for word in _WORD.findall(text))
    return [_stem(word) for word in found if not _TRIVIAL.fullmatch(word)]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


class LexicalIndex:
    """Scores texts against a query by BM25, brought into the range 0 to 1."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(words(text)) for text in texts]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = (sum(self._lengths) / len(texts) if texts else 0.0) or 1.0
        self._holders = Counter(word for counts in self._counts for word in counts)

    def scores(self, query: str) -> List[float]:
        """One score a text, in the order of the texts; 0.0 where no word is shared."""
        asked = set(words(query))
        return [
            self._score(asked, counts, length)
            for counts, length in zip(self._counts, self._lengths)
        ]

    def _score(self, asked: Set[str], counts: Counter[str], length: int) -> float:
        stretch = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * length / self._mean
        total = 0.0
        for word in sorted(asked & counts.keys()):
            often = counts[word]
            weight = often * (_SATURATION + 1) / (often + _SATURATION * stretch)
            total += self._rarity(word) * weight
        return total / (total + _HALF_SCORE)

    def _rarity(self, word: str) -> float:
        holders = self._holders[word]
        return math.log(1 + (len(self._counts) - holders + 0.5) / (holders + 0.5))


class Chunk(NamedTuple):
    """One paragraph of a document."""

    id: str
    document_id: str
    document_name: str
    content: str
    position: int


class Hit(NamedTuple):
    """A chunk that a query found, and how well it fits (0 to 1)."""

    chunk: Chunk
    score: float


@dataclass
class KnowledgeBase:
    """Documents, cut into paragraphs, that can be asked."""

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
        """How many paragraphs its documents have."""
        return len(self.chunks)

    def add_document(self, id: str, name: str, text: str) -> None:
        """Add one document; blank lines part its paragraphs."""
        self.document_count += 1
        paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
        for index, paragraph in enumerate(paragraphs):
            self.chunks.append(Chunk(f"{id}_chunk_{index}", id, name, paragraph, index))

    def search(self, query: str, top_k: int) -> List[Hit]:
        """The `top_k` chunks that fit `query` best, best first; none that share no word."""
        scores = LexicalIndex([chunk.content for chunk in self.chunks]).scores(query)
        hits = [Hit(chunk, score) for chunk, score in zip(self.chunks, scores) if score > 0]
        return sorted(hits, key=lambda hit: -hit.score)[:top_k]

"""Search a knowledge base by meaning: the words after the command, or a question of our own."""

from __future__ import annotations

import sys

from service import KNOWLEDGE_BASE, service

from flowmaestro import FlowMaestroClient

QUESTION = "How do I reset my password?"


def main(question: str) -> None:
    """Print the best three hits."""
    with FlowMaestroClient() as client:
        found = client.knowledge_bases.query(KNOWLEDGE_BASE, question, top_k=3)["data"]
    for hit in found["results"]:
        print(f"{hit['similarity']:.2f} {hit['document_name']}: {hit['content'][:60]}")


if __name__ == "__main__":
    with service():
        main(" ".join(sys.argv[1:]) or QUESTION)

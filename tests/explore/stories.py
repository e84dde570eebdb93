"""Counterexamples as stories: what happened, step by step, and the text that replays it."""

from __future__ import annotations

from typing import Any, List

from flowmaestro.testing.search import Path


def story_of(name: str, path: Path, broken: Any) -> str:
    """Return the story of a path that has failed."""
    error: Any = path.error
    kept = f"broken: {', '.join(sorted(broken))}" if broken else "kept: all"
    lines: List[str] = getattr(error, "story", [])
    first = str(error).partition("\n")[0]
    head = f"{first} (assumptions {kept})        replay: {name}/{path.text}"
    return "\n".join([head, *(f"  {line}" for line in lines)])

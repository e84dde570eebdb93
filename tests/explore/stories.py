"""Counterexamples as stories: what happened, step by step, and the text that replays it."""

from __future__ import annotations

from typing import List, Tuple

from flowmaestro.testing.search import Path
from tests.explore.scenario import Scenario


def story_of(scenario: Scenario, path: Path) -> str:
    """Return the story of a path that has failed."""
    kept = f"broken: {', '.join(sorted(scenario.broken))}" if scenario.broken else "kept: all"
    steps: List[Tuple[str, str, str]] = getattr(path.error, "story", [])
    first = str(path.error).partition("\n")[0]
    head = f"{first} (assumptions {kept})        replay: {scenario.name}/{path.text}"
    return "\n".join([head, *(f"  {who:7} {what:44} {then}".rstrip() for who, what, then in steps)])

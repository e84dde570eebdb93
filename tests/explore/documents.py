"""Writes the shortest story of each broken assumption into the pages that name the assumptions.

python -m tests.explore.documents            # write them
python -m tests.explore.documents --check    # exit with status 1 if a page is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, List, Sequence

from flowmaestro.testing.search import explore, replay
from tests.explore.processes import runner
from tests.explore.scenario import Scenario
from tests.explore.scenarios import BROKEN
from tests.explore.stories import story_of

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"durable.md": "checkpoint", "batches.md": "batch"}
"""The pages, each with the kind of its scenarios."""
BEGIN, END = "<!-- written by tests.explore.documents -->", "<!-- to here -->"


def story(scenario: Scenario) -> str:
    """Return the shortest story in which the broken assumption leads to a wrong end."""
    report = explore(runner(scenario), faults=scenario.faults)
    return story_of(scenario, report.findings[0])


def story_again(scenario: Scenario) -> str:
    """Return the story that the page has of a scenario, told anew by its replay text."""
    text = page_of(scenario).partition(f"replay: {scenario.name}/")[2].split("\n")[0]
    return story_of(scenario, replay(runner(scenario), text))


def page_of(scenario: Scenario) -> str:
    """Return the text of the page that has the story of a scenario."""
    (page,) = (page for page, kind in PAGES.items() if kind == scenario.kind)
    return (DOCS / page).read_text("utf-8")


def written() -> Dict[str, str]:
    """Return the texts of the pages, with the stories of today."""
    pages: Dict[str, str] = {}
    for page, kind in PAGES.items():
        parts: List[str] = []
        for scenario in BROKEN:
            if scenario.kind == kind:
                (name,) = scenario.broken
                parts.append(f"Without \u201c{name}\u201d:\n\n```text\n{story(scenario)}\n```")
        text = (DOCS / page).read_text("utf-8")
        before, _, rest = text.partition(BEGIN)
        pages[page] = before + "\n\n".join([BEGIN, *parts, END]) + rest.partition(END)[2]
    return pages


def main(words: Sequence[str]) -> int:
    """Write the pages, or compare them with `--check`. Return the exit status."""
    stale = 0
    for page, text in written().items():
        path = DOCS / page
        if path.read_text("utf-8") == text:
            continue
        stale += 1
        print(f"{page} is out of date" if "--check" in words else f"wrote {page}")
        if "--check" not in words:
            path.write_text(text, "utf-8")
    return int(stale > 0 and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

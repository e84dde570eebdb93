"""Gathers the pages of the site in one folder: `python docs/site.py build/pages`.

The pages of `docs/` stay where they are. A page outside it gets a place beside them, and a source
file that a page links to becomes a page, so that every link of the site stays within it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "transports/README.md": "transports.md",
}
"""Pages outside `docs/`, and their places on the site."""
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)#:]+)(?=[)#])")
_BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def gather(target: Path) -> None:
    """Write all pages to an empty folder `target`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    places = {DOCS / file.relative_to(target): file for file in target.rglob("*.md")}
    places.update({ROOT / here: target / there for here, there in ELSEWHERE.items()})
    places[ROOT / "README.md"] = places[DOCS / "index.md"]
    for page, place in list(places.items()):
        if page != ROOT / "README.md":
            place.write_text(moved(page, place, places, target), encoding="utf-8")


def moved(page: Path, place: Path, places: Dict[Path, Path], target: Path) -> str:
    """A page's text, with links that lead on from its new place."""

    def lead(found: re.Match[str]) -> str:
        aim = (page.parent / found["target"]).resolve()
        if aim.suffix in (".md", ".py"):
            there = places.get(aim) or source_page(aim, target)
        else:
            there = target / aim.relative_to(DOCS)
        return os.path.relpath(there, place.parent)

    parts = _BLOCK.split(page.read_text(encoding="utf-8"))
    parts[::2] = [_LINK.sub(lead, part) for part in parts[::2]]
    return "".join(parts)


def source_page(file: Path, target: Path) -> Path:
    """A page that shows a source file."""
    name = file.relative_to(ROOT).as_posix()
    made = target / "source" / f"{name[:-3]}.md"
    made.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8")
    made.write_text(f"# {name}\n\n````python\n{text}````\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    gather(Path(sys.argv[1]))

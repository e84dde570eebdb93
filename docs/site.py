"""Gathers the pages of the site: `python docs/site.py build` fills `build/pages`.

It also writes `build/zensical.toml`: the settings of the site, with the address that the
environment variable `SITE_URL` names.

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

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "transports/README.md": "transports.md",
}
"""Pages outside `docs/`, and their places on the site."""
_LINK = re.compile(
    r"""(?P<before>\]\(|^\[[^\]]+\]:\s*|\s(?:href|src)=")(?P<target>[^)#:\s"]+)(?=[)#\s"])"""
)


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
    """Return a page's text, with links that lead on from its new place.

    Ends the program, naming page and line, for a link to what is not there.
    """
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    blocks = (it for it in MarkdownIt().parse("".join(lines)) if it.type in ("fence", "code_block"))
    code = {number for block in blocks for number in range(*(block.map or ()))}

    def lead(found: re.Match[str]) -> str:
        aim = (page.parent / found["target"]).resolve()
        there = places.get(aim)
        if there is None and aim.exists() and aim.suffix == ".py":
            there = source_page(aim, target)
        elif there is None and aim.exists() and DOCS in aim.parents:
            there = target / aim.relative_to(DOCS)
        elif there is None:
            sys.exit(f"{page.relative_to(ROOT)}:{number + 1}: no {found['target']} for the site")
        return found["before"] + os.path.relpath(there, place.parent)

    for number, line in enumerate(lines):
        if number not in code:
            lines[number] = _LINK.sub(lead, line)
    return "".join(lines)


def source_page(file: Path, target: Path) -> Path:
    """Return a page that shows a source file."""
    name = file.relative_to(ROOT).as_posix()
    made = target / "source" / f"{name[:-3]}.md"
    made.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8")
    made.write_text(f"# {name}\n\n````python\n{text}````\n", encoding="utf-8")
    return made


def settings(text: str, address: str) -> str:
    """Return the text of `zensical.toml` for a site at this address."""
    return re.sub(r'(?m)^site_url = ".*"$', f'site_url = "{address}"', text)


if __name__ == "__main__":
    build = Path(sys.argv[1])
    gather(build / "pages")
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    address = os.environ.get("SITE_URL", "http://127.0.0.1:8000/")
    (build / "zensical.toml").write_text(settings(config, address), encoding="utf-8")

"""Gathers the pages of the site: `python docs/site.py build` fills `build/pages`.

It also writes `build/zensical.toml`: the settings of the site, with the address that the
environment variable `SITE_URL` or `flowmaestro/cli/addresses.py` names.

The pages of `docs/` stay where they are. A page outside it gets a place beside them. A source file
that a page links to becomes a page, so that every link of the site stays within it. It links back
to the pages that link to it, and is in the navigation of its folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Dict, Iterable

from markdown_it import MarkdownIt

from flowmaestro.cli.addresses import DOCUMENTATION, REPOSITORY

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "transports/README.md": "transports.md",
}
"""Pages outside `docs/`, and their places on the site."""
NOT_SEARCHED = {"python-sdk.md", "benchmarks.md"}
"""Pages that the search does not find. The guides say the same as the contract, with reasons, and
tables of figures are in the way of words."""
HIDDEN = "---\nsearch:\n  exclude: true\n---\n"
"""The front matter of a page that the search does not find."""
_LINK = re.compile(
    r"""(?P<before>\]\(|^\[[^\]]+\]:\s*|\s(?:href|src)=")(?P<target>[^)#:\s"]+)(?=[)#\s"])"""
)
METHODS_OF_WEBHOOKS = "reference/webhooks.md"
"""The page whose headings lose the name of the resource, which its title has. Ten headings with the
word would come before the guide in a search for "webhook"."""
_NAME_AS_HEADING = re.compile(r"^#+ [\w./]+$", re.MULTILINE)


def gather(target: Path) -> Dict[Path, Dict[str, Path]]:
    """Write all pages to an empty folder `target`. Return the source files among them.

    Each source file comes with the places of the pages that link to it, by their titles.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    places = {DOCS / file.relative_to(target): file for file in target.rglob("*.md")}
    places.update({ROOT / here: target / there for here, there in ELSEWHERE.items()})
    places[ROOT / "README.md"] = places[DOCS / "index.md"]
    places[ROOT / "examples" / "notebook.ipynb"] = places[DOCS / "notebook.md"]
    sources: Dict[Path, Dict[str, Path]] = {}
    for page, place in list(places.items()):
        if page.suffix == ".md" and page != ROOT / "README.md":
            text = moved(page, place, places, target, sources)
            if place == target / METHODS_OF_WEBHOOKS:
                text = re.sub(r"(?m)^## webhooks\.(?:<wbr>)?(.+)$", short_heading, text)
            if place.name in NOT_SEARCHED:
                text = HIDDEN + re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
            place.write_text(text, encoding="utf-8")
    for file, users in sources.items():
        write_source(file, source_place(file, target), users)
    return sources


def moved(
    page: Path,
    place: Path,
    places: Dict[Path, Path],
    target: Path,
    sources: Dict[Path, Dict[str, Path]],
) -> str:
    """Return a page's text, with links that lead on from its new place.

    Adds each source file that the page links to, with the page's place, to `sources`. Ends the
    program, naming page and line, for a link to a file that does not exist.
    """
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    blocks = (it for it in MarkdownIt().parse("".join(lines)) if it.type in ("fence", "code_block"))
    code = {number for block in blocks for number in range(*(block.map or ()))}

    def lead(found: re.Match[str]) -> str:
        aim = (page.parent / found["target"]).resolve()
        there = places.get(aim)
        if there is None and aim.exists() and aim.suffix == ".py":
            there = source_place(aim, target)
            sources.setdefault(aim, {})[lines[0].strip("# \n")] = place
        elif there is None and aim.exists() and DOCS in aim.parents:
            there = target / aim.relative_to(DOCS)
        elif there is None:
            sys.exit(f"{page.relative_to(ROOT)}:{number + 1}: no {found['target']} for the site")
        return found["before"] + os.path.relpath(there, place.parent)

    for number, line in enumerate(lines):
        if number not in code:
            lines[number] = _NAME_AS_HEADING.sub(breakable, _LINK.sub(lead, line))
    return "".join(lines)


def short_heading(name: re.Match[str]) -> str:
    """Return the heading of a method without its resource, and with the same anchor."""
    method = name[1].replace("<wbr>", "")
    return f"## {method} {{ #webhooks{method} }}"


def breakable(name: re.Match[str]) -> str:
    """Return a dotted name or a path with the places where a narrow window may break it."""
    return re.sub(r"([/._])(?=\w{3})", r"\1<wbr>", name[0])


def source_place(file: Path, target: Path) -> Path:
    """Return the place of the page that shows a source file."""
    return target / "source" / file.relative_to(ROOT).with_suffix(".md")


def write_source(file: Path, place: Path, users: Dict[str, Path]) -> None:
    """Write a page that shows a source file, and links to its `users`, the places by title.

    The search does not find it: the pages that it links to explain more.
    """
    links = (f"[{title}]({os.path.relpath(there, place.parent)})" for title, there in users.items())
    heading = _NAME_AS_HEADING.sub(breakable, f"# {file.relative_to(ROOT).as_posix()}")
    code = f"````python\n{file.read_text(encoding='utf-8')}````\n"
    place.parent.mkdir(parents=True, exist_ok=True)
    text = f"{HIDDEN}\n{heading}\n\nSee {', '.join(links)}.\n\n{code}"
    place.write_text(text, encoding="utf-8")


def settings(text: str, address: str, sources: Iterable[Path], repository: str = "") -> str:
    """Return the text of `zensical.toml` for a site at this address.

    Its header links to the repository, if that has an address.

    A comment `# Sources of FOLDER/` in the navigation becomes the entries of these source files.
    """

    def entries(found: re.Match[str]) -> str:
        return "".join(
            f'{found["indent"]}{{ "{file.name}" = "{source_place(file, Path()).as_posix()}" }},\n'
            for file in sorted(sources)
            if file.relative_to(ROOT).parts[0] == found["folder"]
        )

    text = re.sub(r"(?m)^(?P<indent> *)# Sources of (?P<folder>\w+)/\n", entries, text)
    addresses = f'site_url = "{address}"' + (f'\nrepo_url = "{repository}"' if repository else "")
    return re.sub(r'(?m)^site_url = ".*"$', addresses, text)


if __name__ == "__main__":
    build = Path(sys.argv[1])
    sources = gather(build / "pages")
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    address = os.environ.get("SITE_URL") or DOCUMENTATION or "http://127.0.0.1:8000/"
    text = settings(config, address, sources, REPOSITORY)
    (build / "zensical.toml").write_text(text, encoding="utf-8")

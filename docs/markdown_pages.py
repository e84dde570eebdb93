"""Writes the pages of the site as Markdown beside its HTML, for assistants that read text.

python docs/markdown_pages.py build

`llms.txt` lists the pages in the order of the navigation, `llms-full.txt` holds them all
(https://llmstxt.org). All links are absolute, so nothing is written unless `SITE_URL` or
`flowmaestro/cli/addresses.py` names the address of the site. Pages that the search does not find,
such as source files, are left out.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple
from urllib.parse import urljoin

import tomllib

from flowmaestro.cli.addresses import DOCUMENTATION

FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_LINK = re.compile(r"""(\]\(|\s(?:href|src)=")(?![a-z]+:|#)([^)"\s]+)""")
_FENCED = re.compile(r"^(```|~~~)", re.MULTILINE)


def entries(navigation: List[Any], group: str = "") -> Iterator[Tuple[str, str, str]]:
    """Yield group, title and path of each page in a navigation, in its order."""
    for entry in navigation:
        for title, below in entry.items():
            if isinstance(below, list):
                yield from entries(below, f"{group}: {title}" if group else title)
            else:
                yield group, title, below


def absolute(text: str, page: str, address: str) -> str:
    """Return the text of a page with absolute links. Code stays as it is."""

    def lead(found: re.Match[str]) -> str:
        path, mark, anchor = found[2].partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        return found[1] + urljoin(address, place) + mark + anchor

    lines, code = text.splitlines(keepends=True), False
    for number, line in enumerate(lines):
        if _FENCED.match(line):
            code = not code
        elif not code:
            lines[number] = _LINK.sub(lead, line)
    return "".join(lines)


def first_sentence(text: str) -> str:
    """Return the first sentence of a page, without links and line ends."""
    prose = re.sub(r"(?ms)^(```|~~~).*?^\1$", "", text)
    paragraphs = (it for it in prose.split("\n\n") if it.strip() and it.lstrip()[0].isalpha())
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(next(paragraphs, "").split()))
    return re.split(r"(?<=[.?!])\s", plain, maxsplit=1)[0]


def write_pages(build: Path, address: str) -> None:
    """Write the Markdown of all pages, `llms.txt` and `llms-full.txt` to `build/site`."""
    with (build / "zensical.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    head = f"# {project['site_name']}\n\n> {project['site_description']}\n"
    listed, whole, last = [head], [head], None
    for group, title, path in entries(project["nav"]):
        text = (build / "pages" / path).read_text(encoding="utf-8")
        if "exclude: true" in (FRONT_MATTER.match(text) or [""])[0]:
            continue
        text = absolute(FRONT_MATTER.sub("", text), path, address)
        (build / "site" / path).parent.mkdir(parents=True, exist_ok=True)
        (build / "site" / path).write_text(text, encoding="utf-8")
        if (group or title) != last:
            last = group or title
            listed.append(f"\n## {last}\n\n")
        listed.append(f"- [{title}]({urljoin(address, path)}): {first_sentence(text)}\n")
        whole.append(f"\n{text}")
    (build / "site" / "llms.txt").write_text("".join(listed), encoding="utf-8")
    (build / "site" / "llms-full.txt").write_text("".join(whole), encoding="utf-8")


if __name__ == "__main__":
    address = os.environ.get("SITE_URL") or DOCUMENTATION
    if address:
        write_pages(Path(sys.argv[1]), address)
    else:
        print("the site has no address: no llms.txt is written")

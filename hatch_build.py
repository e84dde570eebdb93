"""The metadata of the package that depends on the addresses of the project: a hook of hatchling.

The long description is the README between its markers `index: begin` and `index: end`. Its links
lead to the files of this version. Without the address of the repository, a link is its text alone,
and a picture is left out.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FRAGMENT = re.compile(r"<!-- index: begin -->\n(.*?)<!-- index: end -->\n", re.DOTALL)
PICTURE = re.compile(
    r'<picture>\n.*?<img alt="(?P<text>[^"]*)" src="(?P<target>[^"]*)">\n</picture>', re.DOTALL
)
"""A picture with another one for phones, which the index would not show."""
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:)(?P<target>[^)]+)\)")


def long_description(readme: str, repository: str, version: str) -> str:
    """Return the text of the page on the index, as Markdown."""

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.group("picture", "text", "target")
        if repository:
            kind = "raw" if picture else "blob"
            return f"{picture}[{text}]({repository}/{kind}/v{version}/{target})"
        return "" if picture else text

    text = PICTURE.sub(r"![\g<text>](\g<target>)", "".join(FRAGMENT.findall(readme)))
    text = LINK.sub(link, text)
    return re.sub(r"\n{3,}", "\n\n", text)


def project_urls(documentation: str, repository: str) -> dict[str, str]:
    """Return the links beside the long description."""
    urls = {
        "Documentation": documentation,
        "Source": repository,
        "Changelog": repository and f"{repository}/blob/main/CHANGELOG.md",
        "Issues": repository and f"{repository}/issues",
    }
    return {name: url for name, url in urls.items() if url}


class Addresses(MetadataHookInterface):
    """Adds the fields `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the fields. Called by hatchling."""
        root = Path(self.root)
        known = runpy.run_path(str(root / "flowmaestro" / "cli" / "addresses.py"))
        documentation, repository = known["DOCUMENTATION"], known["REPOSITORY"]
        readme = (root / "README.md").read_text(encoding="utf-8")
        text = long_description(readme, repository, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = project_urls(documentation, repository)

"""What depends on the addresses of the project: a metadata hook and a build hook of hatchling.

The long description is the README between its markers `index: begin` and `index: end`. Its links
lead to the files of this version. The wheel has copies of some pages, for the skill for coding
assistants. A link of a copy to a file that is not copied leads to the file of this version. Without
the address of the repository, such a link is its text alone, and a picture is left out.
"""

from __future__ import annotations

import posixpath
import re
import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FRAGMENT = re.compile(r"<!-- index: begin -->\n(.*?)<!-- index: end -->\n", re.DOTALL)
PICTURE = re.compile(
    r'<picture>\n.*?<img alt="(?P<text>[^"]*)" src="(?P<target>[^"]*)">\n</picture>', re.DOTALL
)
"""A picture with another one for phones, which the index would not show."""
LINK = re.compile(
    r"(?P<code>^```.*?^```$|`[^`\n]+`)"
    r"|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:)(?P<target>[^)]+)\)",
    re.DOTALL | re.MULTILINE,
)
"""A relative link or a picture; or code, in which the same signs are no link."""
SKILL = "flowmaestro/.agents/skills/flowmaestro"
"""The folder of the skill in the wheel."""


def with_links(text: str, lead: Callable[[str, str], str]) -> str:
    """Return the text of a page with other links.

    `lead` returns the new target, given the old one and its kind, "blob" or "raw" for a picture. If
    it returns "", the link is its text alone, and a picture is left out.
    """

    def link(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        picture, text = found.group("picture", "text")
        target = lead(found["target"], "raw" if picture else "blob")
        if target:
            return f"{picture}[{text}]({target})"
        return "" if picture else text

    return LINK.sub(link, text)


def address_of(place: str, kind: str, repository: str, version: str) -> str:
    """Return the address of a file of this version, "" without that of the repository."""
    return repository and f"{repository}/{kind}/v{version}/{place}"


def long_description(readme: str, repository: str, version: str) -> str:
    """Return the text of the page on the index, as Markdown."""
    text = PICTURE.sub(r"![\g<text>](\g<target>)", "".join(FRAGMENT.findall(readme)))
    text = with_links(text, lambda it, kind: address_of(it, kind, repository, version))
    return re.sub(r"\n{3,}", "\n\n", text)


def page_of_the_skill(text: str, name: str, names: set[str], repository: str, version: str) -> str:
    """Return the text of the copy of the page `name`. `names` are all files that are copied."""

    def lead(target: str, kind: str) -> str:
        path, mark, heading = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if not path or place in names:
            return target
        return address_of(place + mark + heading, kind, repository, version)

    return with_links(text, lead)


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


class Skill(BuildHookInterface[Any]):
    """Adds the pages and examples that `SKILL.md` names to a wheel, in the folders of the sources.

    `copied` of its table in `pyproject.toml` lists files and folders.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the copies to a temporary folder. Called by hatchling."""
        if version == "editable":  # The sources themselves are there.
            return
        root = Path(self.root)
        places = [root / it for it in self.config["copied"]]
        files = [it for at in places for it in (sorted(at.iterdir()) if at.is_dir() else [at])]
        names = {it.relative_to(root).as_posix() for it in files}
        self._copies = TemporaryDirectory()
        known = runpy.run_path(str(root / "flowmaestro" / "cli" / "addresses.py"))
        about = (known["REPOSITORY"], self.metadata.version)
        for name in sorted(names):
            text = (root / name).read_text(encoding="utf-8")
            if name.endswith(".md"):
                text = page_of_the_skill(text, name, names, *about)
            copy = Path(self._copies.name, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(text.encode())
            build_data["force_include"][str(copy)] = f"{SKILL}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder. Called by hatchling."""
        if version != "editable":
            self._copies.cleanup()

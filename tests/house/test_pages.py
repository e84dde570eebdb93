"""The documentation names what exists, links to what is there, and is complete."""

from __future__ import annotations

import builtins
import functools
import pkgutil
import re

import pytest

import flowmaestro
import flowmaestro_transports
from flowmaestro import errors, resources, testing, webhooks
from flowmaestro import types as flowmaestro_types
from flowmaestro.testing import FakeFlowMaestro, conformance
from tests.harness.house.pages import (
    MARKDOWN,
    PAGES,
    ROOT,
    headings_of,
    inlines_of,
    name_of,
    script,
    tokens_of,
)

PUBLIC = [
    *(flowmaestro, errors, resources, flowmaestro_types, webhooks),
    *(testing, conformance, flowmaestro_transports),
]
_HTML_LINK = re.compile(r"""\s(?:href|src)=["']?([^"'\s>]+)""")
_UNDEFINED_LINK = re.compile(r"\]\[|^\[[^\]]+\]:")


def links_of(page):
    """Where a page links to, in Markdown or HTML, and the line; `None` for what is not defined."""
    for line, token in inlines_of(tokens_of(page)):
        if token.type.startswith("html"):
            yield from ((line, target) for target in _HTML_LINK.findall(token.content))
        elif token.type == "text" and _UNDEFINED_LINK.search(token.content):
            yield line, None
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield line, target


def lost_links(page):
    """The links within the project that lead nowhere, by page and line."""
    for line, link in links_of(page):
        target, _, fragment = (link or "undefined").partition("#")
        if not target.startswith(("http:", "https:", "data:")):
            aim = (page.parent / target).resolve() if target else page
            if not aim.exists() or (fragment and fragment not in headings_of(aim)):
                yield f"{name_of(page)}:{line}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page):
    assert list(lost_links(page)) == []


def test_a_lost_link_is_reported_with_page_and_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n```python\n# Code\n```\n\n[a](#top) [b](#code)\n[c](none.md)\n\n[d][x] [e][y]\n\n"
        '<img src="none.svg">\n\n* <a href="#lost">f</a>\n\n[x]: none.md#top\n'
    )
    assert [lost.partition("page.md:")[2] for lost in lost_links(page)] == [
        "7: #code",
        "8: none.md",
        "10: none.md#top",
        "10: None",
        "12: none.svg",
        "14: #lost",
    ]


PACKAGES = {"flowmaestro", "flowmaestro_core", "flowmaestro_transports"}
FOREIGN = {"AbortController", "ClientSession", "TypedDict"}


def names_in(code):
    """What can be told to be a name: a dotted one, one in camel case, a call and its keywords."""
    found = re.match(r"(?:await )?([\w.]+)(\(|$)", code)
    if found and ("." in found[1] or found[2] or re.match(r"[A-Z][a-z]+[A-Z]", found[1])):
        yield found[1]
    if re.match(r"[\w.]+[(=]", code):
        yield from re.findall(r"\b([a-z_]+)=", code)


@functools.cache
def vocabulary():
    """The names of our classes, functions, parameters and attributes, and Python's own."""
    folders = [
        ROOT / name for name in ("flowmaestro_core", "transports", "flowmaestro", "examples")
    ]
    source = "\n".join(
        file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("*.py")
    )
    found = re.findall(r"\b(?:class|def) (\w+)|\b(\w+)(?=: |=| = )", source)
    return {*dir(builtins), *FOREIGN, *(name for pair in found for name in pair)}


def has(owner, name):
    """Whether a dotted name leads somewhere from `owner`."""
    try:
        functools.reduce(getattr, name.split("."), owner)
    except AttributeError:
        return False
    return True


def exists(name, parts):
    """Whether a name of ours is there; a dotted name that is not ours counts as there."""
    root, _, rest = name.partition(".")
    if not rest:
        return root in vocabulary()
    if rest in ("md", "py"):
        return True
    if root in PACKAGES:
        try:
            return pkgutil.resolve_name(name) is not None
        except (AttributeError, ImportError):
            return False
    if root == "client":
        root, _, rest = rest.partition(".")
        if root not in parts:
            return hasattr(flowmaestro.FlowMaestroClient, root)
    owners = [parts[root]] if root in parts else []
    owners += [webhooks] if root == "webhooks" else []
    owners += [FakeFlowMaestro()] if root == "fake" else []
    return not (owners and rest) or any(has(owner, rest) for owner in owners)


def missing_names(page, tokens):
    """What a page names that a client, a package or the fake does not have, by page and line."""
    parts = script("reference").resources()
    for line, token in inlines_of(tokens):
        shown = re.findall(r"^::: ([\w.]+)", token.content)
        for name in names_in(token.content) if token.type == "code_inline" else shown:
            if not exists(name, parts):
                yield f"{name_of(page)}:{line}: {name}"


class TestReference:
    def test_it_is_what_the_packages_give(self):
        assert script("reference").main(["--check"]) == 0, "run `python docs/reference.py`"

    def test_a_changed_docstring_is_noticed(self, monkeypatch, capsys):
        monkeypatch.setattr(errors.ConflictError, "__doc__", "Changed.")
        assert script("reference").main(["--check"]) == 1
        assert "errors.md is out of date" in capsys.readouterr().out

    def test_every_public_name_is_there(self):
        text = "\n".join(
            page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")
        )
        described = set(re.findall(r"^(?:## |::: )(?:client\.)?(.*)$", text, re.MULTILINE))
        described |= {name.rpartition(".")[2] for name in described}
        described |= set(re.findall(r"`((?:Sync|Async)\w+)`", text))
        public = {name for home in PUBLIC for name in home.__all__ if not name.startswith("__")}
        methods = {
            f"{name}.{method}"
            for name, resource in script("reference").resources().items()
            for method, _ in script("reference").methods_of(resource)
        }
        assert public - described == set()
        assert methods - described == set()

    def test_each_method_has_its_parameters_its_fields_and_its_retries(self):
        text = "\n".join(script("reference").pages().values())
        sections = re.findall(
            r"^## ((?:\w+|client)\.\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
        )
        assert len(sections) > 45
        for name, section in sections:
            signature, _, rest = section.partition("\n)\n```\n")
            parameters = set(re.findall(r"^    (\w+):", signature, re.MULTILINE)) if rest else set()
            described = re.findall(r"^\* (`.*?): ", rest.partition("**Returns**")[0], re.MULTILINE)
            assert parameters <= set(re.findall(r"\w+", " ".join(described))), name
            returned = section.partition("**Returns**")[2].partition("Request: ")
            assert "\n| " in returned[0] or name.startswith("client."), name
            assert "Retried: " in returned[2], name

    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_a_page_names_only_what_exists(self, page):
        assert list(missing_names(page, tokens_of(page))) == []

    def test_a_name_that_does_not_exist_is_reported_with_page_and_line(self):
        text = (
            "Call `client.workflows.start(...)`,\n`workflows.begin`, or\ncatch `GoneError`.\n\n"
            "* `client.clone`\n* `clone(timeout=1)`, `run(patience_of=2)`, `flowmaestro.lost`\n\n"
            "| `LostThing` | `close()` `RunOutcome` `client.agents` `journal=` |\n|---|---|\n\n"
            "::: flowmaestro.nothing\n"
        )
        missing = list(missing_names(ROOT / "README.md", MARKDOWN.parse(text)))
        assert [it.partition("README.md:")[2] for it in missing] == [
            "1: client.workflows.start",
            "2: workflows.begin",
            "3: GoneError",
            "5: client.clone",
            "6: clone",
            "6: patience_of",
            "6: flowmaestro.lost",
            "8: LostThing",
            "11: flowmaestro.nothing",
        ]


def test_the_site_leads_to_every_page():
    navigation = (
        (ROOT / "zensical.toml").read_text(encoding="utf-8").partition("[project.theme]")[0]
    )
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    pages |= {place for here, place in script("site").ELSEWHERE.items() if here != "README.md"}
    named = set(re.findall(r'"([\w/-]+\.md)"', navigation))
    assert named == pages


class TestSite:
    @pytest.fixture
    def move(self, tmp_path, monkeypatch):
        """What becomes of a text as a page of the site, beside a source file and a picture."""
        site, docs = script("site"), tmp_path / "docs"
        monkeypatch.setattr(site, "ROOT", tmp_path)
        monkeypatch.setattr(site, "DOCS", docs)
        docs.mkdir()
        (tmp_path / "code.py").write_text("1\n")
        (docs / "picture.svg").touch()

        def moved(text):
            page, target = tmp_path / "page.md", tmp_path / "site"
            page.write_text(text)
            return site.moved(page, target / "page.md", {}, target)

        return moved

    def test_every_kind_of_link_leads_on(self, move):
        text = (
            'See [a](code.py), <img src="docs/picture.svg">.\n\n~~~\n[b](c)\n~~~\n\n[d]: code.py\n'
        )
        moved = move(text)
        assert moved == text.replace("code.py", "source/code.md").replace("docs/", "")

    def test_a_lost_link_is_reported_with_page_and_line(self, move):
        with pytest.raises(SystemExit, match=r"^page.md:2: no lost.md for the site$"):
            move("One\n[two](lost.md)\n")

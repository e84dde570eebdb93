"""The pages of the documentation, read as Markdown, and the scripts that make some of them."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Optional
from unittest import mock

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "docs" / "python-sdk.md"  # tests/contract runs that one
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "transports" / "README.md",
    ROOT / "examples" / "README.md",
    ROOT / "flowmaestro" / ".agents" / "skills" / "flowmaestro" / "SKILL.md",
]
OUTPUT = "output"
"""What a block of Python prints, in the block that follows it; `...` stands for any lines."""
_FILE = re.compile(r"# (\w+)\.py\n")
MARKDOWN = MarkdownIt("commonmark").enable("table")


def name_of(page):
    return os.path.relpath(page, ROOT)


@functools.cache
def tokens_of(page):
    return MARKDOWN.parse(page.read_text(encoding="utf-8"))


def inlines_of(tokens):
    """The tokens within paragraphs, headings and cells, and the line of each."""
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        for child in token.children or ([token] if token.type == "html_block" else []):
            yield line, child
            line += child.type in ("softbreak", "hardbreak")


@functools.cache
def headings_of(page):
    """The anchors that a page's headings have where it is shown."""
    tokens = tokens_of(page)
    titles = (
        "".join(part.content for part in inline.children)
        for heading, inline in zip(tokens, tokens[1:])
        if heading.type == "heading_open"
    )
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str
    output: Optional[str] = None
    """What the block behind it says that it prints."""

    @property
    def file(self):
        """The name, without suffix, of the file that a block says it is."""
        found = _FILE.match(self.text)
        return found and found[1]

    def __str__(self):
        return f"{name_of(self.page)}:{self.line}"


def blocks_of(page):
    tokens = tokens_of(page)
    for token, behind in zip_longest(tokens, tokens[1:]):
        if token.type in ("fence", "code_block"):
            output = behind.content if behind and behind.info == OUTPUT else None
            yield Block(page, token.map[0] + 2, token.info, token.content, output)


@functools.cache
def script(name):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch("sys.dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module


def sessions():
    """Return the names of the sessions of `noxfile.py`: each that of its function, or its own.

    Those of the engines are made of a table.
    """
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    found = re.findall(r'^@nox\.session\((?:name="([\w-]+)")?.*\)\ndef (\w+)', text, re.MULTILINE)
    assert len(found) == text.count("@nox.session"), "a decorator has more than one line"
    engines = re.findall(r'^    "(\w+)": \(', text.partition("ENGINES = {")[2], re.MULTILINE)
    return [*(name or function for name, function in found), *(f"engines-{it}" for it in engines)]

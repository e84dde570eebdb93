"""What the documentation shows is true: its Python runs, its shell commands are the real ones."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib.util
import inspect
import io
import pkgutil
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Optional
from unittest import mock

import pytest
from markdown_it import MarkdownIt

import flowmaestro
import flowmaestro_transports
from flowmaestro import errors, resources, testing, webhooks
from flowmaestro import types as flowmaestro_types
from flowmaestro.testing import FakeFlowMaestro, conformance
from flowmaestro.testing import running_server as serving

PUBLIC = [
    *(flowmaestro, errors, resources, flowmaestro_types, webhooks),
    *(testing, conformance, flowmaestro_transports),
]
ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "python-sdk.md"  # tests/contract runs that one
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
    ROOT / "transports" / "README.md",
    ROOT / "examples" / "README.md",
]
OVER_SOCKETS = {ROOT / "transports" / "README.md"}
PROJECT = ROOT / "docs" / "testing.md"
"""A page whose blocks are the files of a project; they reach a fake by themselves."""

DEMO = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m flowmaestro demo"
CHECK = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox"
OTHER_COMMANDS = {
    "pip install flowmaestro",
    "python -m flowmaestro demo",
    "pip install flowmaestro[testing]",
    "pytest -p flowmaestro.testing.conformance.grid",
    "pytest --flowmaestro-cassettes=once",
    "pytest --flowmaestro-cassettes=none",
    "pytest --flowmaestro-cassettes=new_episodes",
    "pytest --flowmaestro-cassettes=all",
    ".venv/bin/nox -s lint",
    ".venv/bin/nox -s bench",
    ".venv/bin/nox -s bench -- calls decode --quick",
    ".venv/bin/nox -s bench -- calls --only ours-requests,bare-requests,peer",
    ".venv/bin/nox -s bench -- --publish",
    ".venv/bin/nox -R -s tests-3.13 -- tests/core -k retry",
    ".venv/bin/pip install -e '.[dev]'",
    ".venv/bin/pytest tests/core",
    ".venv/bin/mypy",
    ".venv/bin/pyright",
    ".venv/bin/ruff check",
    ".venv/bin/ruff format",
    ".venv/bin/lint-imports",
}
NOT_RUN = {"text", "mermaid"}
GENERATED = {*(ROOT / "docs" / "reference").glob("*.md"), ROOT / "docs" / "notebook.md"}
"""Their blocks of `py` are signatures, or the cells of a notebook that is run elsewhere."""
RECEIVER = re.compile("from (?:fastapi|flask|django.http|aiohttp) import ")
"""How a receiver of webhooks begins: `tests/examples/test_receivers.py` runs these."""
OUTPUT = "output"
"""What a block of Python prints, in the block that follows it; `...` stands for any lines."""

_FILE = re.compile(r"# (\w+)\.py\n")
_HTML_LINK = re.compile(r"""\s(?:href|src)=["']?([^"'\s>]+)""")
_UNDEFINED_LINK = re.compile(r"\]\[|^\[[^\]]+\]:")
MARKDOWN = MarkdownIt("commonmark").enable("table")


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
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    tokens = tokens_of(page)
    for token, behind in zip_longest(tokens, tokens[1:]):
        if token.type in ("fence", "code_block"):
            output = behind.content if behind and behind.info == OUTPUT else None
            yield Block(page, token.map[0] + 2, token.info, token.content, output)


BLOCKS = [block for page in PAGES if page != CONTRACT for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.info == "python" and not RECEIVER.match(block.text)]
SHELL = [block for block in BLOCKS if block.info == "sh"]


def run(block, namespace):
    """Execute a block and the tests that it defines, and compare what it prints with the page."""
    printed = {}

    def record(*values, **options):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename != str(block.page):
            frame = frame.f_back
        text = io.StringIO()
        print(*values, **{"file": text, **options})
        line = frame.f_lineno - block.line + 1 if frame else 0
        printed[line] = printed.get(line, "") + text.getvalue()
        sys.stdout.write(text.getvalue())

    tree = ast.parse(block.text)
    code = compile(ast.increment_lineno(tree, block.line - 1), str(block.page), "exec")
    namespace["print"] = record
    with contextlib.redirect_stdout(io.StringIO()) as everything:
        exec(code, namespace)
        for name, test in list(namespace.items()):
            if name.startswith("test_") and not inspect.signature(test).parameters:
                test()
    if block.output is not None:
        lines = block.output.splitlines(keepends=True)
        shown = "".join(r"(?:.*\n)*?" if it == "...\n" else re.escape(it) for it in lines)
        assert re.fullmatch(shown, everything.getvalue()), f"{block} prints {everything.getvalue()}"
        return
    lines = block.text.splitlines()
    for node in ast.walk(ast.parse(block.text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        ):
            came = "".join(
                printed.get(line, "") for line in range(node.lineno, node.end_lineno + 1)
            )
            shown = lines[node.end_lineno - 1].partition(")  # ")[2]
            last = came.rstrip("\n").rpartition("\n")[2]
            assert last == shown, f"{block.page}:{block.line + node.lineno - 1} prints {came!r}"


@pytest.mark.parametrize("block", [it for it in PYTHON if it.page != PROJECT], ids=str)
def test_python_blocks_run_and_print_what_they_say(block, flowmaestro_client, monkeypatch):
    """Clients that are given no transport talk to a fake in memory; the others to a server."""
    with contextlib.ExitStack() as stack:
        if block.page in OVER_SOCKETS:
            url = stack.enter_context(serving(FakeFlowMaestro()))
            monkeypatch.setenv("FLOWMAESTRO_BASE_URL", url)
        run(block, {"client": flowmaestro_client, "__name__": "documentation"})


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("print(1)\n", None),
        ("print(1)  # 2\n", None),
        ("print(1)  # 1\nprint(2)\n", None),
        ("for i in range(2):\n    print(i)  # 0\n", None),
        ("if False:\n    print(1)  # 1\n", None),
        ("print(1)\nprint(2)\n", "1\n"),
        ("print(1)\nprint(2)\n", "2\n1\n"),
        ("print(1)\nprint(2)\n", "1\n...\n3\n"),
    ],
)
def test_a_block_that_prints_something_else_is_noticed(text, output):
    with pytest.raises(AssertionError, match=r"README.md:\d+ prints"):
        run(Block(ROOT / "README.md", 1, "python", text, output), {})


@pytest.mark.parametrize("block", [it for it in PYTHON if it.page == PROJECT], ids=str)
def test_blocks_of_a_project_run_and_print_what_they_say(block, monkeypatch):
    for file in PYTHON:
        if file.page == PROJECT and file.file:
            module = types.ModuleType(file.file)
            exec(file.text, vars(module))
            monkeypatch.setitem(sys.modules, file.file, module)
    run(block, {"__name__": "documentation"})


@pytest.mark.parametrize("configured", [False, True])
def test_tests_of_a_project_pass(configured, tmp_path):
    tests = 0
    for block in PYTHON:
        if block.page == PROJECT and (configured or block.file != "conftest"):
            name = block.file or f"test_line_{block.line}"
            with (tmp_path / f"{name}.py").open("a", encoding="utf-8") as file:
                file.write(block.text)
            tests += len(re.findall(r"^(?:async )?def test_", block.text, re.MULTILINE))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    plugins = ["-pno:cacheprovider", "-pno:asyncio", "-pno:trio"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-k", "not trio"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert f"{tests} passed" in done.stdout, done.stdout


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_blocks_hold_known_commands(block):
    assert set(block.text.splitlines()) <= {DEMO, CHECK, *OTHER_COMMANDS}


def escaping(blocks):
    """Blocks that nothing runs and that are not known to be for reading only."""
    for block in blocks:
        known = {"python", "sh", OUTPUT, *NOT_RUN} | ({"py"} if block.page in GENERATED else set())
        if block.info not in known:
            yield str(block)


def test_no_block_escapes():
    assert list(escaping(BLOCKS)) == []


def test_blocks_in_lists_with_tildes_and_without_a_fence_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "* one\n\n  ```python\n  1\n  ```\n\n~~~python\n2\n~~~\n\n```py\n3\n```\n\n    4\n"
    )
    blocks = list(blocks_of(page))
    assert [(it.line, it.info, it.text) for it in blocks] == [
        (4, "python", "1\n"),
        (8, "python", "2\n"),
        (12, "py", "3\n"),
        (16, "", "4\n"),
    ]
    assert list(escaping(blocks)) == ["page.md:12", "page.md:16"]


def test_the_readme_shows_the_two_commands():
    commands = [block.text.strip() for block in SHELL if block.page == ROOT / "README.md"]
    assert DEMO in commands
    assert CHECK in commands


def test_continuous_integration_runs_the_command_for_the_tests_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', CHECK]


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
                yield f"{page.relative_to(ROOT)}:{line}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page):
    assert list(lost_links(page)) == []


def test_a_lost_link_is_reported_with_page_and_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
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


@functools.cache
def script(name):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch("sys.dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module


PACKAGES = {"flowmaestro", "flowmaestro_core", "flowmaestro_transports"}
FOREIGN = {"AbortController", "ClientSession"}


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
                yield f"{page.relative_to(ROOT)}:{line}: {name}"


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

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


class TestDiagrams:
    @pytest.fixture
    def diagrams(self):
        return script("diagrams")

    def test_the_page_is_what_the_tables_give(self, diagrams):
        assert diagrams.main(["--check"]) == 0, "run `python docs/diagrams.py`"

    def test_every_machine_has_a_diagram(self, diagrams):
        drawn = re.findall(r"^## (\w+)$", diagrams.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(drawn) == sorted(diagrams.machines())

    def test_a_changed_table_is_noticed(self, diagrams, monkeypatch, capsys):
        machine = diagrams.machines()["WaitMachine"]
        monkeypatch.setattr(machine, "TRANSITIONS", {"ready": {"start": ("done",)}})
        assert diagrams.main(["--check"]) == 1
        assert "out of date" in capsys.readouterr().out

    def test_events_between_the_same_states_share_an_arrow(self, diagrams):
        table = {
            "ready": {"start": ("in two",)},
            "in two": {"waited": ("done",), "emitted": ("done",)},
        }
        assert diagrams.diagram(table).splitlines() == [
            "stateDiagram-v2",
            '    state "in two" as in_two',
            "    [*] --> ready",
            "    ready --> in_two : start",
            "    in_two --> done : waited<br/>emitted",
            "    done --> [*]",
        ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.skipif(sys.version_info < (3, 10), reason="one Python is enough for a page")
def test_the_command_line_says_what_its_page_shows():
    check = [sys.executable, ROOT / "docs" / "sessions.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python docs/sessions.py`\n{done.stdout}{done.stderr}"

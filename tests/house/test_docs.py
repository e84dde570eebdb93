"""What the documentation shows is true: its Python runs, its shell commands are the real ones."""

from __future__ import annotations

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
from pathlib import Path
from unittest import mock

import pytest

import flowmaestro
import flowmaestro_transports
from flowmaestro import errors, resources, testing, webhooks
from flowmaestro import types as flowmaestro_types
from flowmaestro.testing import FakeFlowMaestro, conformance
from flowmaestro.testing import running_server as serving
from flowmaestro_core import machine
from flowmaestro_transports import causes

PUBLIC = [
    *(flowmaestro, errors, resources, flowmaestro_types, webhooks),
    *(testing, conformance, flowmaestro_transports),
]
HOMES = [*PUBLIC, builtins, causes, machine]
"""Where the names that pages show are."""
ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "python-sdk.md"  # tests/contract runs that one
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if page != CONTRACT),
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
NOT_RUN = {"text", "mermaid", "py"}
"""`py` is a signature."""
RECEIVER = re.compile("from (?:fastapi|flask|django.http|aiohttp) import ")
"""How a receiver of webhooks begins: `tests/examples/test_receivers.py` runs these."""
OUTPUT = "output"
"""What a block of Python prints, in the block that follows it; `...` stands for any lines."""

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^ *print\(.*\)  # (?P<output>.*)$", re.MULTILINE)
_FILE = re.compile(r"# (\w+)\.py\n")
_LINK = re.compile(r"\]\((?P<target>[^)]+)\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str

    @property
    def file(self):
        """The name, without suffix, of the file that a block says it is."""
        found = _FILE.match(self.text)
        return found and found[1]

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(
            page, text.count("\n", 0, found.start("text")) + 1, found["info"], found["text"]
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.info == "python" and not RECEIVER.match(block.text)]
SHELL = [block for block in BLOCKS if block.info == "sh"]


def run(block, namespace):
    """Execute a block, then the tests that it defines; what it printed."""
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
        for name, test in list(namespace.items()):
            if name.startswith("test_") and not inspect.signature(test).parameters:
                test()
    return printed.getvalue()


def outputs_of(block):
    """The lines that a block says it prints, be it in the block behind it."""
    yield from (found["output"] for found in _SHOWN.finditer(block.text))
    behind = BLOCKS[BLOCKS.index(block) + 1 :][:1]
    if behind and behind[0].info == OUTPUT:
        yield from behind[0].text.splitlines()


@pytest.mark.parametrize("block", [it for it in PYTHON if it.page != PROJECT], ids=str)
def test_python_blocks_run_and_print_what_they_say(block, flowmaestro_client, monkeypatch):
    """Clients that are given no transport talk to a fake in memory; the others to a server."""
    with contextlib.ExitStack() as stack:
        if block.page in OVER_SOCKETS:
            url = stack.enter_context(serving(FakeFlowMaestro()))
            monkeypatch.setenv("FLOWMAESTRO_BASE_URL", url)
        printed = run(block, {"client": flowmaestro_client, "__name__": "documentation"})
    assert_printed(printed, outputs_of(block))


def assert_printed(printed, lines):
    """All of `lines` were printed, in this order."""
    came = iter(printed.splitlines())
    for line in lines:
        assert line == "..." or line in came, f"{line!r} is not in what came: {printed}"


@pytest.mark.parametrize("block", [it for it in PYTHON if it.page == PROJECT], ids=str)
def test_blocks_of_a_project_run_and_print_what_they_say(block, monkeypatch):
    for file in PYTHON:
        if file.page == PROJECT and file.file:
            module = types.ModuleType(file.file)
            exec(file.text, vars(module))
            monkeypatch.setitem(sys.modules, file.file, module)
    assert_printed(run(block, {"__name__": "documentation"}), outputs_of(block))


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


def test_no_block_escapes():
    known = {"python", "sh", OUTPUT, *NOT_RUN}
    assert [str(block) for block in BLOCKS if block.info not in known] == []


def test_the_readme_shows_the_two_commands():
    commands = [block.text.strip() for block in SHELL if block.page == ROOT / "README.md"]
    assert DEMO in commands
    assert CHECK in commands


def test_continuous_integration_runs_the_command_for_the_tests_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', CHECK]


@pytest.mark.parametrize("page", [*PAGES, CONTRACT], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page):
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for found in _LINK.finditer(text):
        target, _, fragment = found["target"].partition("#")
        if target.startswith(("http:", "https:")):
            continue
        destination = (page.parent / target).resolve() if target else page
        assert destination.exists(), found["target"]
        if fragment:
            assert fragment in headings_of(destination), found["target"]


def headings_of(page):
    """The anchors that a page's headings have where it is shown."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@functools.cache
def script(name):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch("sys.dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module


NAMED = re.compile(
    r"`(?:await )?(?:client\.)?(?P<name>[\w.]+)(?=[`(])|^::: (?P<shown>[\w.]+)", re.MULTILINE
)
"""What a page names: code that begins with a dotted name, or what mkdocstrings shows."""
PACKAGES = {"flowmaestro", "flowmaestro_core", "flowmaestro_transports"}


def has(owner, name):
    """Whether a dotted name leads somewhere from `owner`."""
    try:
        functools.reduce(getattr, name.split("."), owner)
    except AttributeError:
        return False
    return True


def exists(name, parts):
    """Whether a name of ours is there; a name that is not ours counts as there."""
    root, _, rest = name.partition(".")
    if rest in {"", "md", "py"}:
        ours = re.fullmatch(r"[A-Z]\w+(Error|Transport)", root)
        return not ours or any(hasattr(home, root) for home in HOMES)
    if root in PACKAGES:
        try:
            return pkgutil.resolve_name(name) is not None
        except (AttributeError, ImportError):
            return False
    owners = [parts[root]] if root in parts else []
    owners += [webhooks] if root == "webhooks" else []
    owners += [FakeFlowMaestro()] if root == "fake" else []
    return not owners or any(has(owner, rest) for owner in owners)


def missing_names(page, text):
    """What a page names that a client, a package or the fake does not have, by page and line."""
    parts = script("reference").resources()
    for found in NAMED.finditer(text):
        name = found["name"] or found["shown"]
        if not exists(name, parts):
            yield f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}: {name}"


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

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_a_page_names_only_what_exists(self, page):
        text = _BLOCK.sub(
            lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8")
        )
        assert list(missing_names(page, text)) == []

    def test_a_name_that_does_not_exist_is_reported_with_page_and_line(self):
        page = ROOT / "README.md"
        text = "Call `client.workflows.start(...)`,\n`workflows.run`, or\ncatch `LostError`."
        assert list(missing_names(page, text)) == [
            "README.md:1: workflows.start",
            "README.md:3: LostError",
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

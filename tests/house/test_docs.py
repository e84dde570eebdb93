"""What the documentation shows is true: its Python runs, its shell commands are the real ones."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing import running_server as serving

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "python-sdk.md"  # tests/contract runs that one
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if page != CONTRACT),
    ROOT / "transports" / "README.md",
]
OVER_SOCKETS = {ROOT / "transports" / "README.md"}
PROJECT = ROOT / "docs" / "testing.md"
"""A page whose blocks are the files of a project; they reach a fake by themselves."""

DEMO = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m flowmaestro demo"
CHECK = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox"
OTHER_COMMANDS = {
    "pip install flowmaestro",
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
PYTHON = [block for block in BLOCKS if block.info == "python"]
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


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_no_block_escapes(block):
    assert block.info in {"python", "sh", OUTPUT, *NOT_RUN}


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


class TestDiagrams:
    @pytest.fixture
    def diagrams(self):
        spec = importlib.util.spec_from_file_location("diagrams", ROOT / "docs" / "diagrams.py")
        module = importlib.util.module_from_spec(spec)
        with mock.patch("sys.dont_write_bytecode", True):
            spec.loader.exec_module(module)
        return module

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

"""What the documentation shows is true: its Python runs, its shell commands are the real ones."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

import flowmaestro
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro.testing import running_server as serving

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "python-sdk.md"  # tests/contract runs that one
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if page != CONTRACT),
    ROOT / "transports" / "README.md",
]
OVER_SOCKETS = {ROOT / "transports" / "README.md"}

DEMO = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m flowmaestro demo"
CHECK = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox"
OTHER_COMMANDS = {
    "pip install flowmaestro",
    ".venv/bin/nox -s lint",
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

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^ *print\(.*\)  # (?P<output>.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<target>[^)]+)\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str

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


@pytest.fixture
def clients_of_a_fake(monkeypatch):
    """Clients that were given no transport talk to a fake in memory; the others to a server."""
    fake = FakeFlowMaestro()

    class SyncClient(flowmaestro.FlowMaestroClient):
        def __init__(self, *args, transport=None, **options):
            super().__init__(*args, transport=transport or MemoryTransport(fake), **options)

    class AsyncClient(flowmaestro.AsyncFlowMaestroClient):
        def __init__(self, *args, transport=None, **options):
            super().__init__(*args, transport=transport or AsyncMemoryTransport(fake), **options)

    monkeypatch.setattr(flowmaestro, "FlowMaestroClient", SyncClient)
    monkeypatch.setattr(flowmaestro, "AsyncFlowMaestroClient", AsyncClient)
    return fake


def run(block, namespace):
    """Execute a block, then the tests that it defines; what it printed."""
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
        for name, test in list(namespace.items()):
            if name.startswith("test_"):
                test()
    return printed.getvalue()


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_blocks_run_and_print_what_they_say(block, clients_of_a_fake, monkeypatch):
    client = flowmaestro.FlowMaestroClient(clients_of_a_fake.api_key)
    with contextlib.ExitStack() as stack:
        if block.page in OVER_SOCKETS:
            url = stack.enter_context(serving(FakeFlowMaestro()))
            monkeypatch.setenv("FLOWMAESTRO_BASE_URL", url)
        printed = run(block, {"client": client, "__name__": "documentation"})
    shown = [found["output"] for found in _SHOWN.finditer(block.text)]
    lines = iter(printed.splitlines())
    assert all(line in lines for line in shown), f"{shown} is not what came: {printed}"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_blocks_hold_known_commands(block):
    assert set(block.text.splitlines()) <= {DEMO, CHECK, *OTHER_COMMANDS}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_no_block_escapes(block):
    assert block.info in {"python", "sh", *NOT_RUN}


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

    def test_they_are_those_of_the_machines_tables(self, diagrams):
        page = diagrams.PAGE.read_text(encoding="utf-8")
        assert page == diagrams.redrawn(page), "run `python docs/diagrams.py`"

    def test_every_machine_has_one(self, diagrams):
        drawn = re.findall(r"<!-- diagram: (\w+) -->", diagrams.PAGE.read_text(encoding="utf-8"))
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

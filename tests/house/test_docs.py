"""What the documentation shows is true: its Python runs, its shell commands are the real ones."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
import types
from importlib.util import find_spec
from unittest import mock

import pytest

from flowmaestro.pytest_plugin import MODES
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing import running_server as serving
from flowmaestro.testing.fake.sample_runs import add_invoices
from tests.harness.house.pages import (
    CONTRACT,
    OUTPUT,
    PAGES,
    ROOT,
    Block,
    blocks_of,
    script,
    sessions,
)

OVER_SOCKETS = {ROOT / "transports" / "README.md"}
PROJECT = ROOT / "docs" / "testing.md"
"""A page whose blocks are the files of a project; they reach a fake by themselves."""
TYPES = ROOT / "docs" / "types.md"
"""A page with a file of types, which its other blocks import. The fake has its workflow."""

DEMO = (
    "python3 -m venv .venv && .venv/bin/pip install '.[cli]' && "
    ".venv/bin/python -m flowmaestro demo"
)
CHECK = "python3 -m venv .venv && .venv/bin/pip install 'nox[uv]' && .venv/bin/nox"
NOT_RUN = {"text"}
GENERATED = {*(ROOT / "docs" / "reference").glob("*.md"), ROOT / "docs" / "notebook.md"}
"""Their blocks of `py` are signatures, or the cells of a notebook that is run elsewhere."""
RECEIVER = re.compile("from (?:fastapi|flask|django.http|aiohttp) import ")
"""How a receiver of webhooks begins: `tests/examples/test_receivers.py` runs these."""
STORE = re.compile("import json\n\nimport (?:redis|psycopg)\n")
"""How a store begins: the session `stores` runs these on real servers."""
BLOCKS = [block for page in PAGES if page != CONTRACT for block in blocks_of(page)]
LIMITER = re.compile("(?s).*from (?:limits|prefect.concurrency.sync) import ")
"""The session `engines-limits` runs these, with Redis and with Prefect."""
PARTITIONS = re.compile(r"(?s)# \w+\.py\n.*from (?:stores|partitions) import ")
"""The sessions of Spark, Ray and Dask run these, on clusters."""
ELSEWHERE = RECEIVER.match, STORE.match, LIMITER.match, PARTITIONS.match
PYTHON = [
    block
    for block in BLOCKS
    if block.info == "python" and not any(match(block.text) for match in ELSEWHERE)
]
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
    ast.increment_lineno(tree, block.line - 1)
    code = compile(tree, str(block.page), "exec", dont_inherit=True)  # of this file's `__future__`
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
            place = f"{block.page}:{block.line + node.lineno - 1}"
            assert came.rstrip("\n") == shown, f"{place} prints {came!r}"


def import_files_of(page, monkeypatch):
    """Make modules of the blocks of a page that say which file they are."""
    for file in PYTHON:
        if file.page == page and file.file:
            module = types.ModuleType(file.file)
            exec(compile(file.text, file.file, "exec", dont_inherit=True), vars(module))
            monkeypatch.setitem(sys.modules, file.file, module)


@pytest.mark.parametrize("block", [it for it in PYTHON if it.page != PROJECT], ids=str)
def test_python_blocks_run_and_print_what_they_say(
    block, flowmaestro_fake, flowmaestro_client, monkeypatch, tmp_path
):
    """Clients that are given no transport talk to a fake in memory; the others to a server."""
    monkeypatch.chdir(tmp_path)  # for the files that a block writes
    if block.page == TYPES:
        add_invoices(flowmaestro_fake)
        import_files_of(TYPES, monkeypatch)
        flowmaestro_fake._scripts.clear()  # Not each block runs it.
    for package in ("pandas", "tqdm"):
        if f" {package} " in block.text:
            pytest.importorskip(package)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))  # A block may set a variable.
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
        ("for i in range(2):\n    print(i)  # 1\n", None),
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
    import_files_of(PROJECT, monkeypatch)
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


def test_shell_blocks_name_what_exists():
    commands = "".join(block.text for block in SHELL)
    named = re.findall(r"nox (?:-R )?-s ([a-z]+(?:-[a-z]+)*)", commands)
    assert len(named) > 5
    assert [name for name in named if name not in sessions()] == []
    files = re.findall(r"\btests/[\w/.]+", commands)
    assert [name for name in files if not (ROOT / name).exists()] == []
    modules = re.findall(r" -[mp] ([\w.]+)", commands)
    assert [name for name in modules if find_spec(name) is None] == []
    assert set(re.findall(r"--flowmaestro-cassettes=(\w+)", commands)) == {*MODES}


def test_extras_are_quoted():
    """Without quotes, `[` is a pattern of file names in zsh."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for folder in ("flowmaestro", "transports", "examples"):
        texts += (file.read_text(encoding="utf-8") for file in (ROOT / folder).rglob("*.py"))
    installs = [line for line in "\n".join(texts).splitlines() if "pip install" in line]
    assert [line for line in installs if re.search(r"install [\w.]+\[", line)] == []
    assert any("'flowmaestro[testing]'" in line for line in installs)


def escaping(blocks):
    """Blocks that nothing runs and that are not known to be for reading only."""
    for block in blocks:
        known = {"python", "sh", OUTPUT, *NOT_RUN} | (
            {"py", "py3"} if block.page in GENERATED else set()
        )
        if block.info not in known:
            yield str(block)


def test_no_block_escapes():
    assert list(escaping(BLOCKS)) == []


def test_the_readme_shows_the_two_commands():
    commands = [block.text.strip() for block in SHELL if block.page == ROOT / "README.md"]
    assert DEMO in commands
    assert CHECK in commands


def test_continuous_integration_runs_the_command_for_the_tests_and_what_that_leaves_out():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', CHECK, ".venv/bin/nox -s full"]


class TestDiagrams:
    @pytest.fixture
    def diagrams(self):
        return script("diagrams")

    def test_page_and_pictures_are_what_the_tables_give(self, diagrams):
        assert diagrams.main(["--check"]) == 0, "run `python docs/diagrams.py`"

    def test_a_changed_table_is_noticed(self, diagrams, monkeypatch, capsys):
        machine = diagrams.machines()["WaitMachine"]
        monkeypatch.setattr(machine, "TRANSITIONS", {"ready": {"start": ("done",)}})
        assert diagrams.main(["--check"]) == 1
        assert capsys.readouterr().out.startswith("docs/pictures/states/WaitMachine.svg is out of")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.skipif(sys.version_info < (3, 10), reason="one Python is enough for a page")
def test_the_command_line_says_what_its_page_shows():
    check = [sys.executable, ROOT / "docs" / "sessions.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python docs/sessions.py`\n{done.stdout}{done.stderr}"

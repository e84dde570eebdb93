"""`docs/architecture.md` describes a call and a streamed event as they are: each step happens."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from pathlib import Path

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, running_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LIVES = ("The life of one call", "The life of one streamed event")

_STEP = re.compile(r"^\d+\. `(?P<file>[\w/]+\.py)` `(?P<name>[\w.]+)`", re.MULTILINE)
_TABLE = re.compile(r"^\| (?P<cell>[^|]*`[^|]*) \|", re.MULTILINE)


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)[1].strip()


def steps(title):
    return [(found["file"], found["name"]) for found in _STEP.finditer(section(title))]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs qualified names of code")
@pytest.mark.parametrize("title", LIVES)
def test_the_steps_happen_in_this_order(title):
    """What a client calls in its thread, in the order of the first calls."""
    wanted = steps(title)
    assert len(wanted) == len(re.findall(r"^\d", section(title), re.MULTILINE)) > 5
    called = {}

    def note(frame, event, _):
        code = frame.f_code
        name = code.co_qualname.replace(".<locals>", "")
        step = (code.co_filename.removeprefix(f"{ROOT}/"), name)
        if event == "call" and step in wanted:
            called.setdefault(step)

    fake = FakeFlowMaestro()
    with running_server(fake) as url, FlowMaestroClient(fake.api_key, base_url=url) as client:
        run = client.workflows.execute("wf_123")["data"]["execution_id"]
        before = sys.getprofile()
        del client.__dict__["workflows"]
        sys.setprofile(note)
        try:
            if title == LIVES[0]:
                client.workflows.get("wf_123")
            else:
                list(client.executions.stream(run))
        finally:
            sys.setprofile(before)
    assert list(called) == wanted


def test_the_map_names_each_file_and_folder_and_no_other():
    """A new one must get a place in the map of `docs/architecture.md`."""
    named, package = {}, None
    for cell in _TABLE.findall(section("Map")):
        bold = re.match(r"\*\*`(.*?)`\*\*", cell)
        package = ROOT / bold[1] if bold else package
        named.setdefault(package, set()).update([] if bold else re.findall(r"`(.*?)/?`", cell))
    for package, names in named.items():
        assert [name for name in names if not (package / name).exists()] == []
        files = {it.name for it in package.glob("*.py")} - {"__init__.py"}
        folders = {it.parent.name for it in package.glob("*/__init__.py")}
        lacking = (files | folders) - {name.partition("/")[0] for name in names}
        assert lacking == set() or package.name == "tests"


def has_state(node):
    """Return whether a statement of a module makes something that changes later."""
    if isinstance(node, ast.FunctionDef):
        return any("cache" in ast.unparse(it) for it in node.decorator_list)
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    made = ast.unparse(node.value)
    is_empty = made in {"[]", "{}", "set()"} and not kind.startswith("Mapping")
    return is_empty or bool(re.fullmatch(r"(threading\.)?R?Lock\(\)|.*Weak\w+\(.*\)", made))


def test_module_state_is_listed():
    part = PAGE.partition("\n### Module state\n")[2].partition("\n### ")[0]
    listed = set(re.findall(r"^\* `([\w/]+\.py)`: ", part, re.MULTILINE))
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro")
        for file in (ROOT / package).rglob("*.py")
        if any(map(has_state, ast.parse(file.read_text(encoding="utf-8")).body))
    }
    assert found == listed


def imports_of(file, modules):
    """Yield the modules among `modules` that a file imports, even lazily or for types only."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else node.module


@pytest.mark.parametrize(
    "package", ["flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro"]
)
def test_no_two_files_of_a_package_import_each_other(package):
    """Neither directly nor through others, and neither in a function nor for type checkers."""
    files = {
        ".".join(file.relative_to((ROOT / package).parent).with_suffix("").parts): file
        for file in (ROOT / package).rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): file for name, file in files.items()}
    imports = {name: set(imports_of(file, modules)) - {name} for name, file in modules.items()}
    graphlib.TopologicalSorter(imports).prepare()  # `machines.py` has a way to break a circle.

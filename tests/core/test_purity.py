"""The core touches nothing: shown by its text, and by what importing it loads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STANDARD_LIBRARY_ONLY = """
import importlib, pkgutil, sys, sysconfig

before = set(sys.modules)
import flowmaestro_core
for module in pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core."):
    importlib.import_module(module.name)

paths = sysconfig.get_paths()
for name in sorted(set(sys.modules) - before):
    where = getattr(sys.modules[name].__spec__, "origin", None) or "built-in"
    foreign = where.startswith((paths["purelib"], paths["platlib"]))
    inside = where in ("built-in", "frozen") or where.startswith((paths["stdlib"], sys.base_prefix))
    if not name.startswith("flowmaestro_core") and (foreign or not inside):
        print("foreign", name, where)
print(*sys.modules, sep="\\n")
"""


def test_the_core_opens_no_file_and_reads_no_clock() -> None:
    """`lint-imports` forbids the modules that touch the world. These calls need none of them."""
    found = re.compile(
        r"(?<!def )(?<![\w.])(?:open|input|print)\(|\b(?:io|codecs)\.open\("
        r"|\.(?:now|today|utcnow)\("
    )
    for file in (ROOT / "flowmaestro_core").rglob("*.py"):
        assert found.findall(file.read_text("utf-8")) == [], file


def test_every_module_of_the_core_loads_the_standard_library_only() -> None:
    command = [sys.executable, "-I", "-c", STANDARD_LIBRARY_ONLY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()
    assert [line for line in modules if line.startswith("foreign")] == []
    assert "flowmaestro_core.resources.threads" in modules
    never = "asyncio socket ssl select selectors subprocess random http.client urllib.request email"
    parts = tuple(f"{name}." for name in never.split())
    assert [name for name in modules if f"{name}.".startswith(parts)] == []

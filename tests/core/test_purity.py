"""The core touches nothing: shown at run time, and by what importing it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List, Set

from tests.harness.core.purity import VIOLATIONS

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

BOTH_CLIENTS = """
import sys
from flowmaestro import FlowMaestroClient, AsyncFlowMaestroClient
print(*sys.modules, sep="\\n")
"""


def in_a_fresh_interpreter(*arguments: str) -> List[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def loaded(modules: List[str], forbidden: str) -> Set[str]:
    """Which of the forbidden modules are loaded, themselves or by a part of them."""
    return {
        name
        for name in forbidden.split()
        if any(module == name or module.startswith(name + ".") for module in modules)
    }


def test_a_whole_scenario_touches_nothing_and_each_violation_would_be_noticed() -> None:
    command = [sys.executable, "-m", "tests.harness.core.purity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    actions, noticed = done.stdout.splitlines()
    assert int(actions) > 40
    assert noticed.split() == list(VIOLATIONS)


def test_every_module_of_the_core_loads_the_standard_library_only() -> None:
    modules = in_a_fresh_interpreter("-I", "-c", STANDARD_LIBRARY_ONLY)
    assert [line for line in modules if line.startswith("foreign")] == []
    assert "flowmaestro_core.resources.threads" in modules
    never = "asyncio socket ssl select selectors subprocess random http.client urllib.request email"
    assert loaded(modules, never) == set()


def test_both_clients_load_no_http_stack() -> None:
    modules = in_a_fresh_interpreter("-I", "-c", BOTH_CLIENTS)
    assert "flowmaestro.client" in modules
    assert loaded(modules, "requests urllib3 aiohttp anyio h11 trio asyncio ssl") == set()

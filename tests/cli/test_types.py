"""`types`: typed functions that run workflows, as type checkers see them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from flowmaestro.codegen import typed_module

STRICT = {
    "id": "wf_123",
    "name": "Greet a customer",
    "description": 'Says "hello" \\ in\nwords.',
    "input_schema": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "first-seen": {"type": ["string", "null"]},
            "class": {"enum": ["gold", "silver"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "address": {"type": "object", "properties": {"city": {"type": "string"}}},
            "odd": True,
        },
        "required": ["name", "class"],
    },
}
UNVERIFIED = {
    "id": 'wf"4',
    "name": "class",
    "description": None,
    "inputs": {"input1": {"label": "Who?", "type": "string"}},
    "input_schema": {"type": "object", "properties": {"input1": {}}, "x-unverified": True},
}
USES = """
    from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
    from flows import run_class_, run_greet_a_customer, run_greet_a_customer_async

    def use(client: FlowMaestroClient) -> str:
        run_class_(client, {"anything": 1})
        done = run_greet_a_customer(client, {"name": "Ada", "class": "gold", "first-seen": None})
        return done["status"]

    async def use_async(client: AsyncFlowMaestroClient) -> None:
        await run_greet_a_customer_async(client, {"name": "Ada", "class": "silver", "tags": ["a"]})
"""
MISUSES = """
    from flowmaestro import FlowMaestroClient
    from flows import run_greet_a_customer

    def misuse(client: FlowMaestroClient) -> None:
        run_greet_a_customer(client, {"nmae": "Ada", "class": "gold"})
        run_greet_a_customer(client, {"name": "Ada"})
        run_greet_a_customer(client, {"name": "Ada", "class": "bronze"})
        run_greet_a_customer(client, {"name": 1, "class": "gold"})
"""


def mypy(folder, name):
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), name],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_a_misspelt_input_is_a_type_error(tmp_path):
    (tmp_path / "flows.py").write_text(typed_module([STRICT, UNVERIFIED]), "utf-8")
    (tmp_path / "uses.py").write_text(textwrap.dedent(USES), "utf-8")
    (tmp_path / "misuses.py").write_text(textwrap.dedent(MISUSES), "utf-8")
    good = mypy(tmp_path, "uses.py")
    assert good.returncode == 0, good.stdout
    bad = mypy(tmp_path, "misuses.py").stdout
    lines = {line.split(":")[1] for line in bad.splitlines() if ": error:" in line}
    assert lines == {"6", "7", "8", "9"}


def test_the_module_runs_and_its_docstrings_say_what_is_known(tmp_path, fake):
    namespace = {}
    exec(compile(typed_module([STRICT, UNVERIFIED]), "flows.py", "exec"), namespace)
    assert "Says 'hello' \\ in words." in namespace["run_greet_a_customer"].__doc__
    assert "inputs with these labels: Who?." in namespace["run_class_"].__doc__


def test_two_workflows_of_one_name_have_two_functions():
    source = typed_module([STRICT, {**STRICT, "id": "wf_2"}, {**STRICT, "name": "3 x", "id": "3"}])
    for name in ("run_greet_a_customer", "run_greet_a_customer_2", "run_workflow_3_x"):
        assert f"def {name}(" in source


@pytest.mark.parametrize("fake", [["documented"]], indirect=True)
def test_the_command_writes_it_and_checks_it(command, tmp_path):
    path = tmp_path / "flows.py"
    done = command("types", "wf_123", "-o", str(path), "--json")
    assert json.loads(done.out) == {"file": str(path), "workflows": ["wf_123"]}
    assert "class HelloInputs" in path.read_text("utf-8")
    assert command("types", "wf_123", "-o", str(path), "--check").status == 0
    path.write_text("old", "utf-8")
    stale = command("types", "wf_123", "-o", str(path), "--check")
    assert (stale.status, path.read_text("utf-8")) == (1, "old")
    assert command("types", "wf_123", "--check").status == 2

"""`types`: typed functions that run workflows, as type checkers see them."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
TYPED = Path(__file__).parent / "typed"


def test_the_module_that_type_checkers_see_is_the_one_that_is_written():
    # The session `types` runs mypy and pyright on `typed/`, where each misuse has to be an error.
    assert (TYPED / "flows.py").read_text("utf-8") == typed_module([STRICT, UNVERIFIED])


def test_the_module_runs_and_its_docstrings_say_what_is_known(tmp_path, fake):
    namespace = {}
    exec(compile(typed_module([STRICT, UNVERIFIED]), "flows.py", "exec"), namespace)
    assert "Says 'hello' \\ in words." in namespace["run_greet_a_customer"].__doc__
    assert "inputs with these labels: Who?." in namespace["run_class_"].__doc__


@pytest.mark.parametrize(
    ("names", "functions"),
    [
        (["A b", "a-b", "3 x"], ["run_a_b", "run_a_b_2", "run_workflow_3_x"]),
        (["x", "x async"], ["run_x", "run_x_async_2"]),  # `run_x_async` is the other's
        (["a_1b", "a1b"], ["run_a_1b", "run_a1b_2"]),  # both classes would be `A1bInputs`
        (["\u65e5\u672c", "class"], ["run_workflow", "run_class_"]),
    ],
)
def test_no_two_workflows_share_a_name(names, functions):
    source = typed_module([{**STRICT, "name": name} for name in names])
    assert re.findall(r"^def (\w+)", source, re.MULTILINE) == functions
    defined = re.findall(r"^(?:async def|def|class) (\w+)", source, re.MULTILINE)
    assert len(defined) == len(set(defined))


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        ({"properties": 1, "required": 2}, []),
        ({"properties": {"a": {"type": {}}, "b": {"type": [{}]}, "c": {"enum": 1}}}, "abc"),
        ({"required": ["\U0001f600", 1], "properties": {"b": {"enum": ["\u00e9"]}}}, "\U0001f600b"),
    ],
)
def test_an_odd_schema_and_names_beyond_ascii_are_python(schema, fields):
    namespace = {}
    source = typed_module([{**STRICT, "id": "\U0001f600", "input_schema": schema}])
    exec(compile(source, "flows.py", "exec"), namespace)
    assert list(namespace["GreetACustomerInputs"].__annotations__) == list(fields)


@pytest.mark.parametrize("fake", [["documented"]], indirect=True)
def test_the_command_writes_it_and_checks_it(command, tmp_path):
    path = tmp_path / "flows.py"
    done = command("types", "wf_123", "-o", str(path), "--json")
    assert json.loads(done.out) == {"file": str(path), "workflows": ["wf_123"]}
    assert "class HelloInputs" in path.read_text("utf-8")
    assert command("types", "wf_123", "-o", str(path), "--check").status == 0
    path.write_text("old", "utf-8")
    stale = command("types", "wf_123", "-o", str(path), "--check", "--json")
    assert (stale.status, path.read_text("utf-8")) == (1, "old")
    assert json.loads(stale.out)["is_up_to_date"] is False
    printed = command("types", "wf_123")
    assert json.loads(command("types", "wf_123", "--json").out)["source"] == printed.out
    assert command("types", "wf_123", "-o", "no/f.py", "--check").status == 1  # writes nothing
    assert command("types", "wf_123", "--check").status == 2
    nowhere = command("types", "wf_123", "-o", str(tmp_path / "no" / "flows.py"))
    assert (nowhere.status, len(nowhere.err.splitlines())) == (1, 1)

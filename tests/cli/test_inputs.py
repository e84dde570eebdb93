"""Whether inputs fit what a workflow declares."""

from __future__ import annotations

import pytest

from flowmaestro.inputs import check_inputs, is_strict, schema_problem

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "size": {"enum": ["S", "M"]},
        "level": {"enum": [1, 2]},
        "maybe": {"type": ["number", "null"]},
        "any": True,
    },
    "required": ["name"],
}


def problems(inputs, **schema):
    return check_inputs({"input_schema": {**SCHEMA, **schema}}, inputs)


@pytest.mark.parametrize(
    "inputs",
    [
        {"name": "Ada"},
        {"name": "Ada", "age": 36, "size": "M", "maybe": None, "any": [1]},
        {"name": "", "age": 36.0, "maybe": 1.5, "other": 1},
    ],
)
def test_inputs_that_fit_give_no_problem(inputs):
    assert problems(inputs) == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "the input 'name' is missing"),
        ({"name": 1}, "the input 'name' must be of type string"),
        ({"name": "Ada", "age": True}, "the input 'age' must be of type integer"),
        ({"name": "Ada", "age": 1.5}, "the input 'age' must be of type integer"),
        ({"name": "Ada", "size": "XL"}, "the input 'size' must be one of 'S', 'M'"),
        ({"name": "Ada", "maybe": "x"}, "the input 'maybe' must be of type number or null"),
        ({"name": "Ada", "level": True}, "the input 'level' must be one of 1, 2"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, said):
    assert problems(inputs) == [said]


def test_unknown_names_are_wrong_where_the_schema_says_so():
    said = "there is no input 'nmae'; this workflow has: age, any, level, maybe, name, size"
    assert problems({"name": "Ada", "nmae": 1}, additionalProperties=False) == [said]


@pytest.mark.parametrize(
    "workflow",
    [
        {},
        {"input_schema": None},
        {"input_schema": {"required": ["name"], "x-unverified": True}},
        {"input_schema": "text"},
    ],
)
def test_a_derived_schema_refuses_nothing(workflow):
    assert check_inputs(workflow, {"x": 1}) == []
    assert not is_strict(workflow.get("input_schema"))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": 1, "required": 2},
        {"properties": {"a": 1}, "required": [[], 1]},
        {"properties": {"a": {"type": [1, "integer"]}}},
    ],
)
def test_an_odd_schema_refuses_no_inputs(schema):
    assert check_inputs({"input_schema": schema}, {"a": 1}) == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": True}, "required": ["a"], "type": "object"}, ""),
        ({"properties": {"a": 1}}, "the property 'a' must be an object"),
        ({"required": "a"}, "required must be an array of names"),
        ({"type": "array"}, "the type of this JSON Schema must be object"),
    ],
)
def test_the_problem_of_a_schema_is_named(schema, said):
    problem = schema_problem(schema)
    assert said in problem
    assert bool(problem) == bool(said)

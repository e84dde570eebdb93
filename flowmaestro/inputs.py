"""Checks of inputs against the schema that a workflow declares. Pure."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, cast

from flowmaestro_core.payloads.json_values import list_or_empty

_TYPES: Dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, (list, tuple)),
    "null": lambda value: value is None,
}


def is_strict(schema: Any) -> bool:
    """Return whether `schema` can be relied on: it is a mapping that is not marked as unverified.

    An `input_schema` that the SDK derived from `inputs` has `x-unverified: true`: the deployed
    server keys `inputs` by the ids of nodes, which may not be the names that an execution reads.
    """
    return isinstance(schema, Mapping) and not cast("Mapping[str, Any]", schema).get("x-unverified")


def check_inputs(workflow: Mapping[str, Any], inputs: Mapping[str, Any]) -> List[str]:
    """Return the problems of `inputs` for a workflow, a sentence each.

    This checks the top level of the workflow's `input_schema` (JSON Schema): `required`,
    `additionalProperties: false`, and each property's `type` and `enum`. The list is empty if
    nothing is wrong, or if the schema is not strict (`is_strict`). Clients never call this by
    themselves; the command line and the MCP server do.
    """
    schema = workflow.get("input_schema")
    if not is_strict(schema):
        return []
    schema = cast("Mapping[str, Any]", schema)
    properties = mapping_or_empty(schema.get("properties"))
    required = [name for name in list_or_empty(schema.get("required")) if isinstance(name, str)]
    problems = [f"the input {name!r} is missing" for name in required if name not in inputs]
    for name, value in inputs.items():
        if name in properties:
            problems += _problems(name, mapping_or_empty(properties[name]), value)
        elif schema.get("additionalProperties") is False:
            known = ", ".join(sorted(properties)) or "none"
            problems.append(f"there is no input {name!r}; this workflow has: {known}")
    return problems


def schema_problem(schema: Mapping[str, Any]) -> str:
    """Return why `schema` is not a JSON Schema for inputs; "" if it is one.

    Only `type`, `properties` and `required` at the top level are checked.
    """
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        return "this is not a JSON Schema: properties must be an object"
    for name, about in cast("Mapping[str, Any]", properties).items():
        if not isinstance(about, (Mapping, bool)):
            return f"this is not a JSON Schema: the property {name!r} must be an object"
    required = schema.get("required", [])
    names = list_or_empty(required)
    if not isinstance(required, list) or not all(isinstance(name, str) for name in names):
        return "this is not a JSON Schema: required must be an array of names"
    if schema.get("type", "object") != "object":
        return "the type of this JSON Schema must be object: inputs have names"
    return ""


def _problems(name: str, schema: Mapping[str, Any], value: Any) -> List[str]:
    wanted = schema.get("type")
    wanted_kinds: List[Any] = list_or_empty(wanted) or [wanted]
    kinds = [kind for kind in wanted_kinds if isinstance(kind, str) and kind in _TYPES]
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        return [f"the input {name!r} must be of type {' or '.join(kinds)}"]
    allowed = list_or_empty(schema.get("enum"))
    same = (one for one in allowed if isinstance(one, bool) is isinstance(value, bool))
    if allowed and value not in same:  # In Python 1 equals True; in JSON it does not.
        return [f"the input {name!r} must be one of {', '.join(map(repr, allowed))}"]
    return []


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty mapping."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}

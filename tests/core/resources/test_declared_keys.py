"""Every endpoint returns what its annotation declares, however little the server sent."""

from __future__ import annotations

import inspect
import json
import typing
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from flowmaestro_core import resources
from flowmaestro_core.calls.call import Call
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.operation import _Endpoint
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.types import Execution, PaginationInfo, ResponseMeta

META = {"request_id": "req_1"}
BUILDER = (
    "the builder in flowmaestro_core/resources/ must pass the shape of its type, such as "
    "shape=shapes.resource(Workflow), and build a list with list_call; see the recipe "
    "*Add an endpoint* in CONTRIBUTING.md"
)


def calls() -> Iterator[Tuple[str, Call[Any], Any]]:
    """Each builder of a call, what it builds, and the type of its reply's `data`."""
    for name in resources.__all__:
        for value in vars(getattr(resources, name)).values():
            if isinstance(value, _Endpoint):
                build: Any = value._build
                returned = typing.get_type_hints(build)["return"]
                if typing.get_origin(returned) is Call:
                    (reply,) = typing.get_args(returned)
                    (data,) = typing.get_args(reply)
                    yield build.__qualname__, build(None, **arguments(build)), data


def arguments(build: Any) -> Dict[str, Any]:
    """The least that `build` wants."""
    given = list(inspect.signature(build).parameters.values())[1:]
    needed = [parameter.name for parameter in given if parameter.default is parameter.empty]
    return {name: [] if name == "events" else "x" for name in needed}


CALLS = list(calls())


def bare(kind: Any) -> Any:
    """The least that could be sent as a `kind`: no keys, but for lists of one such thing."""
    if typing.get_origin(kind) is list:
        return [bare(*typing.get_args(kind))]
    if typing.get_origin(kind) is typing.Union:
        return {}
    rows = typing.get_type_hints(kind).items()
    return {key: bare(inner) for key, inner in rows if is_list_of_resources(inner)}


def is_list_of_resources(kind: Any) -> bool:
    inner = typing.get_args(kind)
    return typing.get_origin(kind) is list and hasattr(inner[0], "__required_keys__")


def missing(kind: Any, value: Any, where: str = "") -> Iterator[str]:
    """Where in `value` a required key of `kind` is not to be found."""
    if typing.get_origin(kind) is list:
        for row in value:
            yield from missing(*typing.get_args(kind), row, where + "[]")
    elif typing.get_origin(kind) is typing.Union:
        for one in typing.get_args(kind):
            yield from missing(one, value, where)
    elif hasattr(kind, "__required_keys__"):
        for key, inner in typing.get_type_hints(kind).items():
            if key in value and value[key] is not None:
                yield from missing(inner, value[key], f"{where}.{key}")
            elif key not in value and key in kind.__required_keys__:
                yield f"{where}.{key}"


def test_the_walk_finds_what_it_is_for() -> None:
    assert "[].per_page" in missing(List[PaginationInfo], [{"page": 1}])
    assert ".outputs" in missing(Execution, {"id": "x"})


@pytest.mark.parametrize(
    ("call", "data"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS]
)
def test_declared_keys_are_there(call: Call[Reply[Any]], data: Any) -> None:
    is_list = typing.get_origin(data) is list
    assert (call.data_type is list) is is_list, BUILDER
    body = json.dumps({"data": bare(data), "meta": META}).encode()
    reply = call.reply(Response(200, Headers(), body))
    assert list(missing(data, reply["data"])) == [], BUILDER
    assert list(missing(ResponseMeta, reply.get("meta", {}))) == [], BUILDER
    assert reply.request_id == "req_1"
    if is_list:
        assert list(missing(PaginationInfo, reply.get("pagination", {}))) == [], BUILDER
    nothing = call.reply(Response(200, Headers(), json.dumps({"data": bare(data)}).encode()))
    assert list(missing(ResponseMeta, nothing["meta"])) == []

"""What users see of the packages: documented, resolvable and introspectable."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import pydoc
import typing

import pytest

import flowmaestro
import flowmaestro.resources
import flowmaestro.testing
import flowmaestro_core
import flowmaestro_core.resources
import flowmaestro_transports
from flowmaestro_core.operation import iterating_endpoint

MODULES = [
    flowmaestro,
    *(
        importlib.import_module(f"flowmaestro.{name}")
        for name in ("errors", "resources", "testing", "types", "webhooks")
    ),
    flowmaestro_transports,
    flowmaestro_core,
]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
}
RESOURCES = [
    getattr(flowmaestro_core.resources, name) for name in flowmaestro_core.resources.__all__
]
METHODS = {
    f"{resource.__name__}.{name}": (resource, name, entry)
    for resource in RESOURCES
    for name, entry in vars(resource).items()
    if not name.startswith("_")
}
KEY = "fm_live_0123456789"


def is_ours(value):
    return getattr(value, "__module__", "").split(".")[0] in {
        "flowmaestro",
        "flowmaestro_core",
        "flowmaestro_transports",
    }


def own_members(kind):
    """Yield the public methods and properties of a class, its own and those of our bases."""
    for base in kind.__mro__:
        if is_ours(base):
            for name, member in vars(base).items():
                if not name.startswith("_"):
                    if isinstance(member, property):
                        member = member.fget
                    elif isinstance(member, functools.cached_property):
                        member = member.func
                    yield f"{base.__qualname__}.{name}", inspect.unwrap(member)


def callables():
    """Every public function of ours, and every public method of a public class of ours."""
    for name, value in PUBLIC.items():
        if inspect.isclass(value) and is_ours(value):
            for member_name, member in own_members(value):
                if inspect.isfunction(member):
                    yield f"{name}: {member_name}", member
            if inspect.isfunction(value.__init__):
                yield f"{name}.__init__", value.__init__
        elif inspect.isfunction(value):
            yield name, value
    for name, (resource, method, _) in METHODS.items():
        yield name, getattr(resource, method)


CALLABLES = dict(callables())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_star_import_brings_what_is_promised(module):
    assert len(set(module.__all__)) == len(module.__all__)
    namespace = {}
    exec(f"from {module.__name__} import *", namespace)
    assert set(module.__all__) <= set(namespace)


def test_the_version_is_the_distribution_s():
    assert flowmaestro.__version__ == importlib.metadata.version("flowmaestro")


def test_every_public_method_has_a_docstring_and_annotations_that_resolve():
    for name, function in CALLABLES.items():
        assert function.__doc__ or name.endswith("__init__"), name
        typing.get_type_hints(inspect.unwrap(function))


def part_of(client, resource):
    """Return the attribute of a client that is this resource."""
    return next(part for name in dir(client) if isinstance(part := getattr(client, name), resource))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_same_on_both_clients_but_for_what_it_returns(name):
    resource, method, entry = METHODS[name]
    iterates = isinstance(entry, iterating_endpoint)
    builder = getattr(resource, method)
    operation = typing.get_type_hints(builder)["return"]
    parameters = inspect.signature(builder).parameters
    assert entry.__doc__
    assert "args" not in parameters
    given = []
    for kind in (flowmaestro.FlowMaestroClient, flowmaestro.AsyncFlowMaestroClient):
        bound = getattr(part_of(kind(KEY), resource), method)
        assert (bound.__doc__, bound.__name__) == (entry.__doc__, method)
        shown = inspect.signature(bound)
        assert shown.parameters == parameters
        assert typing.get_type_hints(bound)["return"] == shown.return_annotation
        assert shown.return_annotation not in (operation, typing.Any)
        given.append(shown.return_annotation)
        awaits = kind is flowmaestro.AsyncFlowMaestroClient and not iterates
        assert inspect.iscoroutinefunction(bound) is awaits
    assert (given[0] == given[1]) is not iterates


def test_help_shows_parameters_and_docstring():
    execute = flowmaestro.FlowMaestroClient(KEY).workflows.execute
    text = pydoc.render_doc(execute, renderer=pydoc.plaintext)
    for parameter in inspect.signature(execute).parameters.values():
        # From Python 3.14 on, `help` shows annotations without quotes.
        assert str(parameter).replace("'", "") in text.replace("'", "")
    assert "Start a run of one workflow" in text

"""Public signatures resolve at run time, on Python 3.9 too: tools and users ask for them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from typing import Any, Iterator, List, Tuple

import pytest

import flowmaestro_core
from flowmaestro_core.operation import Resource, _Endpoint
from flowmaestro_core.resources import __all__ as resource_names


def _modules() -> List[str]:
    found = pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core.")
    return sorted(module.name for module in found)


def _public(module: Any) -> Iterator[Tuple[str, Any]]:
    """Functions, classes, methods and builders that belong to a module."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield name, value
            for inner_name, inner in vars(value).items():
                plain = inner._build if isinstance(inner, _Endpoint) else inner
                if inspect.isfunction(plain) and not inner_name.startswith("__"):
                    yield f"{name}.{inner_name}", plain


@pytest.mark.parametrize("name", _modules())
def test_every_public_signature_resolves(name: str) -> None:
    module = importlib.import_module(name)
    for what, value in _public(module):
        try:
            typing.get_type_hints(value)
        except Exception as error:
            raise AssertionError(f"{name}.{what} does not resolve") from error


def test_the_walk_finds_what_it_is_for() -> None:
    workflows = importlib.import_module("flowmaestro_core.resources.workflows")
    assert {"Workflows", "Workflows.execute"} <= {what for what, _ in _public(workflows)}
    resources = importlib.import_module("flowmaestro_core.resources")
    assert all(issubclass(getattr(resources, name), Resource) for name in resource_names)

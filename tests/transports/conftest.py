"""Fixtures for the transports' tests: the scripted server, and a throw-away certificate authority.

Sibling modules cannot be imported under pytest's importlib mode, hence the fixture.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import trustme


@pytest.fixture(scope="session")
def scripted() -> ModuleType:
    """The module `scripted_server`: `scripted.ScriptedServer`, `scripted.reply`, and the rest."""
    name = "scripted_server"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def scripted_server(scripted: ModuleType) -> type:
    """The class: `with scripted_server(handler) as server: ...server.url...`."""
    return scripted.ScriptedServer


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()

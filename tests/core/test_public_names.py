"""The names that the core exports for drivers."""

from __future__ import annotations

import sys
from importlib import import_module, reload

import pytest

import flowmaestro_core


def test_each_public_name_is_imported_when_it_is_read() -> None:
    core = reload(flowmaestro_core)  # Another test may have read the names.
    for name in core.__all__:
        assert getattr(core, name) is not None
    assert core.Send is import_module("flowmaestro_core.actions").Send
    assert set(core.__all__) <= set(dir(core))


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sned'"):
        flowmaestro_core.Sned  # noqa: B018
    assert "flowmaestro_core.Sned" not in sys.modules

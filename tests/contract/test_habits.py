"""Errors about names that users of other SDKs expect, on both clients."""

from __future__ import annotations

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro_core import habits


@pytest.mark.parametrize("kind", [FlowMaestroClient, AsyncFlowMaestroClient])
class TestOfAClient:
    @pytest.mark.parametrize("name", habits.OF_CLIENT)
    def test_an_unknown_argument_says_what_to_write(self, kind, name):
        with pytest.raises(TypeError, match=f"'{name}'.*; {habits.OF_CLIENT[name][:8]}"):
            kind("fm_live_key", **{name: "x"})

    def test_an_unknown_attribute_says_what_to_write(self, kind):
        with pytest.raises(AttributeError, match=r"use client.workflows.run"):
            kind("fm_live_key").run  # noqa: B018
        assert not hasattr(kind("fm_live_key"), "__wrapped__")

    def test_each_table_names_what_is_missing_and_what_exists(self, kind):
        client = kind("fm_live_key")
        for group, names in habits._METHODS.items():
            owner = client if group == "client" else getattr(client, group)
            assert not [name for name in names if hasattr(owner, name)]
            for instead in names.values():
                assert not instead.isidentifier() or callable(getattr(owner, instead))


def test_an_unknown_argument_of_a_method_says_what_to_write():
    client = FlowMaestroClient("fm_live_key", transport=FakeFlowMaestro().transport())
    for call in (client.workflows.run, client.executions.stream):
        with pytest.raises(TypeError, match=r"'max_retries'.*; set it for one call with client\."):
            call("wf_123", max_retries=3)
    with pytest.raises(TypeError, match=r"'input'.*; use inputs="):
        client.workflows.run("wf_123", input={})


def test_an_unknown_argument_of_an_async_method_says_what_to_write():
    async def main():
        client = AsyncFlowMaestroClient("fm_live_key")
        with pytest.raises(TypeError, match=r"'timeout'.*; set it for one call with client\."):
            await client.workflows.list(timeout=3)

    anyio.run(main)


def test_with_on_the_async_client_says_what_to_write():
    client = AsyncFlowMaestroClient("fm_live_key")
    with pytest.raises(TypeError, match="write `async with`"), client:
        pytest.fail("entered")

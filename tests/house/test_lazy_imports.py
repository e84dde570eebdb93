"""An import brings what was asked for; what a client needs for its calls comes with them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Set

import pytest

import flowmaestro
import flowmaestro_core.resources
from flowmaestro import resources
from flowmaestro.testing import FakeFlowMaestro, running_server

CLIENTS = "from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient\n"
STACKS = {
    *("aiohttp", "anyio", "asyncio", "encodings.idna", "h11", "http.client", "requests", "ssl"),
    *("trio", "urllib3"),
}
MACHINERY = {
    "flowmaestro.assembly",
    "flowmaestro_core.machine",
    "flowmaestro_core.options",
    "flowmaestro_core.resources",
    "flowmaestro_core.types",
    "flowmaestro_transports.driving.drivers",
    "flowmaestro_transports.observing.hooks",
}
NAMES = ["agents", "executions", "knowledge_bases", "threads", "triggers", "webhooks", "workflows"]


def loaded(program: str) -> Set[str]:
    """Return the modules that an interpreter has loaded at the end of a program."""
    program += "\nimport sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_the_clients_come_without_what_they_will_need() -> None:
    assert sorted((loaded(CLIENTS) - loaded("")) & (STACKS | MACHINERY)) == []


def test_a_client_is_made_without_an_http_stack() -> None:
    made = loaded(f"{CLIENTS}FlowMaestroClient('k'), AsyncFlowMaestroClient('k').workflows")
    assert sorted((made - loaded("")) & STACKS) == []
    assert made >= MACHINERY - {"flowmaestro_transports.observing.hooks"}


SYNC = f"""{CLIENTS}
with FlowMaestroClient("{{}}", base_url="{{}}") as client:
    client.workflows.list()
"""
ASYNC = f"""{CLIENTS}
import asyncio
async def main():
    async with AsyncFlowMaestroClient("{{}}", base_url="{{}}") as client:
        await client.workflows.list()
asyncio.run(main())
"""


@pytest.mark.parametrize(("program", "stack"), [(SYNC, set()), (ASYNC, {"anyio"})])
def test_a_first_call_over_plain_http_loads_what_it_needs(program: str, stack: Any) -> None:
    fake = FakeFlowMaestro()
    with running_server(fake) as url:
        after = loaded(program.format(fake.api_key, url))
    assert (after - loaded("import asyncio" if stack else "")) & STACKS == stack
    assert "flowmaestro_transports.functions" not in after


def test_a_first_call_without_proxy_does_not_load_base64() -> None:
    fake = FakeFlowMaestro()
    with running_server(fake) as url:
        after = loaded(SYNC.format(fake.api_key, url))
    assert "base64" not in after - loaded("")


def test_nothing_is_loaded_for_notebooks_until_one_asks() -> None:
    run = f"""{CLIENTS}
from flowmaestro.testing import FakeFlowMaestro
fake = FakeFlowMaestro()
run = FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.run("wf_123")
"""
    needed = {f"flowmaestro_core.showing.{name}" for name in ("html", "timeline", "texts")}
    assert not loaded(run) & needed
    assert loaded(f"{run}run._repr_html_()") >= needed


def test_an_error_comes_without_the_clients() -> None:
    assert "flowmaestro.client" not in loaded("from flowmaestro import NotFoundError")


@pytest.mark.parametrize("name", NAMES)
def test_a_resource_comes_without_those_that_it_does_not_need(name: str) -> None:
    home = "flowmaestro_core.resources."
    read = loaded(f"{CLIENTS}FlowMaestroClient('k').{name}")
    needed = {"workflows": {"workflows", "executions"}}.get(name, {name})
    assert {module[len(home) :] for module in read if module.startswith(home)} == {
        "listing",
        *needed,
    }
    if name == "webhooks":
        assert "hmac" not in read


@pytest.mark.parametrize(
    "module",
    [flowmaestro, resources, flowmaestro_core.resources],
    ids=lambda module: module.__name__,
)
def test_a_lazy_package_is_like_any_other(module: Any) -> None:
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
    with pytest.raises(AttributeError, match=f"{module.__name__}.*no_such_name"):
        _ = module.no_such_name

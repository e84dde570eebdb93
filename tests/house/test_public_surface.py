"""What users see of the packages: documented, resolvable, introspectable, and without secrets."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import pydoc
import socket
import sys
import traceback
import typing

import pytest

import flowmaestro
import flowmaestro.resources
import flowmaestro.testing
import flowmaestro_core
import flowmaestro_core.resources
import flowmaestro_transports
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_core.calls.call import Call
from flowmaestro_core.operation import iterating_endpoint
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.resources import Workflows

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
SECRET = "fm_live_do_not_show_me"


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


@pytest.fixture
def fake():
    return FakeFlowMaestro()


@pytest.fixture
def client(fake):
    return flowmaestro.FlowMaestroClient(SECRET, transport=MemoryTransport(fake))


@pytest.fixture
def async_client(fake):
    return flowmaestro.AsyncFlowMaestroClient(SECRET, transport=AsyncMemoryTransport(fake))


@pytest.fixture
def refusing_url():
    """Where nobody listens, and nobody else can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


class TestNames:
    @pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
    def test_a_star_import_brings_what_is_promised(self, module):
        assert len(set(module.__all__)) == len(module.__all__)
        namespace = {}
        exec(f"from {module.__name__} import *", namespace)
        assert set(module.__all__) <= set(namespace)

    def test_every_module_says_what_it_is_for(self):
        for package in (flowmaestro_core, flowmaestro_transports, flowmaestro):
            for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                if found.name == "flowmaestro.mcp_server" and sys.version_info < (3, 10):
                    continue  # the package mcp needs Python 3.10
                module = importlib.import_module(found.name)
                assert module.__doc__, found.name

    def test_the_version_is_the_distribution_s(self):
        assert flowmaestro.__version__ == importlib.metadata.version("flowmaestro")


class TestDocstrings:
    @pytest.mark.parametrize("name", PUBLIC)
    def test_every_public_class_and_function_has_one(self, name):
        value = PUBLIC[name]
        if (inspect.isclass(value) or inspect.isfunction(value)) and is_ours(value):
            assert value.__doc__
            assert not value.__doc__.startswith(f"{value.__name__}("), "made by dataclass"

    @pytest.mark.parametrize("name", CALLABLES)
    def test_every_public_method_has_one(self, name):
        if not name.endswith("__init__"):
            assert CALLABLES[name].__doc__

    @pytest.mark.parametrize("name", METHODS)
    def test_methods_of_resources_have_one_on_both_clients(self, name, client, async_client):
        resource, method, entry = METHODS[name]
        assert entry.__doc__
        for either in (client, async_client):
            bound = getattr(part_of(either, resource), method)
            assert bound.__doc__ == entry.__doc__
            assert bound.__name__ == method


def part_of(client, resource):
    """Return the attribute of a client that is this resource."""
    return next(part for name in dir(client) if isinstance(part := getattr(client, name), resource))


class TestSignatures:
    @pytest.mark.parametrize("name", CALLABLES)
    def test_public_annotations_can_be_resolved(self, name):
        typing.get_type_hints(inspect.unwrap(CALLABLES[name]))

    @pytest.mark.parametrize("name", METHODS)
    def test_methods_show_their_own_parameters(self, name, client, async_client):
        resource, method, _ = METHODS[name]
        expected = inspect.signature(getattr(resource, method))
        assert "args" not in expected.parameters
        for either in (client, async_client):
            bound = getattr(part_of(either, resource), method)
            assert inspect.signature(bound).parameters == expected.parameters

    @pytest.mark.parametrize("name", METHODS)
    def test_methods_show_what_the_caller_is_given(self, name, client, async_client):
        resource, method, entry = METHODS[name]
        operation = typing.get_type_hints(getattr(resource, method))["return"]
        given = []
        for either in (client, async_client):
            bound = getattr(part_of(either, resource), method)
            shown = inspect.signature(bound).return_annotation
            assert typing.get_type_hints(bound)["return"] == shown
            assert shown not in (operation, typing.Any)
            given.append(shown)
        assert (given[0] == given[1]) is not isinstance(entry, iterating_endpoint)

    def test_help_shows_parameters_and_docstring(self, client):
        text = pydoc.render_doc(client.workflows.execute, renderer=pydoc.plaintext)
        for parameter in inspect.signature(client.workflows.execute).parameters.values():
            # From Python 3.14 on, `help` shows annotations without quotes.
            assert str(parameter).replace("'", "") in text.replace("'", "")
        assert "Start a run of one workflow" in text

    @pytest.mark.parametrize("name", METHODS)
    def test_coroutine_functions_are_those_that_do_not_iterate(self, name, client, async_client):
        resource, method, entry = METHODS[name]
        iterates = isinstance(entry, iterating_endpoint)
        blocking = getattr(part_of(client, resource), method)
        awaiting = getattr(part_of(async_client, resource), method)
        assert not inspect.iscoroutinefunction(blocking)
        assert inspect.iscoroutinefunction(awaiting) is not iterates

    def test_read_from_the_class_a_method_is_the_pure_builder(self):
        call = Workflows.execute("wf_1", inputs={"name": "Ada"})
        assert isinstance(call, Call)
        assert (call.method, call.path) == ("POST", "/workflows/wf_1/execute")
        assert call.body == b'{"inputs":{"name":"Ada"}}'


class TestSecrets:
    """Neither a repr, a text nor a traceback shows the key or a webhook's secret."""

    def test_clients_and_options_do_not_show_key(self, client, async_client):
        for either in (client, async_client):
            derived = either.with_options(headers={"X-Auth-Token": SECRET})
            for shown in (either, derived, derived._executor.context, vars(derived)):
                assert SECRET not in repr(shown)
                assert SECRET not in str(shown)

    def test_requests_do_not_show_key(self, client):
        call = Workflows.execute("wf_1")
        request = call.request(client._executor.context.options, "token")
        assert request.headers["x-api-key"] == SECRET
        for shown in (request, request.headers, call):
            assert SECRET not in repr(shown)
            assert SECRET not in str(shown)

    def test_error_of_invalid_key_does_not_show_it(self):
        for bad in (SECRET + "\n", SECRET + "é", ""):
            with pytest.raises(ValueError, match="api_key") as caught:
                flowmaestro.FlowMaestroClient(bad)
            assert SECRET not in str(caught.value)

    def test_errors_and_tracebacks_do_not_show_key(self, client):
        with pytest.raises(flowmaestro.AuthenticationError) as caught:
            client.workflows.list()
        text = "".join(traceback.format_exception(*caught._excinfo))
        for shown in (repr(caught.value), str(caught.value), text, repr(caught.value.attempts)):
            assert SECRET not in shown

    @pytest.mark.parametrize("name", ["RequestsTransport", "AiohttpTransport", "AnyioTransport"])
    def test_transport_failures_do_not_show_key(self, name, refusing_url):
        options = ClientOptions(SECRET, base_url=refusing_url)
        request = Workflows.get("wf_1").request(options, "token")

        async def attempt():
            transport = getattr(flowmaestro_transports, name)()
            try:
                sent = transport.send(request, 5.0)
                await (sent if inspect.isawaitable(sent) else asyncio.sleep(0))
            finally:
                closed = transport.close()
                await (closed if inspect.isawaitable(closed) else asyncio.sleep(0))

        with pytest.raises(flowmaestro_transports.TransportFailure) as caught:
            asyncio.run(attempt())
        assert SECRET not in "".join(traceback.format_exception(*caught._excinfo))

    def test_new_webhook_does_not_show_secret(self, fake):
        client = flowmaestro.FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))
        created = client.webhooks.create(
            name="mine", url="https://example.com/hook", events=["execution.completed"]
        )
        secret = created["data"]["secret"]
        client.workflows.run("wf_123", inputs={"name": "Ada"})
        for shown in (created.headers, client, fake, fake.deliveries):
            assert secret not in repr(shown)

    def test_refused_delivery_does_not_show_secret(self):
        with pytest.raises(flowmaestro.WebhookVerificationError) as caught:
            flowmaestro.webhooks.parse(b"{}", "v1=00", SECRET)
        assert SECRET not in "".join(traceback.format_exception(*caught._excinfo))

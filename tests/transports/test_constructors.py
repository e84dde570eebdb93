"""What the constructors of transports refuse."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiohttp
import pytest
import requests

from tests.harness.missing import import_error_without
from tests.harness.runners import RUNNERS

OURS = ("SocketTransport", "AnyioTransport")
TRANSPORTS = {runner.make.__name__: runner.make for runner in RUNNERS.values()}


def test_transports_have_the_same_arguments_and_defaults() -> None:
    """The same arguments in the same order, with the same defaults."""
    sockets, on_anyio = (inspect.signature(TRANSPORTS[name]).parameters for name in OURS)
    assert list(sockets.values()) == list(on_anyio.values())


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        *(("max_connections", each, "an int, not") for each in (1.5, "3", True, None)),
        ("max_connections", 0, "at least 1, not 0"),
        ("keepalive_expiry", 0, "a positive number of seconds"),
    ],
)
def test_invalid_option_is_refused(name: str, option: str, value: Any, text: str) -> None:
    expected = TypeError if "int" in text else ValueError
    with pytest.raises(expected, match=f"{option} must be {text}"):
        TRANSPORTS[name](**{option: value})


def test_a_session_of_another_stack() -> None:
    with requests.Session() as session:
        with pytest.raises(TypeError, match=r"an instance of aiohttp.ClientSession, not"):
            TRANSPORTS["AiohttpTransport"](session)
        TRANSPORTS["RequestsTransport"](session).close()
    with pytest.raises(TypeError, match=r"an instance of requests.Session, not str"):
        TRANSPORTS["RequestsTransport"]("http://proxy.example")

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            await TRANSPORTS["AiohttpTransport"](session).close()
            with pytest.raises(TypeError, match="not ClientSession"):
                TRANSPORTS["RequestsTransport"](session)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("module", "name"), [("requests", "RequestsTransport"), ("aiohttp", "AiohttpTransport")]
)
def test_a_library_that_is_missing_is_named_with_its_extra(module: str, name: str) -> None:
    needs = f"{name} needs {module}: pip install 'flowmaestro[{module}]'"
    assert import_error_without(module, f"from flowmaestro_transports import {name}") == needs

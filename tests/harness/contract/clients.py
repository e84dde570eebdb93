"""Both clients behind one face, for tests that ask the same of each."""

from __future__ import annotations

import inspect
from typing import Any, Callable, List

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro_core.http.messages import Headers, Request, Response
from tests.harness.contract.worlds import in_loop

KEY = "fm_live_key"
KINDS = {"blocking": FlowMaestroClient, "awaiting": AsyncFlowMaestroClient}


def nothing_is_sent(request: Request) -> Response:
    """A transport's function for calls that must not get this far."""
    pytest.fail(f"{request!r} was sent")


class Listener:
    """A transport's function that keeps each request and answers the same to all."""

    def __init__(self, body: bytes = b'{"data": {}}', status: int = 200) -> None:
        self.requests: List[Request] = []
        self._response = Response(status, Headers({"Content-Type": "application/json"}), body)

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self._response

    @property
    def last(self) -> Request:
        return self.requests[-1]


def ask(client: Any, do: Callable[[Any], Any]) -> Any:
    """What `do(client)` comes to: awaited, or iterated over, as the client has it."""
    if isinstance(client, FlowMaestroClient):
        value = do(client)
        return list(value) if hasattr(value, "__next__") else value

    async def main() -> Any:
        value = do(client)
        if inspect.isawaitable(value):
            return await value
        return [item async for item in value] if hasattr(value, "__anext__") else value

    return in_loop("asyncio", main)

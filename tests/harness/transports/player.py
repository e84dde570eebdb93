"""Something done with a client of either kind, over a fake or over a list of replies."""

from __future__ import annotations

import inspect
from typing import Any, Callable

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, Hooks
from flowmaestro.testing import AsyncScriptedTransport, FakeFlowMaestro, ScriptedTransport

KEY = "fm_live_never_seen"
"""Of a client over a list of replies."""
KINDS = ("sync", "asyncio", "trio")


class Player:
    """Makes a client of one kind for each thing that is done; `transport` is that of the last."""

    transport: Any

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, world: Any, do: Callable[[Any], Any], hooks: Hooks, **options: Any) -> Any:
        """What `do` makes of the client; a list if that is iterated over."""
        fake = isinstance(world, FakeFlowMaestro)
        options = {"hooks": hooks, "api_key": world.api_key if fake else KEY, **options}
        if self._kind == "sync":
            self.transport = world.transport() if fake else ScriptedTransport(world)
            with FlowMaestroClient(transport=self.transport, **options) as client:
                result = do(client)
                return list(result) if hasattr(result, "__next__") else result

        async def main() -> Any:
            self.transport = world.async_transport() if fake else AsyncScriptedTransport(world)
            async with AsyncFlowMaestroClient(transport=self.transport, **options) as client:
                result = do(client)
                if inspect.isawaitable(result):
                    return await result
                return [item async for item in result]

        return anyio.run(main, backend=self._kind)

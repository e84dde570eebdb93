"""Both kinds of client behind one awaiting face, so that a scenario is written once.

The sync client does its work at the call; what is awaited afterwards never suspends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Iterator

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro
from tests.harness.runners import Runner


@dataclass(frozen=True)
class World:
    """A fake, and a maker of clients of it."""

    fake: FakeFlowMaestro
    runner: Runner

    def client(self, api_key: Any = None, **options: Any) -> Any:
        key = api_key or self.fake.api_key
        transport = self.runner.make(self.fake)
        if self.runner.backend is None:
            return Face(FlowMaestroClient(key, transport=transport, **options))
        return AsyncFlowMaestroClient(key, transport=transport, **options)

    def run(self, act: Callable[..., Awaitable[None]], **given: Any) -> None:
        """Act, on what this runner runs on."""

        async def main() -> None:
            await act(self, **given)

        if self.runner.backend is None:
            at_once(main())
        else:
            anyio.run(main, backend=self.runner.backend)


def at_once(coroutine: Any) -> None:
    """Run what never suspends."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a sync client has suspended")


class Face:
    """A sync client, or one of its resources."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        return Performing(found) if callable(found) else Face(found)


class Performing:
    """A method that performs at the call, and gives back something to await or iterate over."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __call__(self, *args: Any, **options: Any) -> Any:
        value = self._method(*args, **options)
        return Handle(value) if hasattr(value, "__next__") else ready(value)


async def ready(value: Any) -> Any:
    return value


class Handle:
    """An iterator as an asynchronous one."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __aiter__(self) -> Handle:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None

    def text(self) -> Handle:
        return Handle(self._iterator.text())

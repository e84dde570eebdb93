"""The clients: each transport, its dice seeded, and a sync client that can be awaited."""

from __future__ import annotations

import random
from typing import Any, Callable

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamTimes
from tests.harness.runners import Runner

TIMEOUT = 0.6
"""Seconds that one attempt may take."""

TIMES = StreamTimes(
    event_idle=0.2,
    event_idle_max=0.5,
    bytes_idle=0.8,
    reconnect_base=0.02,
    reconnect_max=0.1,
    reconnect_for=2.0,
)


class QuickDice(random.Random):
    """A transport's dice: pauses before retries are a twentieth of what they would be."""

    def random(self) -> float:
        return super().random() / 20


def a_client(runner: Runner, transport: Any, url: str, key: str) -> Any:
    """A client over `transport`, which others share."""
    kind = FlowMaestroClient if runner.backend is None else AsyncFlowMaestroClient
    client = kind(api_key=key, base_url=url, transport=transport, stream_times=TIMES)
    client = client.with_options(timeout=TIMEOUT)
    return Awaited(client) if runner.backend is None else client


class Awaited:
    """A sync client, or a resource of one, whose methods are awaited."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return _AwaitedMethod(found) if callable(found) else Awaited(found)


class _AwaitedMethod:
    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _Outcome(lambda: self._method(*args, **kwargs))


class _Outcome:
    """What a sync call comes to: awaited, iterated over, or entered."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._items: Any = None

    def __await__(self) -> Any:
        return self._call()
        yield  # what makes it an iterator, as `await` wants one

    def __aiter__(self) -> _Outcome:
        if self._items is None:
            self._items = self._call()
        iter(self._items)
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Outcome:
        self._items = self._call()
        self._items.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._items.__exit__(*exc)

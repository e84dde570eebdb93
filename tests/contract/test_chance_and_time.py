"""Randomness and the wall clock: the SDK's own, never the application's."""

from __future__ import annotations

import random
from typing import Any, List

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import Quiet, ScriptedTransport
from flowmaestro_core.http.messages import Headers, Request, Response, ResponseHead
from flowmaestro_transports.contract import OpenResponse
from tests.harness.contract.clients import KEY, KINDS, ask


class Refusing:
    """A sync transport that answers 503, and notes what was sent and how long it slept."""

    def __init__(self, headers: Any = ()) -> None:
        self.requests: List[Request] = []
        self.slept: List[float] = []
        self._headers = Headers(headers)

    def send(self, request: Request, timeout: float) -> Response:
        self.requests.append(request)
        return Response(503, self._headers, b"")

    def open(self, request: Request, timeout: float) -> OpenResponse:
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def now(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


class AsyncRefusing(Refusing):
    """The same for an async client."""

    async def send(self, request: Request, timeout: float) -> Response:  # type: ignore[override]
        return super().send(request, timeout)

    async def open(self, request: Request, timeout: float) -> Any:  # type: ignore[override]
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        super().sleep(seconds)

    async def close(self) -> None:  # type: ignore[override]
        pass


TRANSPORTS = {"blocking": Refusing, "awaiting": AsyncRefusing}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    def make(**options: Any) -> Any:
        transport = TRANSPORTS[request.param](**options)
        return KINDS[request.param](KEY, transport=transport), transport

    return make


def test_redirects_share_the_time_limit_of_their_attempt() -> None:
    away = [Quiet(1.5), ResponseHead(302, {"Location": "/x"})]
    transport = ScriptedTransport([away, away])
    client = FlowMaestroClient(KEY, transport=transport, timeout=2.0, max_retries=0)
    with pytest.raises(TimeoutError):
        client.workflows.get("wf_1")
    assert transport.now() == 2.0


def test_a_seed_of_the_applications_decides_nothing_and_is_not_disturbed(make: Any) -> None:
    keys, pauses = set(), set()
    for _ in range(3):
        random.seed(42)
        state = random.getstate()
        client, transport = make()
        with pytest.raises(Exception, match="503"):
            ask(client, lambda client: client.workflows.get("wf_1"))
        with pytest.raises(Exception, match="503"):
            ask(client, lambda client: client.workflows.execute("wf_1"))
        assert random.getstate() == state
        keys.add(transport.requests[-1].headers["idempotency-key"])
        pauses.add(tuple(transport.slept))
    assert len(keys) == len(pauses) == 3


def test_a_date_to_retry_after_counts_from_the_wall_clock_if_the_reply_has_none(make: Any) -> None:
    headers = Headers({"Retry-After": "Sun, 06 Nov 1994 08:49:40 GMT"})
    client, transport = make(headers=headers)
    transport.wall_clock = lambda: 784111777.9
    with pytest.raises(Exception, match="503"):
        ask(client, lambda client: client.workflows.get("wf_1"))
    assert transport.slept == [3.0, 3.0, 3.0]

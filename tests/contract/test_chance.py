"""Randomness: the SDK's own, never the application's."""

from __future__ import annotations

import random
from typing import List

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro_transports.functions import FunctionTransport
from tests.harness.contract.clients import KEY, Listener


class Refusing(FunctionTransport):
    """It answers 503, and notes what was sent and how long it would have slept."""

    def __init__(self) -> None:
        self.listener = Listener(status=503)
        self.slept: List[float] = []
        super().__init__(self.listener)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_a_seed_of_the_applications_decides_nothing_and_is_not_disturbed() -> None:
    keys, pauses = set(), set()
    for _ in range(3):
        random.seed(42)
        state = random.getstate()
        transport = Refusing()
        client = FlowMaestroClient(KEY, transport=transport)
        with pytest.raises(Exception, match="503"):
            client.workflows.get("wf_1")
        with pytest.raises(Exception, match="503"):
            client.workflows.execute("wf_1")
        assert random.getstate() == state
        keys.add(transport.listener.last.headers["idempotency-key"])
        pauses.add(tuple(transport.slept))
    assert len(keys) == len(pauses) == 3

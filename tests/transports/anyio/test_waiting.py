"""What the steps of a call wait for on an event loop."""

from __future__ import annotations

import socket
import time
from typing import Any

import anyio
import pytest

from flowmaestro_transports.anyio.waiting import carry_out
from flowmaestro_transports.http11.round_trip import AttemptDeadline
from flowmaestro_transports.http11.wire import IOSteps, IOWait, Readiness
from tests.harness.transports.quiet_streams import BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_error_of_one_of_several_waits_is_raised_as_itself(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    async def refuses(_sock: Any) -> None:
        raise anyio.ClosedResourceError

    def steps(sock: socket.socket) -> IOSteps[None]:
        yield IOWait(Readiness.EITHER, (sock,))

    async def main() -> None:
        deadline = AttemptDeadline(60.0, time.monotonic)
        with socket.socket() as sock, pytest.raises(anyio.ClosedResourceError):
            await carry_out(steps(sock), deadline, anyio.CancelScope())

    monkeypatch.setattr(anyio, "wait_readable", refuses)
    monkeypatch.setattr(anyio, "wait_writable", refuses)
    anyio.run(main, backend=backend)

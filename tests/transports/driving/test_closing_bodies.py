"""An async driver closes the body of a stranger's transport to the end."""

from __future__ import annotations

from typing import Any, List

import anyio
import anyio.lowlevel
import pytest

from flowmaestro_core.actions import Emit, Open, Read
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.driving.iterators import AsyncItems
from tests.harness.transports.scripted_machine import Scripted

pytestmark = pytest.mark.anyio

REQUEST = Request("GET", "http://localhost/x", Headers())


class Body:
    """Its `close` needs a turn of the event loop before it has closed."""

    status, headers = 200, Headers()

    def __init__(self, errors: List[Exception]) -> None:
        self.open = True
        self.errors = errors

    async def read(self, _patience: float) -> bytes:
        await anyio.sleep_forever()
        return b""

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop()
        self.open = False


class Strange:
    def __init__(self, *errors: Exception) -> None:
        self.body = Body(list(errors))

    async def open(self, _request: Request, _timeout: float) -> Body:
        return self.body

    def now(self) -> float:
        return 7.0


async def test_cancelled_read_closes_the_body_to_the_end() -> None:
    strange = Strange()
    items = AsyncItems[Any](Scripted(Open(REQUEST, 9), Read(9)), strange)  # type: ignore[arg-type]
    with anyio.move_on_after(0.01) as scope:
        await items.__anext__()
    assert scope.cancelled_caught
    assert not strange.body.open


async def test_cancelled_close_closes_the_body_to_the_end() -> None:
    strange = Strange()
    items = AsyncItems[Any](Scripted(Open(REQUEST, 9), Emit(["a"])), strange)  # type: ignore[arg-type]
    await items.__anext__()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await items.close()
    assert not strange.body.open


async def test_second_close_closes_what_the_first_one_could_not() -> None:
    strange = Strange(OSError("not now"))
    items = AsyncItems[Any](Scripted(Open(REQUEST, 9), Emit(["a"])), strange)  # type: ignore[arg-type]
    await items.__anext__()
    with pytest.raises(OSError, match="not now"):
        await items.close()
    await items.close()
    assert not strange.body.open

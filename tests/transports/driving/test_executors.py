"""Executors: their transport, and those that are derived from others."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from flowmaestro import ClientClosedError, FlowMaestroClient
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.driving.executors import ClientTransport

MANY = 1100
"""More derivations in a row than Python allows nested calls."""
PROMPT = 30.0


def empty_page(_request: Request) -> Response:
    return Response(200, Headers(), b'{"data": []}')


@pytest.mark.parametrize("option", ["api_key", "timeout"])
def test_client_at_the_end_of_a_long_chain_works(option: str) -> None:
    first = client = FlowMaestroClient("fm_live_first", transport=empty_page)
    for number in range(1, MANY):
        value: Any = f"fm_live_{number}" if option == "api_key" else float(number)
        client = client.with_options(**{option: value})
    assert client.workflows.list()["data"] == []
    first.close()
    with pytest.raises(ClientClosedError):
        client.workflows.list()


def test_the_transport_is_made_once() -> None:
    made: List[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    transport = ClientTransport(None, make)
    assert [transport.get(), transport.get()] == [made[0], made[0]]
    assert len(made) == 1


def test_threads_that_need_the_transport_at_once_share_one() -> None:
    both_make = threading.Barrier(2)
    got: List[object] = []

    def make() -> object:
        both_make.wait(PROMPT)
        return object()

    transport = ClientTransport(None, make)
    threads = [threading.Thread(target=lambda: got.append(transport.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROMPT)
    assert got == [transport.made, transport.made]

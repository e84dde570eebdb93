"""A short chaos run on every transport, and proof that its checker has teeth.

The long one is `nox -s chaos`.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar, Dict, List

import anyio
import pytest

from flowmaestro import ConnectionError, FlowMaestroClient
from flowmaestro.testing import MemoryTransport
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import Headers, Phase, Response, TransportFailure
from flowmaestro_transports import AnyioTransport, RequestsTransport, SocketTransport
from tests.harness.chaos.claims import Refused
from tests.harness.chaos.ledger import Ledger, LedgerFake
from tests.harness.chaos.operations import leave_stream
from tests.harness.chaos.plan import plan
from tests.harness.chaos.soak import trials
from tests.harness.chaos.trial import Trial, run_trial
from tests.harness.runners import RUNNERS

OPERATIONS = 48
"""Of each transport, half of them under TLS."""


@pytest.mark.filterwarnings(  # asyncio of Python 3.9 and 3.10, of TLS that the peer has reset
    "ignore:Exception ignored in.*_SSLProtocolTransport",
    # asyncio, beneath aiohttp, of connections whose peer does not take what is still to be sent
    "ignore:Exception ignored in.*(socket.socket|_SelectorTransport)",
)
@pytest.mark.parametrize(
    "trial", trials(7, OPERATIONS * len(RUNNERS)), ids=lambda trial: trial.title
)
def test_nothing_is_doubled_invented_unanswered_or_leaked(trial: Trial) -> None:
    report = run_trial(trial)
    assert report.violations == []
    assert len(report.outcomes) == trial.operations
    assert report.faults, "the network was too kind"
    assert report.claims > trial.operations / 8, "hardly anything was told, so nothing was checked"


def test_bytes_are_flipped_only_where_somebody_notices() -> None:
    faults = {flips: {plan("1", n, flips=flips).fault for n in range(200)} for flips in (0, 1)}
    assert faults[1] - faults[0] == {"flip"}


class Doubling(RequestsTransport):
    """Sends what may not be sent twice a second time when the reply is lost."""

    def send(self, request: Any, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure:
            if request.method != "POST":
                raise
            return super().send(request, timeout)


class DoublingUnderAnotherKey(RequestsTransport):
    """Does the same with a new idempotency key."""

    def send(self, request: Any, timeout: float) -> Response:
        if request.method == "POST" and request.url.endswith("/execute"):
            pairs = {**request.headers, "idempotency-key": "another"}
            super().send(type(request)("POST", request.url, Headers(pairs), request.body), timeout)
        return super().send(request, timeout)


class Inventing(RequestsTransport):
    """Makes up a reply when none comes."""

    def send(self, request: Any, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure:
            body = b'{"data": {"execution_id": "ex_made_up", "status": "pending"}}'
            return Response(200, Headers(), body)


class MixingUp(RequestsTransport):
    """Answers every request with the last reply to its method."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._last: Dict[str, Response] = {}

    def send(self, request: Any, timeout: float) -> Response:
        response = super().send(request, timeout)
        last = self._last.get(request.method, response)
        self._last[request.method] = response
        return last


class OpeningSockets(RequestsTransport):
    """Leaves something open for each stream."""

    left: ClassVar[List[socket.socket]] = []

    def open(self, request: Any, timeout: float) -> Any:
        self.left.append(socket.socket())
        return super().open(request, timeout)


class KeepingStreams(AnyioTransport):
    """Closes no stream before it is closed itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept: List[Any] = []

    async def open(self, request: Any, timeout: float) -> Any:
        body = await super().open(request, timeout)
        body.close = self._not_now
        self._kept.append(body)
        return body

    async def _not_now(self) -> None:
        pass


class Forgetful(AnyioTransport):
    """Never comes back with an answer."""

    async def send(self, request: Any, timeout: float) -> Response:
        await anyio.sleep_forever()
        raise AssertionError


class ForgetfulThreads(SocketTransport):
    """Comes back without an answer when it is closed, or in a minute."""

    def send(self, request: Any, timeout: float) -> Response:
        self.sleep(60.0)
        raise AssertionError


def violations_of(
    make: Any, name: str = "requests", operations: int = 72, seed: int = 3
) -> List[str]:
    """What goes wrong in a short run over a transport that `make` makes."""
    return run_trial(Trial(name, False, seed, operations, make=make)).violations


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Doubling, "2 times"),
        (DoublingUnderAnotherKey, "execution of"),
        (Inventing, "never sent"),
        (MixingUp, "the reply to"),
    ],
)
def test_a_lie_is_caught(make: Any, found: str) -> None:
    """In one of a few runs: time decides what meets which fault."""
    runs = (violations_of(make, seed=seed) for seed in range(3, 8))
    assert any(found in violation for run in runs for violation in run)


def test_an_error_that_denies_what_the_server_did_is_caught() -> None:
    fake = LedgerFake()
    client = FlowMaestroClient(api_key=fake.api_key, transport=MemoryTransport(fake))
    client.workflows.execute("wf_123", idempotency_key="key-1")
    error = ConnectionError()
    error.attempts = (Attempt(1, Phase.NOT_SENT),)
    assert "nothing was sent" in Refused(error, "key-1").lie(Ledger(fake))
    assert not Refused(error, "key-2").lie(Ledger(fake))


def test_a_leaked_socket_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.SETTLE_SECONDS", 1.0)
    leaked = violations_of(OpeningSockets)
    while OpeningSockets.left:
        OpeningSockets.left.pop().close()
    assert any("files are left open" in found for found in leaked)


def test_a_stream_that_is_left_open_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.SETTLE_SECONDS", 1.0)
    # A stream ends with its execution. At the usual speed, a busy machine may take as long.
    monkeypatch.setattr("tests.harness.chaos.trial.SPEED", 1.0)
    monkeypatch.setattr("tests.harness.chaos.trial.OPERATIONS", {"leave_stream": leave_stream})
    leaked = violations_of(KeepingStreams, "anyio-asyncio", 24)
    assert any("event streams are left open" in found for found in leaked)


@pytest.mark.parametrize(
    ("make", "name"), [(Forgetful, "anyio-trio"), (ForgetfulThreads, "sockets")]
)
def test_an_operation_without_an_answer_is_caught(
    make: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.ANSWER_SECONDS", 0.2)
    found = violations_of(make, name, 24)
    assert any("no answer to" in violation for violation in found)

"""A short chaos run on every transport, and proof that its checker has teeth.

The long one is `nox -s chaos`.
"""

from __future__ import annotations

import socket
from typing import Any, Callable, ClassVar, Dict, List

import anyio
import pytest

from flowmaestro import ConnectionError, FlowMaestroClient
from flowmaestro.testing import MemoryTransport
from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import Headers, Phase, Response, TransportFailure
from flowmaestro_transports import AnyioTransport, RequestsTransport
from tests.harness.chaos.claims import Refused
from tests.harness.chaos.ledger import Ledger, LedgerFake
from tests.harness.chaos.plan import plan
from tests.harness.chaos.soak import trials
from tests.harness.chaos.trial import Report, Trial, run_trial
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


def test_the_seed_gives_the_plan_and_the_operations() -> None:
    one, same, other = (Trial("requests", True, seed, 50) for seed in (1, 1, 2))
    assert kinds(one) == kinds(same) != kinds(other)
    plans = [[plan(seed, number, flips=True) for number in range(50)] for seed in "112"]
    assert plans[0] == plans[1] != plans[2]


def kinds(trial: Trial) -> List[List[str]]:
    return [[task.kind for task in trial.tasks_of(worker)] for worker in range(trial.workers)]


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


class Denying(RequestsTransport):
    """Says that nothing was sent when a reply is lost."""

    def send(self, request: Any, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            raise TransportFailure(Phase.NOT_SENT, "it never left") from failure


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


def violations_of(make: Any, name: str = "requests", operations: int = 72, seed: int = 3) -> Report:
    """What a client over a transport that `make` makes does in a short run."""
    return run_trial(Trial(name, False, seed, operations, make=make))


def catches(make: Any, found: Callable[[Report], Any]) -> bool:
    """Whether one of a few runs shows it: time decides what meets which fault."""
    return any(found(violations_of(make, seed=seed)) for seed in range(3, 8))


def test_a_doubled_post_is_caught() -> None:
    assert catches(Doubling, lambda report: report.doubled)


def test_a_doubled_post_is_caught_under_another_key() -> None:
    assert catches(
        DoublingUnderAnotherKey,
        lambda report: any("execution of" in found for found in report.doubled),
    )


def test_a_wrong_word_on_whether_it_was_sent_is_caught() -> None:
    assert catches(Denying, lambda report: report.doubled), "who believes it sends it again"
    fake = LedgerFake()
    client = FlowMaestroClient(api_key=fake.api_key, transport=MemoryTransport(fake))
    client.workflows.execute("wf_123", idempotency_key="key-1")
    error = ConnectionError()
    error.attempts = (Attempt(1, Phase.NOT_SENT),)
    assert "nothing was sent" in Refused(error, "key-1").lie(Ledger(fake))
    assert not Refused(error, "key-2").lie(Ledger(fake))


def test_an_invented_result_is_caught() -> None:
    assert catches(
        Inventing, lambda report: any("never sent" in found for found in report.invented)
    )


def test_a_mixed_up_reply_is_caught() -> None:
    assert catches(MixingUp, lambda report: report.invented)


def test_a_leaked_socket_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.SETTLE_SECONDS", 1.0)
    leaked = violations_of(OpeningSockets).leaked
    while OpeningSockets.left:
        OpeningSockets.left.pop().close()
    assert any("files are left open" in found for found in leaked)


def test_a_stream_that_is_left_open_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.SETTLE_SECONDS", 1.0)
    leaked = violations_of(KeepingStreams, "anyio-asyncio").leaked
    assert any("event streams are left open" in found for found in leaked)


def test_an_operation_without_an_answer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.chaos.trial.ANSWER_SECONDS", 0.2)
    assert violations_of(Forgetful, "anyio-trio", 24).unanswered

"""A slice of the fuzzing, what it once found, and proof that it finds something.

The long one is `nox -s fuzz`.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flowmaestro_core.payloads import shapes
from flowmaestro_transports import AnyioTransport
from tests.harness.fuzz.conversations import core_targets, recorded
from tests.harness.fuzz.regressions import REGRESSIONS
from tests.harness.fuzz.soak import Results, fuzz_core, fuzz_wire, replay
from tests.harness.fuzz.wire import CORPORA, KINDS, feed_all
from tests.harness.runners import RUNNERS

CORE_INPUTS, WIRE_INPUTS = 600, 150
SEED = 4

EXPECTED_ERRORS = {"core not found"}
"""Conversations in which the API says no."""


def test_no_input_makes_the_core_do_what_it_must_not() -> None:
    results = Results()
    fuzz_core(results, SEED, CORE_INPUTS, list(core_targets().values()))
    assert results.findings == [], "\n".join(map(str, results.findings))
    assert sum(sum(outcomes.values()) for outcomes in results.outcomes.values()) == CORE_INPUTS


def test_no_input_makes_a_transport_do_what_it_must_not() -> None:
    results = Results()
    fuzz_wire(results, SEED, WIRE_INPUTS)
    assert results.findings == [], "\n".join(map(str, results.findings))
    assert len(results.outcomes) == len(RUNNERS) * len(KINDS)


@pytest.mark.parametrize("number", range(len(REGRESSIONS)))
def test_fuzzing_regressions_stay_fixed(number: int) -> None:
    assert replay(*REGRESSIONS[number]) is None


def test_mutations_begin_with_what_is_valid() -> None:
    """Or all that is fuzzed would be the refusal of garbage."""
    for name, target in core_targets().items():
        outcomes = {target.feed(data) for data in target.corpus}
        if name == "core workflows.run":
            # A silent stream ends at once when it is played, so its polls come out of step.
            assert "done" in outcomes <= {"done", "TimeoutError"}
        else:
            assert outcomes == ({"NotFoundError"} if name in EXPECTED_ERRORS else {"done"}), name
    assert recorded() == recorded()


@pytest.mark.parametrize("name", RUNNERS)
def test_valid_responses_pass_and_truncated_ones_fail(name: str) -> None:
    """Each valid one goes to a server of its own: this one hangs up without a word, and a call that
    takes a connection from the pool at that moment gets no reply. The shortest cut is the last
    chunk, since the JSON before it is whole.
    """
    for kind, inputs in (("get", CORPORA["get"][:6]), ("stream", CORPORA["stream"])):
        assert [feed_all(name, kind, [data]) for data in inputs] == [["done"]] * len(inputs)
    cuts = range(len(b"0\r\n\r\n"), 230, 21)
    cut = [data[:-missing] for data in CORPORA["get"][:3] for missing in cuts]
    outcomes = set(feed_all(name, "get", cut))
    assert all(isinstance(outcome, str) for outcome in outcomes), outcomes
    assert "done" not in outcomes


def test_an_error_that_is_not_ours_is_found_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    async def raw(self: Any, request: Any, timeout: float) -> Any:
        raise OSError("not ours")

    monkeypatch.setattr(AnyioTransport, "send", raw)
    (outcome,) = feed_all("anyio-trio", "get", [CORPORA["get"][0]])
    assert isinstance(outcome, OSError)


def test_a_call_that_hangs_is_found_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: Any, request: Any, timeout: float) -> Any:
        await anyio.sleep(60.0)

    monkeypatch.setattr(AnyioTransport, "send", hang)
    monkeypatch.setattr("tests.harness.fuzz.wire.HUNG", 0.1)
    (outcome,) = feed_all("anyio-trio", "get", [CORPORA["get"][0]])
    assert isinstance(outcome, TimeoutError)


def test_a_shape_that_trusts_the_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzing finds something: a bug that is planted."""

    def trusting(body: Any) -> None:
        body["pagination"]["has_more"] = body["pagination"]["page"] < 1

    monkeypatch.setattr(shapes, "pagination", trusting)
    results, targets = Results(), core_targets()
    names = ("core workflows.list", "core executions.iterate")
    fuzz_core(results, SEED, 200, [targets[name] for name in names])
    assert {type(finding.error) for finding in results.findings} & {KeyError, TypeError}

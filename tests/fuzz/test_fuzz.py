"""A slice of the fuzzing, what it once found, and proof that it finds something.

The long one is `nox -s fuzz`.
"""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro_core.payloads import shapes
from flowmaestro_transports import AnyioTransport
from flowmaestro_transports.http11.content_coding import ContentDecoder
from flowmaestro_transports.http11.framing import Chunked
from tests.harness.fuzz.conversations import recorded
from tests.harness.fuzz.regressions import REGRESSIONS
from tests.harness.fuzz.soak import Finding, Results, fuzz_core, fuzz_wire, judged, replay, shrunk
from tests.harness.fuzz.targets import core_targets
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
        elif name.startswith("core"):
            assert outcomes == ({"NotFoundError"} if name in EXPECTED_ERRORS else {"done"}), name
    assert recorded() == recorded()


@pytest.mark.parametrize("name", RUNNERS)
def test_valid_responses_pass_and_truncated_ones_fail(name: str) -> None:
    """Each valid one goes to a server of its own: this one hangs up without a word, and a call that
    takes a connection from the pool at that moment gets no reply.
    """
    for kind, inputs in (("get", CORPORA["get"][:6]), ("stream", CORPORA["stream"])):
        assert [feed_all(name, kind, [data]) for data in inputs] == [["done"]] * len(inputs)
    cut = [data[:end] for data in CORPORA["get"][:3] for end in range(0, len(data), 21)]
    assert not {"'done'"} & {repr(outcome) for outcome in feed_all(name, "get", cut)}


# The planted bugs, each of a kind that the fuzzing is for.


def findings_of(*names: str) -> List[Finding]:
    results = Results()
    targets = core_targets()
    fuzz_core(results, SEED, 100 * len(names), [targets[name] for name in names])
    return results.findings


def test_a_shape_that_trusts_the_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(body: Any) -> None:
        body["pagination"]["has_more"] = body["pagination"]["page"] < 1

    monkeypatch.setattr(shapes, "pagination", trusting)
    found = findings_of("core workflows.list", "core executions.iterate")
    assert {type(finding.error) for finding in found} & {KeyError, TypeError}


def test_a_body_that_was_cut_and_passes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ContentDecoder, "finish", lambda self: b"")
    assert any("cut body passed" in str(finding.error) for finding in findings_of("inflate"))


def test_a_decoder_that_minds_where_bytes_are_cut_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = Chunked.feed

    def forgetful(self: Chunked, data: bytes) -> bytes:
        del self._begun[:-1]
        return feed(self, data)

    monkeypatch.setattr(Chunked, "feed", forgetful)
    assert findings_of("chunks")


def test_an_error_that_is_not_ours_is_found_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    async def raw(self: Any, request: Any, timeout: float) -> Any:
        raise OSError("not ours")

    monkeypatch.setattr(AnyioTransport, "send", raw)
    (outcome,) = feed_all("anyio-trio", "get", [CORPORA["get"][0]])
    assert isinstance(outcome, OSError)


def test_a_finding_is_made_small_and_can_be_pasted() -> None:
    def fragile(data: bytes) -> str:
        if b"\0" in data:
            raise KeyError("a bug")
        return "done"

    data = b'{"data": "' + b"x" * 500 + b'"} \0'
    _, finding = judged("core workflows.get", fragile, data)
    assert finding is not None
    small = finding._replace(data=shrunk(fragile, data, KeyError))
    assert small.data == b"\0"
    pasted: Any = eval("[" + str(small).partition("\n")[2] + "]")
    assert pasted == [("core workflows.get", b"\0")]

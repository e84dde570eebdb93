"""The conformance kit has teeth: what breaks a rule is caught by the check of that rule."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from flowmaestro.testing.conformance import (
    CheckFailed,
    NotOffered,
)
from flowmaestro.testing.conformance.runner import SyncRunner
from flowmaestro.testing.conformance.site import loopback_site
from tests.harness.testing.broken_async_transports import (
    CancelsSomebodyElse,
    HoldsUpTheLoop,
    IsClosedHalfway,
    LosesItsPlace,
    Shielded,
    Swallowing,
)
from tests.harness.testing.broken_transports import (
    CHECKS,
    AddsFields,
    ConnectsAnewAfterItsClose,
    FollowsRedirects,
    ForgetsTheEnd,
    GathersWhileThereIsMore,
    HangsAfterASignal,
    HangsInACondition,
    HurriedAsyncRunner,
    HurriedSyncRunner,
    IgnoresTheBound,
    ImpatientAndWrong,
    IsClosedOnce,
    JoinsRepeatedFields,
    KeepsCookies,
    KeepsDeadConnections,
    KeepsTheRequest,
    KeepsTheRequestInACause,
    LeaksTheLibrarysExceptions,
    LeavesConnectionsBehind,
    LosesItsPlaceToASignal,
    LosesWhatCameBeforeTheQuiet,
    MixesUpItsCallers,
    NamesItsFields,
    NeverLetsGo,
    PlainRequests,
    RaisesForStatus,
    ReadsAhead,
    ReadsOnWhileItIsQuiet,
    SaysNotSentAlways,
    SaysTheSamePhaseAlways,
    TakesABreakForTheEnd,
    TakesAClosedCallForDone,
    TakesQuietForABreak,
    TakesQuietForTheEnd,
    TakesTwiceTheTime,
    TriesAgain,
    TrustsEveryone,
    finding_of,
    outcome,
)

BROKEN = [
    ("truncated-counted-body", TakesABreakForTheEnd, "there was a result, b'hello'"),
    ("truncated-chunked-body", TakesABreakForTheEnd, "there was a result"),
    ("reset-within-the-body", TakesABreakForTheEnd, "there was a result, b''"),
    ("quiet-body", TakesQuietForTheEnd, "which is the end, though the body goes on"),
    ("quiet-body", ImpatientAndWrong, "which is the end, though the body goes on"),
    ("quiet-body", TakesQuietForABreak, "a quiet read failed: read timed out"),
    ("quiet-within-a-chunk", LosesWhatCameBeforeTheQuiet, "the body was b'he"),
    ("quiet-over-tls", TakesQuietForTheEnd, "which is the end"),
    ("close-while-reading", NeverLetsGo, "had not ended 0.5 s later"),
    ("early-close", NeverLetsGo, "still had its client"),
    ("read-after-close", NeverLetsGo, "there was a result"),
    ("the-end-stays-the-end", ForgetsTheEnd, "the body was read"),
    ("no-redirect-is-followed", FollowsRedirects, "the redirect was followed"),
    ("no-cookie-is-kept", KeepsCookies, "a cookie was sent back"),
    ("no-credential-of-the-environment", PlainRequests, "it was sent as Authorization"),
    ("refused-connection", SaysTheSamePhaseAlways, r"\*maybe processed\* where \*not sent\* is"),
    ("no-reply", SaysNotSentAlways, r"\*not sent\* where \*maybe processed\* is"),
    ("truncated-counted-body", SaysTheSamePhaseAlways, r"where \*reply broken\* is true"),
    ("no-reply", LeaksTheLibrarysExceptions, "where only TransportFailure may"),
    ("nothing-is-sent-twice", TriesAgain, "reached the server 2 times"),
    ("use-after-close", ConnectsAnewAfterItsClose, "used after its close"),
    ("close-twice", IsClosedOnce, "this transport is closed"),
    ("many-at-once", MixesUpItsCallers, "got b'"),
    ("repeated-header-fields", JoinsRepeatedFields, "not \\['a', 'b'\\]"),
    ("every-status-is-a-reply", RaisesForStatus, "400"),
    ("the-request-goes-out-as-it-is", AddsFields, "added: cache-control"),
    ("body-timeout", TakesTwiceTheTime, "had not ended"),
    ("an-unknown-authority-is-refused", TrustsEveryone, "there was a result"),
    ("a-wrong-host-is-refused", TrustsEveryone, "there was a result"),
    ("bounded-connections", IgnoresTheBound, "calls were on their way at a time"),
    ("waiting-for-a-connection-counts", IgnoresTheBound, r"where \*not sent\* is true"),
    ("a-busy-program-looks-first", KeepsDeadConnections, "the reply was b'unasked'|Broken pipe"),
    ("a-garbled-status-line", PlainRequests, "there was a result"),
    ("a-garbled-length", PlainRequests, "there was a result"),
    ("informational-replies", PlainRequests, "the reply was <Response 103"),
    ("a-head-that-dribbles", PlainRequests, "had not ended"),
    ("truncated-coded-body", PlainRequests, ""),
    ("stale-connection", KeepsDeadConnections, "Broken pipe|reset|closed"),
    ("connection-close", KeepsDeadConnections, ""),
    ("an-unasked-reply", KeepsDeadConnections, "the reply was b'unasked'"),
    ("close-wakes-a-call", TakesAClosedCallForDone, "half a reply passed for a whole one"),
    ("close-wakes-a-call-in-its-body", TakesAClosedCallForDone, "half a reply passed"),
    ("a-flood-of-small-chunks", PlainRequests, "had not ended"),
    ("a-flood-of-trailers", PlainRequests, "there was a result|had not ended"),
    ("a-flood-of-empty-gzip-members", PlainRequests, "there was a result|had not ended"),
    ("a-flood-of-small-gzip-members", PlainRequests, "there was a result|had not ended"),
    ("a-flood-of-informational-replies", PlainRequests, "there was a result|had not ended"),
    ("a-stream-flooded-with-empty-gzip-members", ReadsOnWhileItIsQuiet, "had not ended"),
    ("a-stream-flooded-with-small-gzip-members", GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-small-chunks", GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-trailers", PlainRequests, "had not ended"),
    ("what-is-whole-comes-before-a-failure", ReadsAhead, "the reply broke off|chunk"),
    ("an-interrupted-call-loses-nothing", LosesItsPlaceToASignal, "no place came free"),
    ("an-interrupted-call-loses-nothing", HangsAfterASignal, "or the next one, hangs"),
    ("an-interrupted-stream-loses-nothing", LosesItsPlaceToASignal, "no place came free"),
    ("no-secret-is-reachable-from-a-failure", KeepsTheRequest, r"args.*request.*headers"),
    ("no-secret-is-reachable-from-a-failure", KeepsTheRequestInACause, "__cause__.*request"),
    ("no-frame-of-a-failure-shows-a-secret", NamesItsFields, "the key is in fields in send"),
    ("close-frees-every-connection", LeavesConnectionsBehind, "1 connections were still open"),
]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("name", "toy", "finding"), BROKEN, ids=[f"{toy.__name__}-{name}" for name, toy, _ in BROKEN]
)
def test_a_broken_transport_is_caught(name: str, toy: Any, finding: str) -> None:
    hurried = "flood" in name or "dribbles" in name or toy in (NeverLetsGo, LeavesConnectionsBehind)
    runner = HurriedSyncRunner if hurried else SyncRunner
    found = finding_of(lambda: runner(toy, loopback_site), CHECKS[name], finding)
    assert found is not None
    assert not isinstance(found, NotOffered)
    assert re.search(finding, str(found)), found


def test_a_lock_that_an_interrupt_left_taken_does_not_hold_up_the_end_of_the_interpreter() -> None:
    made = HangsInACondition()
    runner = SyncRunner(lambda: made, loopback_site)
    runner.exhaustive = True
    found = outcome(runner, CHECKS["an-interrupted-call-loses-nothing"])
    assert re.search(r"threading\.py.*or the next one, hangs", str(found)), found
    with made.place:
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("toy", "finding"),
    [
        (Shielded, "what was cancelled went on"),
        (Swallowing, "the cancellation was swallowed"),
        (LosesItsPlace, "what was under way had not ended"),
    ],
    ids=["shielded", "swallowed", "place lost"],
)
def test_a_transport_that_cannot_be_cancelled_is_caught(
    backend: str, toy: Any, finding: str
) -> None:
    check = CHECKS["cancelled-before-the-head"]
    found = finding_of(lambda: HurriedAsyncRunner(toy, loopback_site, backend), check, finding)
    assert isinstance(found, CheckFailed)
    assert re.search(finding, str(found)), found


@pytest.mark.parametrize(
    ("backend", "name", "toy", "finding"),
    [
        (
            "asyncio",
            "other-tasks-run-beside-small-gzip-members",
            HoldsUpTheLoop,
            r"turns beside .* took",
        ),
        ("trio", "other-tasks-run-beside-trailers", HoldsUpTheLoop, r"turns beside .* took"),
        (
            "trio",
            "other-tasks-run-beside-informational-replies",
            HoldsUpTheLoop,
            r"turns beside .* took",
        ),
        ("asyncio", "whole-reply", CancelsSomebodyElse, "a cancellation came out of nowhere"),
        ("asyncio", "a-cancelled-close-can-be-repeated", IsClosedHalfway, "left after a cancel"),
        ("trio", "a-cancelled-close-can-be-repeated", IsClosedHalfway, "left after a cancel"),
    ],
)
def test_a_broken_async_transport_is_caught(
    backend: str, name: str, toy: Any, finding: str
) -> None:
    make = partial(HurriedAsyncRunner, toy, loopback_site, backend)
    found = finding_of(make, CHECKS[name], finding)
    assert isinstance(found, CheckFailed)
    assert re.search(finding, str(found)), found

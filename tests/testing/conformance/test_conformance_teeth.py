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
    ForgetsACancelledBody,
    GoesOnInTheBackground,
    HoldsUpTheLoop,
    IsClosedHalfway,
    LosesItsPlace,
    Shielded,
    SleepsInItsReads,
    Swallowing,
)
from tests.harness.testing.broken_transports import (
    CHECKS,
    AddsFields,
    AsksBeforeItRefuses,
    BoundsOneAlone,
    BoundsTheBody,
    ConnectsAnewAfterItsClose,
    CountsOpenBodies,
    EndsWhenItIsClosed,
    FollowsRedirects,
    ForgetsTheEnd,
    GathersWhileThereIsMore,
    HangsAfterASignal,
    HangsInACondition,
    HidesTheCause,
    HurriedAsyncRunner,
    HurriedSyncRunner,
    IgnoresItsOptions,
    IgnoresTheLimitOfAReply,
    ImpatientAndVague,
    ImpatientAndWrong,
    IsClosedOnce,
    JoinsRepeatedFields,
    KeepsCookies,
    KeepsTheRequest,
    KeepsTheRequestInACause,
    LeaksTheLibrarysExceptions,
    LooksAtNoHost,
    LosesItsPlaceToASignal,
    LosesRepeatedFields,
    LosesWhatCameBeforeTheQuiet,
    MixesUpItsCallers,
    NamesItsFields,
    NeverLetsGo,
    NeverLetsGoOfTls,
    NeverSleeps,
    RaisesForStatus,
    ReadsAhead,
    ReadsOnAfterItsTime,
    ReadsOnWhileItIsQuiet,
    SaysNotSentAlways,
    SaysTheSamePhaseAlways,
    SendsBeforeItLooks,
    SendsPasswords,
    ShowsNoCertificate,
    TakesABreakBetweenChunksForTheEnd,
    TakesABreakForTheEnd,
    TakesAClosedCallForDone,
    TakesAPieceForTheBody,
    TakesAWaitForACall,
    TakesQuietForABreak,
    TakesQuietForTheEnd,
    TakesQuietOverTlsForTheEnd,
    TakesTwiceTheTime,
    TakesZeroForNoLimit,
    TriesAgain,
    TrustsEveryone,
    finding_of,
    outcome,
)
from tests.harness.testing.first_drafts import (
    KeepsDeadConnections,
    LeavesConnectionsBehind,
    PlainRequests,
    ReadsByHand,
)

BROKEN = [
    ("pieces-come-as-they-are-sent", GathersWhileThereIsMore, "had not ended"),
    ("replies-without-a-body", ReadsByHand, "timed out"),
    ("reply-304-with-a-length", ReadsByHand, "timed out"),
    ("twenty-megabytes", ReadsByHand, "timed out"),
    ("twenty-megabytes", TakesAPieceForTheBody, "the bytes read in pieces differ"),
    ("a-reply-beyond-its-limit", IgnoresTheLimitOfAReply, "`send` returned 20000000"),
    ("counted-body", ReadsByHand, "the response was b'h', not b'hello world'"),
    ("chunks-with-extensions-and-trailers", ReadsByHand, "invalid literal for int.* b'6;x=y"),
    ("body-until-the-connection-ends", ReadsByHand, "the response was b'', not b'hello world'"),
    ("ninety-header-lines", ReadsByHand, "lost or changed: X-0, X-1"),
    ("a-header-line-of-60000-bytes", ReadsByHand, "lost or changed: X-Long"),
    ("a-compressed-body", ReadsByHand, r"the body was b'\\x1f\\x8b"),
    ("a-compressed-body", PlainRequests, "Content-Encoding was not removed"),
    ("http-1-0-reply", ReadsByHand, "the connection was used again"),
    ("quiet-body", TakesZeroForNoLimit, "had not ended"),
    ("quiet-within-a-chunk-header", LosesWhatCameBeforeTheQuiet, "the body was b'ello'"),
    ("early-close", NeverLetsGoOfTls, "had not closed its connection"),
    ("bounded-connections", CountsOpenBodies, "no place came free"),
    ("a-last-chunk-cut-short", TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-body-cut-off-under-tls", TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-failed-handshake", SaysTheSamePhaseAlways, r", not \*not sent\*"),
    ("a-request-sent-in-part", SaysNotSentAlways, r"is \*not sent\*, not \*maybe processed\*"),
    ("reset-within-the-head", SaysNotSentAlways, r"is \*not sent\*, not"),
    ("garbage-instead-of-a-reply", LeaksTheLibrarysExceptions, "it is not HTTP"),
    ("an-endless-header-line", LeaksTheLibrarysExceptions, "not TransportFailure"),
    ("clock", NeverSleeps, r"a sleep of 0\.05 s took"),
    ("connect-timeout", TakesTwiceTheTime, "had not ended"),
    ("a-failed-handshake", TakesTwiceTheTime, "had not ended"),
    ("a-request-sent-in-part", TakesTwiceTheTime, "had not ended"),
    ("call-timeout", TakesTwiceTheTime, "had not ended"),
    ("a-body-that-dribbles", PlainRequests, "had not ended"),
    ("an-open-body-outlives-the-limit", BoundsTheBody, "closed"),
    ("verify-chooses-the-authorities", IgnoresItsOptions, "certificate verify failed"),
    ("a-client-certificate-is-presented", ShowsNoCertificate, "(?i)cert.* required|reset|pipe"),
    ("a-truncated-body", TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-truncated-body", TakesABreakBetweenChunksForTheEnd, "the call returned"),
    ("reset-within-the-body", TakesABreakForTheEnd, "the call returned b''"),
    ("quiet-body", TakesQuietForTheEnd, "the end, although the body goes on"),
    ("quiet-body", ImpatientAndWrong, "the end, although the body goes on"),
    ("quiet-body", ImpatientAndVague, r"the phase of a quiet read was \*maybe processed"),
    ("quiet-body", TakesQuietForABreak, "a quiet read failed: read timed out"),
    ("quiet-within-a-chunk", LosesWhatCameBeforeTheQuiet, "the body was b'he"),
    ("quiet-body", TakesQuietOverTlsForTheEnd, "the end, although"),
    ("close-while-reading", NeverLetsGo, "had not ended after 0.5 s"),
    ("early-close", NeverLetsGo, "had not closed its connection"),
    ("close-while-reading", EndsWhenItIsClosed, "the call returned"),
    ("pieces-come-as-they-are-sent", ForgetsTheEnd, "the body was read"),
    ("no-redirect-is-followed", FollowsRedirects, "the redirect was followed"),
    ("the-request-goes-out-as-it-is", KeepsCookies, "a cookie was sent back"),
    ("the-request-goes-out-as-it-is", SendsPasswords, "the password was sent in Authorization"),
    ("refused-connection", HidesTheCause, "the library's own exception is not chained"),
    ("refused-connection", SaysTheSamePhaseAlways, r"is \*maybe processed\*, not \*not sent\*"),
    ("no-reply", SaysNotSentAlways, r"is \*not sent\*, not \*maybe processed\*"),
    ("a-truncated-body", SaysTheSamePhaseAlways, r", not \*reply broken\*"),
    ("no-reply", LeaksTheLibrarysExceptions, "not TransportFailure"),
    ("nothing-is-sent-twice", TriesAgain, "reached the server 2 times"),
    ("use-after-close", AsksBeforeItRefuses, "a request was sent after the close"),
    ("use-after-close", ConnectsAnewAfterItsClose, "a call after the close returned"),
    ("use-after-close", IsClosedOnce, "this transport is closed"),
    ("many-at-once", MixesUpItsCallers, "got b'"),
    ("whole-reply", LosesRepeatedFields, "of a field that occurs twice, the values were 'b'"),
    ("whole-reply", RaisesForStatus, "400"),
    ("the-request-goes-out-as-it-is", ReadsByHand, "the target was"),
    ("the-request-goes-out-as-it-is", AddsFields, "added: cache-control"),
    ("call-timeout", ReadsOnAfterItsTime, "had not ended"),
    ("a-stranger-is-refused", SendsBeforeItLooks, "the request was sent"),
    ("a-stranger-is-refused", LooksAtNoHost, "the call returned"),
    ("a-stranger-is-refused", TrustsEveryone, "the call returned"),
    ("bounded-connections", BoundsOneAlone, "calls were in flight at the same time"),
    ("bounded-connections", TakesAWaitForACall, r", not \*not sent\*"),
    ("stale-bytes-after-cpu-work", KeepsDeadConnections, "the response was b'unasked'|Broken pipe"),
    ("a-garbled-status-line", PlainRequests, "the call returned"),
    ("a-garbled-length", PlainRequests, "the call returned"),
    ("informational-replies", PlainRequests, "the response was <Response 103"),
    ("a-head-that-dribbles", PlainRequests, "had not ended"),
    ("truncated-coded-body", PlainRequests, ""),
    ("stale-connection", KeepsDeadConnections, "Broken pipe|reset|closed"),
    ("connection-close", KeepsDeadConnections, ""),
    ("unsolicited-response", KeepsDeadConnections, "the response was b'unasked'"),
    ("close-wakes-a-call", TakesAClosedCallForDone, "returned a truncated response"),
    ("close-while-reading", TakesAClosedCallForDone, "returned a truncated response"),
    ("a-flood-of-small-chunks", PlainRequests, "had not ended"),
    ("a-flood-of-trailers", PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-empty-gzip-members", PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-small-gzip-members", PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-informational-replies", PlainRequests, "the call returned|had not ended"),
    ("a-stream-flooded-with-empty-gzip-members", ReadsOnWhileItIsQuiet, "had not ended"),
    ("a-stream-flooded-with-small-gzip-members", GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-small-chunks", GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-trailers", PlainRequests, "had not ended"),
    ("complete-chunks-before-failure", ReadsAhead, "the response was truncated|chunk"),
    ("an-interrupted-call-loses-nothing", LosesItsPlaceToASignal, "no place came free"),
    ("an-interrupted-call-loses-nothing", HangsAfterASignal, "or the next one, hangs"),
    ("an-interrupted-stream-loses-nothing", LosesItsPlaceToASignal, "no place came free"),
    ("no-secret-is-reachable-from-a-failure", KeepsTheRequest, r"args.*request.*headers"),
    ("no-secret-is-reachable-from-a-failure", KeepsTheRequestInACause, "__cause__.*request"),
    ("no-secret-is-reachable-from-a-failure", NamesItsFields, "the key is in fields in send"),
    ("close-frees-every-connection", LeavesConnectionsBehind, "1 connections were still open"),
]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("name", "toy", "finding"), BROKEN, ids=[f"{toy.__name__}-{name}" for name, toy, _ in BROKEN]
)
def test_a_broken_transport_is_caught(name: str, toy: Any, finding: str) -> None:
    hurried = re.search("had not (ended|closed)|still", finding)
    runner = HurriedSyncRunner if hurried else SyncRunner
    found = finding_of(lambda: runner(toy, loopback_site), CHECKS[name], finding)
    assert found is not None
    assert not isinstance(found, NotOffered)
    assert re.search(finding, str(found)), found


def test_repeated_fields_may_be_joined() -> None:
    """RFC 9110, 5.3: the values mean the same, as `fetch` returns them."""
    assert outcome(SyncRunner(JoinsRepeatedFields, loopback_site), CHECKS["whole-reply"]) is None


def test_a_lock_that_an_interrupt_left_taken_does_not_hold_up_the_end_of_the_interpreter() -> None:
    made = HangsInACondition()
    runner = SyncRunner(lambda: made, loopback_site)
    runner.exhaustive = True
    found = outcome(runner, CHECKS["an-interrupted-call-loses-nothing"])
    assert re.search(r"threading\.py.*or the next one, hangs", str(found)), found
    with made.place:
        pass


CANCELLED = [
    ("cancelled-before-the-head", Shielded, "the cancelled call continued"),
    ("cancelled-before-the-head", Swallowing, "the cancellation was swallowed"),
    ("cancelled-before-the-head", LosesItsPlace, "a job had not ended"),
    ("a-cancelled-close-can-be-repeated", IsClosedHalfway, "open after a cancellation"),
]
_FLOOD = "other-tasks-run-beside-"
BROKEN_ASYNC = [
    *((backend, *row) for row in CANCELLED for backend in ("asyncio", "trio")),
    *(
        ("asyncio", name, GoesOnInTheBackground, "had not closed its connection")
        for name in ("cancelled-in-any-phase",)
    ),
    ("asyncio", "quiet-body", SleepsInItsReads, "of patience took"),
    ("trio", "a-stream-flooded-with-small-chunks", SleepsInItsReads, "of patience took"),
    ("trio", "cancelled-read", ForgetsACancelledBody, "had not closed its connection"),
    ("asyncio", "whole-reply", CancelsSomebodyElse, "a cancellation that nobody had requested"),
    ("asyncio", _FLOOD + "empty-gzip-members", HoldsUpTheLoop, r"turns beside .* took"),
    ("asyncio", _FLOOD + "small-gzip-members", HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "small-chunks", HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "trailers", HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "informational-replies", HoldsUpTheLoop, r"turns beside .* took"),
]


@pytest.mark.parametrize(
    ("backend", "name", "toy", "finding"),
    BROKEN_ASYNC,
    ids=[f"{toy.__name__}-{backend}-{name}" for backend, name, toy, _ in BROKEN_ASYNC],
)
def test_a_broken_async_transport_is_caught(
    backend: str, name: str, toy: Any, finding: str
) -> None:
    make = partial(HurriedAsyncRunner, toy, loopback_site, backend)
    found = finding_of(make, CHECKS[name], finding)
    assert isinstance(found, CheckFailed)
    assert re.search(finding, str(found)), found


def test_every_check_catches_a_broken_transport() -> None:
    proven = {name for name, _, _ in BROKEN} | {name for _, name, _, _ in BROKEN_ASYNC}
    assert proven == set(CHECKS)

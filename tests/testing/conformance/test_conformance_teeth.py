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
from tests.harness.testing import broken_async_transports as async_toys
from tests.harness.testing import broken_transports as toys
from tests.harness.testing import first_drafts as drafts
from tests.harness.testing.broken_transports import CHECKS, finding_of, outcome

BROKEN = [
    ("pieces-come-as-they-are-sent", toys.GathersWhileThereIsMore, "had not ended"),
    ("replies-without-a-body", drafts.ReadsByHand, "timed out"),
    ("reply-304-with-a-length", drafts.ReadsByHand, "timed out"),
    ("twenty-megabytes", drafts.ReadsByHand, "timed out"),
    ("twenty-megabytes", toys.TakesAPieceForTheBody, "the bytes read in pieces differ"),
    ("a-reply-beyond-its-limit", toys.IgnoresTheLimitOfAReply, "`send` returned 20000000"),
    ("counted-body", drafts.ReadsByHand, "the response was b'h', not b'hello world'"),
    (
        "chunks-with-extensions-and-trailers",
        drafts.ReadsByHand,
        "invalid literal for int.* b'6;x=y",
    ),
    (
        "body-until-the-connection-ends",
        drafts.ReadsByHand,
        "the response was b'', not b'hello world'",
    ),
    ("ninety-header-lines", drafts.ReadsByHand, "lost or changed: X-0, X-1"),
    ("a-header-line-of-60000-bytes", drafts.ReadsByHand, "lost or changed: X-Long"),
    ("a-compressed-body", drafts.ReadsByHand, r"the body was b'\\x1f\\x8b"),
    ("a-compressed-body", drafts.PlainRequests, "Content-Encoding was not removed"),
    ("http-1-0-reply", drafts.ReadsByHand, "the connection was used again"),
    ("quiet-body", toys.TakesZeroForNoLimit, "had not ended"),
    ("quiet-within-a-chunk-header", toys.LosesWhatCameBeforeTheQuiet, "the body was b'ello'"),
    ("early-close", toys.NeverLetsGoOfTls, "had not closed its connection"),
    ("bounded-connections", toys.CountsOpenBodies, "no place came free"),
    ("a-last-chunk-cut-short", toys.TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-body-cut-off-under-tls", toys.TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-failed-handshake", toys.SaysTheSamePhaseAlways, r", not \*not sent\*"),
    ("a-request-sent-in-part", toys.SaysNotSentAlways, r"is \*not sent\*, not \*maybe processed\*"),
    ("reset-within-the-head", toys.SaysNotSentAlways, r"is \*not sent\*, not"),
    ("garbage-instead-of-a-reply", toys.LeaksTheLibrarysExceptions, "it is not HTTP"),
    ("an-endless-header-line", toys.LeaksTheLibrarysExceptions, "not TransportFailure"),
    ("clock", toys.NeverSleeps, r"a sleep of 0\.05 s took"),
    ("connect-timeout", toys.OverrunsItsTime, "had not ended"),
    ("a-failed-handshake", toys.OverrunsItsTime, "had not ended"),
    ("a-request-sent-in-part", toys.OverrunsItsTime, "had not ended"),
    ("call-timeout", toys.OverrunsItsTime, "had not ended"),
    ("a-body-that-dribbles", drafts.PlainRequests, "had not ended"),
    ("an-open-body-outlives-the-limit", toys.BoundsTheBody, "closed"),
    ("verify-chooses-the-authorities", toys.IgnoresItsOptions, "certificate verify failed"),
    (
        "a-client-certificate-is-presented",
        toys.ShowsNoCertificate,
        "(?i)cert.* required|reset|pipe",
    ),
    ("a-truncated-body", toys.TakesABreakForTheEnd, "the call returned b'hello'"),
    ("a-truncated-body", toys.TakesABreakBetweenChunksForTheEnd, "the call returned"),
    ("reset-within-the-body", toys.TakesABreakForTheEnd, "the call returned b''"),
    ("quiet-body", toys.TakesQuietForTheEnd, "the end, although the body goes on"),
    ("quiet-body", toys.ImpatientAndWrong, "the end, although the body goes on"),
    ("quiet-body", toys.ImpatientAndVague, r"the phase of a quiet read was \*maybe processed"),
    ("quiet-body", toys.TakesQuietForABreak, "a quiet read failed: read timed out"),
    ("quiet-within-a-chunk", toys.LosesWhatCameBeforeTheQuiet, "the body was b'he"),
    ("quiet-body", toys.TakesQuietOverTlsForTheEnd, "the end, although"),
    ("close-while-reading", toys.NeverLetsGo, "had not ended after 0.5 s"),
    ("early-close", toys.NeverLetsGo, "had not closed its connection"),
    ("close-while-reading", toys.EndsWhenItIsClosed, "the call returned"),
    ("close-while-reading", drafts.LeavesConnectionsBehind, "had not ended after 0.5 s"),
    ("pieces-come-as-they-are-sent", toys.ForgetsTheEnd, "the body was read"),
    ("no-redirect-is-followed", toys.FollowsRedirects, "the redirect was followed"),
    ("the-request-goes-out-as-it-is", toys.KeepsCookies, "a cookie was sent back"),
    (
        "the-request-goes-out-as-it-is",
        toys.SendsPasswords,
        "the password was sent in Authorization",
    ),
    ("refused-connection", toys.HidesTheCause, "the library's own exception is not chained"),
    (
        "refused-connection",
        toys.SaysTheSamePhaseAlways,
        r"is \*maybe processed\*, not \*not sent\*",
    ),
    ("no-reply", toys.SaysNotSentAlways, r"is \*not sent\*, not \*maybe processed\*"),
    ("a-truncated-body", toys.SaysTheSamePhaseAlways, r", not \*reply broken\*"),
    ("no-reply", toys.LeaksTheLibrarysExceptions, "not TransportFailure"),
    ("nothing-is-sent-twice", toys.TriesAgain, "reached the server 2 times"),
    ("use-after-close", toys.AsksBeforeItRefuses, "a request was sent after the close"),
    ("use-after-close", toys.ConnectsAnewAfterItsClose, "a call after the close returned"),
    ("use-after-close", toys.IsClosedOnce, "this transport is closed"),
    ("many-at-once", toys.MixesUpItsCallers, "got b'"),
    ("whole-reply", toys.LosesRepeatedFields, "of a field that occurs twice, the values were 'b'"),
    ("whole-reply", toys.RaisesForStatus, "400"),
    ("the-request-goes-out-as-it-is", drafts.ReadsByHand, "the target was"),
    ("the-request-goes-out-as-it-is", toys.AddsFields, "added: cache-control"),
    ("call-timeout", toys.ReadsOnAfterItsTime, "had not ended"),
    ("a-stranger-is-refused", toys.SendsBeforeItLooks, "the request was sent"),
    ("a-stranger-is-refused", toys.LooksAtNoHost, "the call returned"),
    ("a-stranger-is-refused", toys.TrustsEveryone, "the call returned"),
    ("bounded-connections", toys.BoundsOneAlone, "calls were in flight at the same time"),
    ("bounded-connections", toys.TakesAWaitForACall, r", not \*not sent\*"),
    (
        "stale-bytes-after-cpu-work",
        drafts.KeepsDeadConnections,
        "the response was b'unasked'|Broken pipe",
    ),
    ("a-garbled-status-line", drafts.PlainRequests, "the call returned"),
    ("a-garbled-length", drafts.PlainRequests, "the call returned"),
    ("informational-replies", drafts.PlainRequests, "the response was <Response 103"),
    ("a-head-that-dribbles", drafts.PlainRequests, "had not ended"),
    ("truncated-coded-body", drafts.PlainRequests, ""),
    ("stale-connection", drafts.KeepsDeadConnections, "Broken pipe|reset|closed"),
    ("connection-close", drafts.KeepsDeadConnections, ""),
    ("unsolicited-response", drafts.KeepsDeadConnections, "the response was b'unasked'"),
    ("close-wakes-a-call", toys.TakesAClosedCallForDone, "returned a truncated response"),
    ("close-while-reading", toys.TakesAClosedCallForDone, "returned a truncated response"),
    ("a-flood-of-small-chunks", drafts.PlainRequests, "had not ended"),
    ("a-flood-of-trailers", drafts.PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-empty-gzip-members", drafts.PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-small-gzip-members", drafts.PlainRequests, "the call returned|had not ended"),
    ("a-flood-of-informational-replies", drafts.PlainRequests, "the call returned|had not ended"),
    ("a-stream-flooded-with-empty-gzip-members", toys.ReadsOnWhileItIsQuiet, "had not ended"),
    ("a-stream-flooded-with-small-gzip-members", toys.GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-small-chunks", toys.GathersWhileThereIsMore, "had not ended"),
    ("a-stream-flooded-with-trailers", drafts.PlainRequests, "had not ended"),
    ("complete-chunks-before-failure", toys.ReadsAhead, "the response was truncated|chunk"),
    ("an-interrupted-call-loses-nothing", toys.LosesItsPlaceToASignal, "no place came free"),
    ("an-interrupted-call-loses-nothing", toys.HangsAfterASignal, "or the next one, hangs"),
    ("an-interrupted-stream-loses-nothing", toys.LosesItsPlaceToASignal, "no place came free"),
    ("no-secret-is-reachable-from-a-failure", toys.KeepsTheRequest, r"args.*request.*headers"),
    ("no-secret-is-reachable-from-a-failure", toys.KeepsTheRequestInACause, "__cause__.*request"),
    ("no-secret-is-reachable-from-a-failure", toys.NamesItsFields, "the key is in fields in send"),
    (
        "close-frees-every-connection",
        drafts.LeavesConnectionsBehind,
        "1 connections were still open",
    ),
]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("name", "toy", "finding"), BROKEN, ids=[f"{toy.__name__}-{name}" for name, toy, _ in BROKEN]
)
def test_a_broken_transport_is_caught(name: str, toy: Any, finding: str) -> None:
    hurried = re.search("had not (ended|closed)|still", finding)
    runner = toys.HurriedSyncRunner if hurried else SyncRunner
    found = finding_of(lambda: runner(toy, loopback_site), CHECKS[name], finding)
    assert found is not None
    assert not isinstance(found, NotOffered)
    assert re.search(finding, str(found)), found


def test_repeated_fields_may_be_joined() -> None:
    """RFC 9110, 5.3: the values mean the same, as `fetch` returns them."""
    assert (
        outcome(SyncRunner(toys.JoinsRepeatedFields, loopback_site), CHECKS["whole-reply"]) is None
    )


def test_a_lock_that_an_interrupt_left_taken_does_not_hold_up_the_end_of_the_interpreter() -> None:
    made = toys.HangsInACondition()
    runner = SyncRunner(lambda: made, loopback_site)
    runner.exhaustive = True
    found = outcome(runner, CHECKS["an-interrupted-call-loses-nothing"])
    assert re.search(r"threading\.py.*or the next one, hangs", str(found)), found
    with made.place:
        pass


CANCELLED = [
    ("cancelled-in-any-phase", async_toys.Shielded, "the cancelled call continued"),
    ("cancelled-in-any-phase", async_toys.Swallowing, "the cancellation was swallowed"),
    ("cancelled-in-any-phase", async_toys.LosesItsPlace, "a job had not ended"),
    ("a-cancelled-close-can-be-repeated", async_toys.IsClosedHalfway, "open after a cancellation"),
]
_FLOOD = "other-tasks-run-beside-"
_LATE = "of patience took|had not ended"
"""A busy machine may use up the time before the read begins to hold up the loop."""
BROKEN_ASYNC = [
    *((backend, *row) for row in CANCELLED for backend in ("asyncio", "trio")),
    (
        "asyncio",
        "cancelled-in-any-phase",
        async_toys.GoesOnInTheBackground,
        "had not closed its connection",
    ),
    ("asyncio", "quiet-body", async_toys.SleepsInItsReads, _LATE),
    ("trio", "a-stream-flooded-with-small-chunks", async_toys.SleepsInItsReads, _LATE),
    ("trio", "cancelled-read", async_toys.ForgetsACancelledBody, "had not closed its connection"),
    (
        "asyncio",
        "whole-reply",
        async_toys.CancelsSomebodyElse,
        "a cancellation that nobody had requested",
    ),
    ("asyncio", _FLOOD + "empty-gzip-members", async_toys.HoldsUpTheLoop, r"turns beside .* took"),
    ("asyncio", _FLOOD + "small-gzip-members", async_toys.HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "small-chunks", async_toys.HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "trailers", async_toys.HoldsUpTheLoop, r"turns beside .* took"),
    ("trio", _FLOOD + "informational-replies", async_toys.HoldsUpTheLoop, r"turns beside .* took"),
]


@pytest.mark.parametrize(
    ("backend", "name", "toy", "finding"),
    BROKEN_ASYNC,
    ids=[f"{toy.__name__}-{backend}-{name}" for backend, name, toy, _ in BROKEN_ASYNC],
)
def test_a_broken_async_transport_is_caught(
    backend: str, name: str, toy: Any, finding: str
) -> None:
    make = partial(toys.HurriedAsyncRunner, toy, loopback_site, backend)
    found = finding_of(make, CHECKS[name], finding)
    assert isinstance(found, CheckFailed)
    assert re.search(finding, str(found)), found


def test_every_check_catches_a_broken_transport() -> None:
    proven = {name for name, _, _ in BROKEN} | {name for _, name, _, _ in BROKEN_ASYNC}
    assert proven == set(CHECKS)

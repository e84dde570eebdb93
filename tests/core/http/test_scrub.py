"""A server that repeats the secrets it was sent does not get them into what is shown."""

from __future__ import annotations

import base64
import json
import pickle
import re
import traceback
from dataclasses import replace
from typing import Any, Callable, Dict, Optional
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowmaestro_core.actions import Fail, Wait
from flowmaestro_core.defaults import MAX_REPLY_SIZE
from flowmaestro_core.errors import AuthenticationError, FlowMaestroError
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.http.scrub import LONGEST_TEXT, SecretScrubber
from flowmaestro_core.machines import machine_for
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.resources.webhooks import Webhooks
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.streams.event_stream import EventStreamMachine
from tests.harness.core.calls import GET, opening, started
from tests.harness.core.followed import THREAD, streaming
from tests.harness.core.stepping import Report, Stepper, a_context, an_envelope, an_error

KEY = "fm_live_key"  # the key of `a_context`
OWN = "tell/nobody"
ECHOES = SecretScrubber(
    (("X-API-Key", KEY), ("Authorization", f"Bearer {KEY}"), ("Accept", "text/html"))
)
OPTIONS = {"headers": {"X-Own-Token": OWN}}


def everywhere(error: BaseException) -> str:
    """All that an error shows of itself."""
    shown = "".join(traceback.format_exception(type(error), error, None))
    return f"{shown} {error!r} {vars(error)!r} {pickle.dumps(error)!r}"


def assert_hushed(error: BaseException) -> None:
    assert KEY not in everywhere(error)
    assert OWN not in everywhere(error)


def quote_escaped(text: str) -> str:
    """As `repr` escapes a text that has both kinds of quotes."""
    return text.replace("'", r"\'")


def all_escaped(text: str) -> str:
    data = text.encode("utf-16-be")
    return "".join(f"\\u{data[at]:02X}{data[at + 1]:02X}" for at in range(0, len(data), 2))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"no such key: {KEY}; you sent 'Bearer {KEY}'", "no such key: ***; you sent '***'"),
        (f"{KEY}{KEY}", "******"),
        (f"in JSON {all_escaped(KEY)}, fm\\u005flive_key", "in JSON ***, ***"),
        ("fm_live_ke, FM_LIVE_KEY, text/html", "fm_live_ke, FM_LIVE_KEY, text/html"),
        ("a \\ and no secret", "a \\ and no secret"),
        ("", ""),
    ],
)
def test_echoes_are_blotted_out(said: str, shown: str) -> None:
    assert ECHOES.text(said) == shown


def test_without_secrets_any_more_it_changes_nothing() -> None:
    secrets = [OWN]
    scrubber = SecretScrubber(more=lambda: secrets)
    assert scrubber.text(OWN) == "***"
    secrets.clear()
    assert scrubber.text("no secret") == "no secret"


def test_the_credentials_behind_a_scheme_are_known_by_themselves() -> None:
    scrubber = SecretScrubber((("Authorization", "Basic c2VjcmV0OnB3"),))
    assert scrubber.text("bad c2VjcmV0OnB3, Basic c2VjcmV0OnB3") == "bad ***, ***"


def test_short_values_may_be_any_word() -> None:
    assert SecretScrubber(more=lambda: ["pw"]).text("a pw is a pw") == "a *** is a ***"
    assert (
        SecretScrubber((("X-Token", "token"),)).text("a token is a token") == "a token is a token"
    )


@given(
    st.text(st.characters(min_codepoint=1, blacklist_categories=["Cs"]), min_size=8),
    st.sampled_from(
        [lambda text: text, lambda text: text.replace("/", r"\/"), quote_escaped, all_escaped]
    ),
    st.booleans(),
)
@example("key-'quoted'", quote_escaped, False)
@example("key-\U0001f511", all_escaped, False)  # two UTF-16 code units
def test_a_secret_is_recognised_however_json_repr_and_urls_escape_it(
    secret: str, change: Callable[[str], str], twice: bool
) -> None:
    scrubber = SecretScrubber(more=lambda: [secret])
    written = change(json.dumps(secret)[1:-1]) if change is not all_escaped else change(secret)
    if twice:
        written = json.dumps(written)[1:-1]
    if not re.search("[\x01-\x1f]", secret):  # `\n` and its like are no more than one character
        assert scrubber.text(f"a{written}b") == "a***b"
    assert scrubber.text(f"a{quote(secret, safe='')}b") == "a***b"
    assert scrubber.text(f"a{quote(quote(secret, safe=''), safe='')}b") == "a***b"
    assert scrubber.text(f"a{secret}b") == "a***b"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "ada:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_recognised_in_base64(before: str, encode: Callable[[bytes], bytes]) -> None:
    secret = "my~own/kind?of>key"
    shown = SecretScrubber(more=lambda: [secret]).text(
        encode(f"{before}{secret}{before}".encode()).decode()
    )
    head, stars, tail = shown.partition("***")
    assert stars
    assert max(len(head), len(tail)) <= 4 * len(before) // 3 + 4, "no more than its neighbours"


@given(st.integers(0, 3000), st.integers(1, 40))
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(place: int, times: int) -> None:
    long = "fm_live_" + "".join(map(chr, range(0x41, 0x5B)))
    scrubber = SecretScrubber((("X-API-Key", long),))
    text = "-" * place + all_escaped(long) * times + long * 300
    assert re.fullmatch(r"-*(\*{1,3})*", scrubber.text(text))
    assert re.fullmatch(rb"-*(\*{1,3})*", scrubber.beginning(text.encode(), 2000))


@pytest.mark.parametrize(
    "piece", [b"\\", b"fm_live_", b"\\u0066", b"%66", b"[]", b'{"a":"\\u0041"},']
)
def test_redaction_takes_time_linear_to_the_text(piece: bytes, takes_linear_time: Any) -> None:
    """17 s of CPU went into a body of 976 KiB when a pattern was made for each string."""
    scrubber = SecretScrubber([("X-API-Key", "fm_live_" + "k" * 40), ("X-Token", "\\" * 40)])
    assert scrubber.pattern is scrubber.pattern

    def scrub(size: int) -> None:
        data = piece * (size // len(piece))
        assert len(scrubber.beginning(data, len(data))) <= len(data)

    takes_linear_time(scrub, 1_000_000)


def test_a_long_error_body_is_read_no_further_than_it_is_shown() -> None:
    call = started(GET)
    call.replies(400, raw=json.dumps([KEY] * 100_000).encode())
    assert len(call.error.details) == 500
    assert len(call.error.message) < 200
    assert_hushed(call.error)


@given(st.text())
def test_a_line_is_one_line(text: str) -> None:
    line = ECHOES.line(text * 100)
    assert line.isprintable()
    assert len(line) <= LONGEST_TEXT


@pytest.mark.parametrize("html", [False, True])
def test_error_response_is_redacted(html: bool) -> None:
    call = started(GET, OPTIONS)
    said = f"the key {call.sent[0].headers['x-api-key']} with {OWN} is unknown"
    headers = {"X-Request-ID": f"{KEY}\x1b"}
    if html:
        call.replies(401, headers=headers, raw=f"<html><p>{said}".encode())
    else:
        call.replies(
            401, {"error": {"code": KEY, "message": said, "details": {KEY: [OWN]}}}, headers
        )
        assert call.error.code == "***"
        assert call.error.details == {"***": ["***"]}
    assert isinstance(call.error, AuthenticationError)
    assert "the key *** with *** is unknown" in call.error.message
    assert call.error.request_id == r"***\x1b"
    assert_hushed(call.error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "x", "message": f"bad key {KEY}"}},
        {"error": f"bad key {KEY}"},
        {"oops": f"bad key {KEY}"},
        {"meta": {"request_id": KEY}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_escaped_secret_in_error_response_is_redacted(body: Dict[str, Any]) -> None:
    call = started(GET)
    raw = json.dumps(body).replace(KEY, all_escaped(KEY)).encode()
    call.replies(400, raw=raw)
    assert "***" in str(call.error)
    assert_hushed(call.error)
    assert all_escaped(KEY) not in everywhere(call.error)


@pytest.mark.parametrize("change", [False, True])
def test_error_of_refused_webhook_is_redacted(change: bool) -> None:
    url = "https://user:pass-word@hooks.test/in?plain=visible-1&token=query-word#end"
    headers = {"Authorization": "Bearer header-word", "X-Plain": "visible-2"}
    if change:
        call = started(Webhooks.update("wh_1", url=url, headers=headers), OPTIONS)
    else:
        call = started(Webhooks.create("n", url, [], headers=headers), OPTIONS)
    sent = call.sent[0].body.decode()
    call.replies(422, {"error": {"code": "x", "message": f"bad {sent}", "details": [sent, KEY]}})
    assert_hushed(call.error)
    assert "-word" not in everywhere(call.error)
    assert everywhere(call.error).count("visible-") >= 4


def test_a_body_that_is_no_json_stays_out_of_the_error() -> None:
    for before in (b'{"secret": "', b"", b'"\xff', b"{} "):
        call = started(Webhooks.create("n", "https://h", []))
        call.replies(200, raw=before + OWN.encode())
        assert call.error.code == "invalid_response"
        assert isinstance(call.error.__cause__, ValueError)
        assert_hushed(call.error)
        assert OWN not in everywhere(call.error.__cause__)


def test_a_text_that_is_cut_off_in_the_middle_of_an_echo() -> None:
    call = started(GET)
    call.replies(400, raw=(b"x" * 495 + KEY.encode()) * 3)
    assert call.error.details == "x" * 495 + "***" + "xx"


def test_texts_of_error_response_are_bounded() -> None:
    call = started(GET)
    call.replies(400, an_error("c" * 5000, "m" * 5000), {"X-Request-ID": "r" * 5000})
    error = call.error
    assert {len(it) for it in (error.message, error.code, error.request_id)} == {LONGEST_TEXT}


def test_error_of_invalid_response_is_redacted() -> None:
    headers = {"X-Request-ID": KEY, "Location": "https://elsewhere.test"}
    for status, raw in ((200, b"{bad"), (200, b"[]"), (307, b"")):
        call = started(GET)
        call.replies(status, headers=headers, raw=raw)
        assert call.error.request_id == "***"
        assert_hushed(call.error)
    stream = opening()
    stream.opens(content_type="text/plain", headers=headers)
    stream.receives(bytes(MAX_REPLY_SIZE + 1))
    stream.closes()
    assert stream.error.code == "reply_too_large"
    assert stream.error.request_id == "***"


def a_failure(message: str, quoted: Optional[str] = None) -> TransportFailure:
    """A failure as a transport raises it, because of what its library said."""
    failure = TransportFailure(Phase.REPLY_BROKEN, message, timed_out=True)
    if quoted is not None:
        failure.__cause__ = OSError("trouble")
        failure.__cause__.__context__ = ValueError(f"bad line: {quoted}")
    return failure


HARMLESS = a_failure("cut", "chunk header")
UNSHOWABLE = {
    "the text": a_failure(f"bad status line: {KEY}"),
    "a cause": a_failure("bad status line", KEY),
    "escapes": a_failure("bad status line: \x1b[31mEVIL\n"),
    "a long text": a_failure("x" * 60_000, "x" * 60_000),
}


def test_a_failure_that_repeats_nothing_is_the_cause() -> None:
    call = started(GET, {"max_retries": 0})
    call.report(Report("transport_failed", (HARMLESS,), 0.0))
    assert call.error.__cause__ is HARMLESS


@pytest.mark.parametrize("where", UNSHOWABLE)
def test_transport_failure_is_redacted(where: str) -> None:
    failure = UNSHOWABLE[where]
    call = started(GET, {"max_retries": 0})
    call.report(Report("transport_failed", (failure,), 0.0))
    cause = call.error.__cause__
    assert isinstance(cause, TransportFailure)
    assert (cause.phase, cause.timed_out) == (failure.phase, failure.timed_out)
    assert cause.__cause__ is None
    assert call.error.message == f"api.test: {cause.message} (reply broken)"
    assert cause.message.isprintable()
    assert len(cause.message) <= LONGEST_TEXT
    assert_hushed(call.error)


def test_cause_with_secret_is_dropped() -> None:
    for said, kept in ((f"bad id {KEY}", False), ("bad id", True)):
        error = FlowMaestroError("no usable id")
        error.__cause__ = ValueError(said)
        assert ECHOES.clean(error) is error
        assert (error.__cause__ is not None) is kept
        assert error.__suppress_context__


def test_redacted_failure_stays_permanent() -> None:
    failure = TransportFailure(Phase.NOT_SENT, f"bad name {KEY}", permanent=True)
    shown = ECHOES.showable(failure)
    assert KEY not in shown.message
    assert shown.permanent


def test_causes_in_a_circle() -> None:
    first, second = OSError("one"), OSError("two")
    first.__cause__, second.__context__ = second, first
    failure = TransportFailure(Phase.NOT_SENT, "cut")
    failure.__cause__ = first
    assert ECHOES.showable(failure) is failure


@pytest.mark.parametrize("where", UNSHOWABLE)
def test_error_of_lost_stream_is_redacted(where: str) -> None:
    context = replace(a_context(), stream_times=StreamTimes(reconnect_for=1.0))
    stream = Stepper(EventStreamMachine(THREAD, context, "token"), terminal=frozenset())
    stream.start()
    stream.opens(headers={"X-Request-ID": KEY})
    while not isinstance(stream.action, Fail):
        if isinstance(stream.action, Wait):
            stream.waits()
        else:
            stream.report(Report("transport_failed", (UNSHOWABLE[where],), 0.0))
    assert stream.error.request_id == "***"
    assert_hushed(stream.error)
    cause = stream.error
    while cause is not None:
        assert isinstance(cause, (FlowMaestroError, TransportFailure))
        cause = cause.__cause__ or cause.__context__


def test_error_of_missing_event_stream_is_redacted() -> None:
    stream = streaming()
    stream.start()
    stream.opens(content_type="application/json")
    stream.receives(json.dumps({"data": {}, "meta": {"request_id": KEY}}).encode())
    stream.ends()
    stream.replies(503)
    assert stream.error.request_id == "***"


def test_error_of_start_without_id_is_redacted() -> None:
    run = Stepper(machine_for(Workflows.run("wf_1"), a_context(), "token"))
    run.start()
    run.replies(202, an_envelope({}, meta={"request_id": KEY}))
    assert run.error.request_id == "***"


@pytest.mark.parametrize("streams", [True, False])
def test_error_of_streamed_message_is_redacted(streams: bool) -> None:
    message = Stepper(machine_for(Threads.send_message_stream("th_1", "hi"), a_context(), "token"))
    message.start()
    headers = {"X-Request-ID": KEY}
    if streams:
        message.opens(headers=headers)
    else:
        message.opens(content_type="application/json", headers=headers)
        message.receives(json.dumps(an_envelope({"status": "completed"}, meta={})).encode())
        message.ends()
    assert message.machine.request_id == "***"

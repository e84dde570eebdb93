"""What the conformance kit tells, of whom it asks what, and how a stranger runs it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import pytest
import requests

from flowmaestro.testing import (
    conformance,
)
from flowmaestro.testing.conformance import (
    AsyncTransportConformance,
    CheckFailed,
    NotOffered,
    TransportConformance,
    expectations,
    time_limits,
)
from flowmaestro.testing.conformance.check import Checks
from flowmaestro.testing.conformance.expectations import CANCELLATION, HOSTILE
from flowmaestro.testing.conformance.grid import grid
from flowmaestro.testing.conformance.runner import AsyncRunner, SyncRunner
from flowmaestro.testing.conformance.scripted_server import ScriptedServer, echo
from flowmaestro.testing.conformance.site import LiveReply, _play, loopback_site
from flowmaestro.testing.conformance.suite import all_checks
from flowmaestro_core.http.messages import Phase, Request, Response, TransportFailure
from flowmaestro_transports import AnyioTransport, RequestsTransport, SocketTransport
from tests.harness.missing import import_error_without
from tests.harness.patience import given_time
from tests.harness.testing.broken_transports import (
    CHECKS,
    HurriedSyncRunner,
    Impatient,
    TakesABreakForTheEnd,
    outcome,
)
from tests.slow import LONG_CHECKS

ROOT = Path(__file__).parents[3]


def suite(base: Any = TransportConformance, **attributes: Any) -> Any:
    """A class of tests as an author writes it, made."""
    return type("Suite", (base,), attributes)()


def not_offered(factory: Any, name: str) -> str:
    found = outcome(HurriedSyncRunner(factory, loopback_site), CHECKS[name])
    assert isinstance(found, NotOffered)
    return str(found)


class TestWhatIsNotOffered:
    def test_impatient_transport_skips_checks_of_patience(self) -> None:
        for name in ("quiet-body", "quiet-within-a-chunk"):
            assert not_offered(Impatient, name).startswith("patience: every quiet spell costs")

    def test_an_option_that_the_factory_does_not_take(self) -> None:
        name = "verify-chooses-the-authorities"
        assert not_offered(lambda: RequestsTransport(), name).startswith("verify=: users")
        assert "client_cert=: " in not_offered(
            lambda verify: SocketTransport(verify=verify), "a-client-certificate-is-presented"
        )

    def test_an_option_that_is_declined(self) -> None:
        def raising(**options: Any) -> Any:
            raise NotOffered("a bound on connections")

        found = not_offered(raising, "bounded-connections")
        assert found.startswith("a bound on connections: users cannot limit")

    def test_function_skips_checks_of_streams_and_time(self) -> None:
        assert not_offered(lambda: answer, "quiet-body").startswith("streams: ")
        assert not_offered(lambda: answer, "call-timeout").startswith("time limits: ")

    def test_a_close_that_wakes_nobody(self) -> None:
        made = Unwaking()
        assert "until the calls in flight" in not_offered(lambda: made, "close-wakes-a-call")
        made.close_after_all()

    def test_call_that_times_out_after_a_close_was_not_woken(self) -> None:
        made = Unwaking()
        runner = SyncRunner(lambda: made, loopback_site)
        runner.too_long = 2.0
        assert isinstance(outcome(runner, CHECKS["close-wakes-a-call"]), NotOffered)
        made.close_after_all()

    def test_without_a_bound_checks_make_do_with_any_number_of_connections(self) -> None:
        runner = SyncRunner(lambda: RequestsTransport(), loopback_site)
        assert outcome(runner, CHECKS["early-close"]) is None


class Unwaking(RequestsTransport):
    """One whose close wakes nobody."""

    close_after_all = RequestsTransport.close

    def close(self) -> None:
        """Leave everyone in peace."""


def answer(request: Request) -> Response:
    """A plain function that asks requests."""
    got = requests.request(request.method, request.url, data=request.body, timeout=5)
    return Response(got.status_code, dict(got.headers), got.content)


async def answer_async(request: Request) -> Response:
    transport = AnyioTransport()
    try:
        return await transport.send(request, 5.0)
    finally:
        await transport.close()


def test_a_plain_function_is_a_transport() -> None:
    check = CHECKS["whole-reply"]
    assert outcome(SyncRunner(lambda: answer, loopback_site), check) is None
    for backend in ("asyncio", "trio"):
        runner = AsyncRunner(lambda: answer_async, loopback_site, backend)
        assert outcome(runner, check) is None


def test_a_transport_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="neither with coroutines"):
        SyncRunner(AnyioTransport, loopback_site).transport()


def test_every_check_says_what_and_why() -> None:
    for check in CHECKS.values():
        assert re.fullmatch(r"[a-z0-9-]+", check.name)
        assert check.rule.endswith(".")
        assert check.why.endswith(".")
        assert "\n" not in check.rule
    assert len(CHECKS) == len(all_checks())


def test_no_check_is_left_out() -> None:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(conformance.__path__, conformance.__name__ + ".")
    ]
    written = {
        check.name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Checks)
        for check in value
    }
    assert written == set(CHECKS)


def test_a_factory_that_makes_no_transport_is_told_without_any_rule() -> None:
    class Half:
        def send(self, request: Any, timeout: float) -> None: ...

    declared = {"whole-reply": "It is not hidden by a known failure either."}
    with pytest.raises(TypeError, match=r"^make_transport\(\): .*, which lacks ") as caught:
        suite(make_transport=Half, known_failures=declared).test_conformance(
            CHECKS["whole-reply"], "", lambda name, value: None
        )
    assert "The rule" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_verdict_tells_the_finding_the_rule_and_why() -> None:
    properties: Dict[str, object] = {}
    with pytest.raises(CheckFailed) as caught:
        suite(make_transport=TakesABreakForTheEnd).test_conformance(
            CHECKS["a-truncated-body"], "", lambda name, value: properties.update(x=value)
        )
    assert str(caught.value).splitlines() == [
        "a-truncated-body: the call returned b'hello' instead of failing",
        "The rule: A body that ends before its Content-Length or its last chunk fails as *reply "
        "broken*.",
        "Why it matters: Half of a result would be taken for all of it.",
        'What to do: Mend the transport, or declare known_failures = {"a-truncated-body": "…"}.',
    ]
    assert properties == {"x": ["a-truncated-body", "Suite"]}


def ending(name: str, factory: Any, **declared: str) -> BaseException:
    """What pytest is told of a check on a transport with known failures."""

    known = {key.replace("_", "-"): why for key, why in declared.items()}
    with pytest.raises((CheckFailed, pytest.xfail.Exception, pytest.skip.Exception)) as caught:
        suite(make_transport=factory, known_failures=known).test_conformance(
            CHECKS[name], "", lambda *_: None
        )
    return caught.value


FLOOD = "a-flood-of-small-chunks"  # a check of timing with one call


class TestAMachineThatIsBusy:
    def attempts(self, name: str, *phases: Phase, **declared: str) -> int:
        attempts = 0

        class Late(RequestsTransport):
            def send(self, request: Request, timeout: float) -> Response:
                nonlocal attempts
                phase = phases[attempts] if phases else Phase.NOT_SENT
                attempts += 1
                raise TransportFailure(phase, "timed out", timed_out=True)

        ending(name, Late, **declared)
        return attempts

    def test_has_a_second_attempt_at_a_time_limit_with_longer_ones(self) -> None:
        assert self.attempts(FLOOD) == 2

    def test_untimed_and_declared_checks_are_tried_once(self) -> None:
        assert self.attempts("whole-reply") == 1
        assert self.attempts(FLOOD, a_flood_of_small_chunks="nothing is ever sent") == 1

    @pytest.mark.parametrize("passes", [1, 3])
    def test_has_more_attempts_at_a_declared_one_that_passes_by_chance(self, passes: int) -> None:
        phases = [Phase.REPLY_BROKEN] * passes + [Phase.NOT_SENT]
        assert self.attempts(FLOOD, *phases, a_flood_of_small_chunks="it may hang") == passes + 1

    def test_declared_check_of_timing_that_always_passes_is_out_of_date(self) -> None:
        class InTime(RequestsTransport):
            def send(self, request: Request, timeout: float) -> Response:
                raise TransportFailure(Phase.REPLY_BROKEN, "timed out", timed_out=True)

        ended = ending(FLOOD, InTime, a_flood_of_small_chunks="it was mended")
        assert "remove the declaration" in str(ended)

    def test_late_reader_does_not_get_unsolicited_bytes_with_its_response(self) -> None:
        """It would notice them there, and so pass a check that it fails otherwise."""

        class LateReader(RequestsTransport):
            """Reuses its connection without a look, if nothing came after a response."""

            sock: Optional[socket.socket] = None

            def send(self, request: Request, timeout: float) -> Response:
                if self.sock is None:
                    port = int(request.url.split(":")[2].partition("/")[0])
                    self.sock = socket.create_connection(("127.0.0.1", port))
                head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                self.sock.sendall(head % len(request.body) + request.body)
                time.sleep(0.3)
                received, _, rest = self.sock.recv(65536).partition(b"\r\n\r\n")
                length = int(received.lower().partition(b"content-length:")[2].split()[0])
                if len(rest) > length:
                    self.close()
                return Response(200, {}, rest[:length])

            def close(self) -> None:
                if self.sock is not None:
                    self.sock.close()
                    self.sock = None

        ended = ending("unsolicited-response", LateReader, unsolicited_response="no look at it")
        assert isinstance(ended, pytest.xfail.Exception)


class Asked:
    """What pytest shows a class of tests when it collects it."""

    def __init__(self, *fixtures: str) -> None:
        self.fixturenames = fixtures or ("conformance_check", "backend", "record_property")
        self.ids: List[str] = []
        self.needs: Set[str] = set()

    def parametrize(self, names: Any, cases: Any) -> None:
        for case in cases:
            self.ids.append(case.id)
            self.needs |= case.values[0].needs


class TestADeclaredShortfall:
    @pytest.mark.parametrize(
        ("name", "factory", "declared", "kind", "said"),
        [
            (
                *("a-truncated-body", TakesABreakForTheEnd, "a-truncated-body"),
                *(pytest.xfail.Exception, "known failure: a-truncated-body: lost"),
            ),
            ("quiet-body", Impatient, "quiet-body", pytest.xfail.Exception, "known failure"),
            ("clock", RequestsTransport, "clock", CheckFailed, "clock: the transport passes, but"),
            ("a-truncated-body", TakesABreakForTheEnd, "clock", CheckFailed, "a-truncated-body"),
        ],
        ids=["expected", "not-offered", "outdated", "of-another-check"],
    )
    def test_is_an_expected_failure_of_its_check_alone(
        self, name: str, factory: Any, declared: str, kind: Any, said: str
    ) -> None:
        ended = ending(name, factory, **{declared: "lost"})
        assert isinstance(ended, kind)
        assert str(ended).startswith(said)

    def test_known_failure_of_unknown_check_is_refused(self) -> None:
        made = suite(make_transport=RequestsTransport, known_failures={"clokc": "a slip"})
        with pytest.raises(ValueError, match=r"do not exist: \['clokc'\]"):
            made.pytest_generate_tests(Asked())


def test_checks_that_do_not_apply_are_left_out() -> None:
    on_threads, on_loops = Asked(), Asked()
    suite(make_transport=RequestsTransport).pytest_generate_tests(on_threads)
    async_kit = suite(AsyncTransportConformance, make_transport=AnyioTransport, wire=False)
    async_kit.pytest_generate_tests(on_loops)
    assert "whole-reply" in on_threads.ids
    assert CANCELLATION not in on_threads.needs
    assert {"asyncio-cancelled-read", "trio-cancelled-read"} <= set(on_loops.ids)
    assert "asyncio-counted-body" not in on_loops.ids


def test_readme_counts_the_checks_of_each_kind() -> None:
    on_threads, on_loops = Asked(), Asked()
    suite(make_transport=RequestsTransport).pytest_generate_tests(on_threads)
    one_loop = suite(
        AsyncTransportConformance, make_transport=AnyioTransport, backends=("asyncio",)
    )
    one_loop.pytest_generate_tests(on_loops)
    readme = (ROOT / "transports" / "README.md").read_text("utf-8")
    counts = re.search(r"There are (\d+) checks of a sync transport and (\d+) of an async", readme)
    assert counts is not None
    assert counts.groups() == (str(len(on_threads.ids)), str(len(on_loops.ids)))


def test_other_tests_of_a_suite_are_not_parametrized() -> None:
    for fixtures in (("record_property",), ("backend",)):
        asked = Asked(*fixtures)
        suite(make_transport=RequestsTransport).pytest_generate_tests(asked)
        assert asked.ids == []


def test_a_suite_without_a_factory_is_told_so() -> None:
    with pytest.raises(TypeError, match="TransportConformance has no method make_transport"):
        TransportConformance().pytest_generate_tests(Asked())  # type: ignore[arg-type]


def test_hanging_check_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmaestro.testing.conformance.runner.TOO_LONG", 0.05)
    slow = CHECKS["call-timeout"]
    for runner in (
        SyncRunner(RequestsTransport, loopback_site),
        AsyncRunner(AnyioTransport, loopback_site, "asyncio"),
    ):
        with pytest.raises(CheckFailed, match="had not ended"):
            runner.run(slow.run)


@pytest.mark.parametrize("pace", [1, 20, 40])
def test_flood_of_a_stream_outlasts_reads_that_ignore_their_patience(
    pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasted: List[float] = []

    def sent(self: Any, seconds: float) -> Any:
        lasted.append(seconds)
        return original(self, seconds)

    original = time_limits.Flood.sent
    monkeypatch.setattr(time_limits.Flood, "sent", sent)
    runner = SyncRunner(SocketTransport, loopback_site)
    runner.pace = pace
    runner.run(CHECKS["a-stream-flooded-with-small-chunks"].run)
    assert lasted[0] > 2 * (runner.limit + runner.margin)


def test_an_outcome_of_pytest_s_own_is_passed_on() -> None:
    def make_transport() -> Any:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception, match="not here"):
        SyncRunner(make_transport, loopback_site).run(CHECKS["whole-reply"].run)


def test_grid_shows_the_result_of_each_check() -> None:
    cells = {("b", "Mine"): "+", ("a", "Mine"): "o", ("c", "Mine"): "-", ("b", "Other"): "F"}
    assert grid({**cells, ("a", "Other"): "x"}) == [
        "   Mine",
        "   | Other",
        "a  o x",
        "b  + F",
        "c  - .",
        "",
        "+ passed: 1, o not offered: 1, - not run: 1, x known failure, as declared: 1, "
        "F failed: 1, . does not apply: 1",
    ]


def test_the_guide_names_every_check_that_an_author_can_mend() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| rule \| check \|\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`([a-z0-9-]+)`", " ".join(row.split("|")[2] for row in table.splitlines()))
    assert {*named} == {name for name, it in CHECKS.items() if HOSTILE not in it.needs}


PAGE = ROOT / "transports" / "README.md"
WORSE = """

class TestWorse(TransportConformance):
    def make_transport(self):
        return lambda request: None

    def test_other(self):
        assert self.make_transport()(None) is None
"""


def test_a_stranger_runs_it_as_the_documentation_says(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n((?:(?!```).)*TestMyTransport.*?)```", page, re.DOTALL)
    (options,) = re.findall(r"^pytest (-.*)$", page, re.MULTILINE)
    declared = '    known_failures = {"replies-without-a-body": "it has no replies"}\n'
    (tmp_path / "test_mine.py").write_text(block + WORSE + declared)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options.split()),
            *(
                "-k",
                "replies-without-a-body or whole-reply or bounded-connections or early-close "
                "or test_other",
                str(tmp_path),
            ),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"\b1 failed, 5 passed, 2 skipped, \d+ deselected, 1 xfailed", run.stdout)
    assert "Why it matters: The core decides what a 404" in run.stdout
    assert "TestWorse: not offered: max_connections=: users cannot limit" in run.stdout
    grid = run.stdout[run.stdout.index("conformance of transports") :]
    assert re.search(r"replies-without-a-body +\+ x", grid), grid
    assert "TestWorse: known failure: replies-without-a-body: it has no replies" in grid
    assert re.search(r"whole-reply +\+ F", grid), grid
    assert re.search(r"bounded-connections +\+ o", grid), grid
    assert re.search(r"early-close +\+ o", grid), grid


@pytest.mark.parametrize("module", ["pytest", "trustme"])
def test_a_package_that_the_kit_needs_is_named_with_its_extra(module: str) -> None:
    program = "from flowmaestro.testing.conformance import TransportConformance"
    needs = f"flowmaestro.testing.conformance needs {module}: pip install 'flowmaestro[testing]'"
    assert import_error_without(module, program) == needs


def test_an_event_loop_that_is_not_installed_is_skipped() -> None:
    made = suite(AsyncTransportConformance, make_transport=AnyioTransport)
    with pytest.raises(pytest.skip.Exception, match="no_such_loop is not installed"):
        made._runner("no_such_loop")


def test_backends_must_be_a_list() -> None:
    made = suite(AsyncTransportConformance, make_transport=AnyioTransport, backends="asyncio")
    with pytest.raises(TypeError, match=r"backends must be a list or .* of event loops, not str"):
        made._backends()


def test_the_line_that_got_through_is_told() -> None:
    def lenient(request: Request) -> Response:
        return Response(200, {}, b"ok")

    with pytest.raises(CheckFailed, match=r"the line sent was 'HTTP/1\.1 \+200 OK'"):
        SyncRunner(lambda: lenient, loopback_site).run(CHECKS["a-garbled-status-line"].run)


@pytest.mark.parametrize("sends", [0, 1])
def test_a_client_that_leaves_during_a_send_is_noticed(sends: int) -> None:
    class Leaving:
        sent = 0

        def has_hung_up(self) -> bool:
            return False

        def send(self, data: bytes) -> None:
            if self.sent == sends:
                raise ConnectionResetError
            self.sent += 1

    live = LiveReply()
    live.send(b"more")
    peer: Any = Leaving()
    assert _play(live, peer) is False
    assert live.hung_up.is_set()


def test_quick_fails_once_if_its_time_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(TransportConformance):
        quick = True
        make_transport = SocketTransport

    kit = Quick()
    assert kit._quick_seconds() == pytest.approx(5.0)
    monkeypatch.setattr(Quick, "_quick_until", time.monotonic())
    with pytest.raises(CheckFailed, match="were not run: run them with pytest -k, or the class"):
        kit._quick_seconds()
    with pytest.raises(pytest.skip.Exception, match="not run: the 20 s of quick are over"):
        Quick()._quick_seconds()


def test_checks_that_the_quick_run_leaves_out_exist() -> None:
    assert {*LONG_CHECKS.split("|")} <= {*CHECKS}


def test_the_checks_of_phases_and_secrets_come_first() -> None:
    names = [check.name for check in all_checks()]
    first, last = names.index("nothing-is-sent-twice"), names.index("many-at-once")
    assert first < names.index("no-secret-is-reachable-from-a-failure") < names.index("quiet-body")
    assert names.index("early-close") < last


def test_a_crowd_that_is_not_answered_is_counted() -> None:
    def slow(request: Request) -> Response:
        time.sleep(7.0 if request.body == b"7" else 0.0)
        return Response(200, {}, request.body)

    def attempt(times: float) -> None:
        runner = SyncRunner(lambda: slow, loopback_site)
        runner.too_long = 5.0 * times  # What is left of it is for a busy machine to count.
        found = outcome(runner, CHECKS["many-at-once"])
        assert str(found).startswith(f"49 of 50 calls had ended after {min(4 * times, 6):.0f} s")

    given_time(attempt)


def test_frames_of_a_failure_that_hangs_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may wait for a lock that an interrupt has left locked."""
    lock = threading.Lock()

    class Hangs:
        def __del__(self) -> None:
            with lock:
                pass

    def fails() -> None:
        held = Hangs()
        raise CheckFailed(f"with {held!r}")

    monkeypatch.setattr(expectations, "FORGET_SECONDS", 0.1)
    with lock:
        try:
            fails()
        except CheckFailed as error:
            expectations.forget_frames(error)


def test_attribute_error_within_the_transport_is_no_missing_method() -> None:
    def broken(request: Request) -> Response:
        return request.no_such_thing  # type: ignore[attr-defined,no-any-return]

    found = outcome(SyncRunner(lambda: broken, loopback_site), CHECKS["whole-reply"])
    assert isinstance(found, AttributeError)
    assert "Catch it and raise TransportFailure" in str(CHECKS["whole-reply"].verdict(found))


def test_missing_attribute_is_named_with_what_to_do() -> None:
    found = CHECKS["whole-reply"].verdict(AttributeError("'Body' object has no attribute 'close'"))
    assert "no attribute 'close'" in str(found)
    assert "Write this method or attribute" in str(found)


def test_scripted_server_reads_a_chunked_request() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        ScriptedServer(echo) as server,
        socket.create_connection(("127.0.0.1", server.port), 60.0) as client,
    ):
        client.sendall(head + b"6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        replied = b"".join(iter(lambda: client.recv(4096), b""))
    assert replied.endswith(b"\r\n\r\nhello world")

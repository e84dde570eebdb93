"""The two classes to derive from. They make a test of each check that applies."""

from __future__ import annotations

import time
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Callable, ContextManager, List, Mapping, Optional, Sequence, Set, Tuple

import pytest

from flowmaestro.testing.arguments import several
from flowmaestro.testing.conformance import (
    closing,
    connections,
    interruptions,
    phases,
    responses,
    security,
    time_limits,
)
from flowmaestro.testing.conformance.check import Check, Checks
from flowmaestro.testing.conformance.expectations import (
    CANCELLATION,
    HOSTILE,
    SIGNALS,
    WIRE,
    CheckFailed,
    FactoryError,
    NotOffered,
    forget_frames,
)
from flowmaestro.testing.conformance.grid import CELL
from flowmaestro.testing.conformance.runner import AsyncRunner, Runner, SyncRunner
from flowmaestro.testing.conformance.site import Respond, loopback_site

_MODULES: Tuple[ModuleType, ...] = (
    phases,
    security,
    time_limits,
    responses,
    closing,
    connections,
    interruptions,
)
"""The order of the checks. The last ones may not be run with `quick`; a wrong phase, a request that
is sent twice and a secret in an error harm users most."""
_LAST = ("twenty-megabytes", "many-at-once", "bounded-connections")
"""The checks that take longest."""

_PATIENT = 40
"""A timed check without the expected outcome runs a second time, with `limit` and `margin` of
its runner multiplied by this factor. Then a busy machine hardly decides the outcome."""
_REPEATS = 3
"""How often a timed check in `known_failures` that passes is run again, with the longer limits.

A server of the check that stands still for `limit` seconds, because the machine is busy, lets the
transport pass: the time limit of a single receive then ends the call.
"""
QUICK_SECONDS = 20.0
"""The most seconds that all checks of a class take with `quick`."""
_QUICK_CHECK = 5.0
"""The most seconds that one of them takes then. All but a few take less than one."""
_DECLARED = 1.0
"""Seconds that a check in `known_failures` waits for steps which should happen at once."""


def all_checks() -> List[Check]:
    """Return all checks, in the order of the kit."""
    values = [value for module in _MODULES for value in vars(module).values()]
    found = [each for checks in values if isinstance(checks, Checks) for each in checks]
    return sorted(found, key=lambda each: each.name in _LAST)


class _Conformance:
    wire = True
    """Whether the transport sends bytes over sockets; a transport in memory does not."""

    hostile = False
    """Whether to run the checks of hostile peers, and of interrupts at any place, too.

    They try the HTTP library below an adapter more than the adapter: malformed, truncated, endless
    and unrequested responses, and a `close` that is cancelled. Set it for a transport with an HTTP
    implementation of its own.
    """

    quick = False
    """Whether all checks together may take at most `QUICK_SECONDS`, for the loop of an author.

    Each check of timing is then tried once. If the time is not enough, the first check that is not
    run fails, and those after it are skipped.
    """

    known_failures: Mapping[str, str] = {}
    """The checks that the transport is known to fail: their names, and why, in plain English.

    Such a check is reported as an expected failure (`xfail`). If the transport passes it, the test
    fails: the declaration is out of date. A name that no check has raises `ValueError`.
    """

    make_transport: Callable[..., Any]
    _quick_until: float
    _quick_over = False

    def serve_site(self, respond: Respond) -> ContextManager[str]:
        """Serve a site to a check. The `with` block gets its URL.

        The site must answer each request with what `respond` returns, a `Response` or a
        `LiveReply`. By default, it is a loopback server. Override this for a transport in memory.
        The site is made before the transport that uses it.
        """
        return loopback_site(respond)

    def not_offered(self, error: NotOffered) -> None:
        """Skip the test: the transport does not offer an optional feature."""
        pytest.skip(f"not offered: {error}")

    def expected(self, check: Check, finding: Exception) -> None:
        """Report a check whose failure `known_failures` declares, by default as xfailed.

        `finding` is a `CheckFailed` that describes the failure, or the `NotOffered` of the check.
        """
        pytest.xfail(f"known failure: {check.name}: {self.known_failures[check.name]}")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test for each event loop and each check that applies to the transport.

        Other tests of the class, which have no parameter `conformance_check`, stay as they are.
        """
        if "conformance_check" not in metafunc.fixturenames:
            return
        if not hasattr(self, "make_transport"):
            raise TypeError(f"{type(self).__name__} has no method make_transport")
        lacks = self._lacks()
        unknown = set(self.known_failures) - {each.name for each in all_checks()}
        if unknown:
            raise ValueError(f"known_failures names checks that do not exist: {sorted(unknown)}")
        cases = [
            pytest.param(each, backend, id="-".join(filter(None, (backend, each.name))))
            for backend in self._backends()
            for each in all_checks()
            if not each.needs & lacks
        ]
        metafunc.parametrize(("conformance_check", "backend"), cases)

    def test_conformance(
        self,
        conformance_check: Check,
        backend: str,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Run one check."""
        __tracebackhide__ = True
        check, name = conformance_check, conformance_check.name
        column = " on ".join(filter(None, (type(self).__name__, backend)))
        record_property(CELL, [name, column])
        declared = name in self.known_failures
        finding = self._finding(check, backend, declared)
        if isinstance(finding, FactoryError):
            raise finding.with_traceback(None)
        if declared and finding is None:
            text = "the transport passes, but known_failures says that it fails"
            raise CheckFailed(f"{name}: {text}: remove the declaration")
        if declared and finding is not None:
            forget_frames(finding)
            self.expected(check, check.verdict(finding))
        elif isinstance(finding, NotOffered):
            self.not_offered(finding)
        elif finding is not None:
            known = isinstance(finding, CheckFailed)
            raise check.verdict(finding) from (finding.__cause__ if known else finding)

    def _finding(self, check: Check, backend: str, declared: bool) -> Optional[Exception]:
        """Run a check. Return the error that it raised, `None` if it passed.

        `declared` is whether `known_failures` says that the check fails. A check of timing that
        fails, but is not `declared`, is run again once, with longer limits. One that passes, but is
        `declared`, is run again up to `_REPEATS` times, until it fails. A `NotOffered` counts as
        the expected outcome.
        """
        finding: Optional[Exception] = None
        again = 0 if self.quick else _REPEATS if declared else 1
        for pace in (1, *[_PATIENT] * again):
            runner, finding = self._runner(backend), None
            runner.pace, runner.wire = pace, self.wire
            if self.quick:
                runner.too_long = self._quick_seconds()
            if declared:
                runner.exhaustive, runner.immediate = not self.quick, _DECLARED
            try:
                runner.run(check.run, check.needs)
            except Exception as error:
                finding = error
            as_expected = isinstance(finding, NotOffered) or declared is (finding is not None)
            if as_expected or not runner.timed:
                break
            if pace == 1:
                forget_frames(finding)
        return finding

    def _quick_seconds(self) -> float:
        """Return how many seconds the next check may take with `quick`.

        The time counts from the first check of the class. Fails if it is over, so that a run with
        checks that were not run is not taken for one that passed. Skips every later check.
        """
        kind = type(self)
        if "_quick_until" not in vars(kind):
            kind._quick_until = time.monotonic() + QUICK_SECONDS
        if time.monotonic() + _QUICK_CHECK > kind._quick_until:
            text = f"not run: the {QUICK_SECONDS:.0f} s of quick are over"
            if kind._quick_over:
                pytest.skip(text)
            kind._quick_over = True
            raise CheckFailed(
                f"{text}, so this check and those after it were not run: "
                "run them with pytest -k, or the class without quick"
            )
        return _QUICK_CHECK

    def _lacks(self) -> Set[str]:
        lacks: Set[str] = set() if self.wire else {WIRE}
        return lacks if self.hostile else {HOSTILE, *lacks}

    def _backends(self) -> Sequence[str]:
        raise NotImplementedError

    def _runner(self, backend: str) -> Runner:
        raise NotImplementedError


class TransportConformance(_Conformance):
    """The tests of a sync transport. Derive from it, and write its factory.

        class TestMine(TransportConformance):
            def make_transport(self, verify=True, max_connections=100):
                return MyTransport(verify=verify, max_connections=max_connections)

    `make_transport` returns a new `Transport`, or a function from request to response. A check that
    needs one of these options passes it to `make_transport`:

    * `verify`: the path of a CA file, or an `ssl.SSLContext`;
    * `client_cert`: the paths of a certificate and of its key, in a tuple;
    * `max_connections`: the maximum number of calls in flight.

    An option is not offered if `make_transport` has no parameter for it, or raises `NotOffered`.
    Checks that need it are then skipped, and the reason of the skip says what users lack.

    A check that the transport is known to fail is declared in `known_failures`.
    """

    def _backends(self) -> Sequence[str]:
        return [""]

    def _lacks(self) -> Set[str]:
        return {CANCELLATION, *super()._lacks()}

    def _runner(self, backend: str) -> Runner:
        return SyncRunner(self.make_transport, self.serve_site)


class AsyncTransportConformance(_Conformance):
    """The tests of an async transport, once for each of `backends`. Derive from it.

    Write the factory `make_transport`. `TransportConformance` lists the options that it may take.
    It returns a new `AsyncTransport`, or a function from request to response, coroutine or plain.
    The factory itself is plain, and is called inside the running event loop. No plugin for
    asynchronous tests is needed.
    """

    # Not a twin: its tests run once on each event loop.
    backends: Sequence[str] = ("asyncio", "trio")
    """The event loops that the transport claims to run on.

    The tests of one that is not installed are skipped.
    """

    def _lacks(self) -> Set[str]:
        return {SIGNALS, *super()._lacks()}

    def _backends(self) -> Sequence[str]:
        return several("backends", self.backends, "event loops")

    def _runner(self, backend: str) -> Runner:
        if find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed: install it, or leave it out of backends")
        return AsyncRunner(self.make_transport, self.serve_site, backend)

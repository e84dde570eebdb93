"""Transports that break one rule of the contract each, and what comes of a check on them."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from dataclasses import replace
from typing import Any, Callable, Optional

import requests

from flowmaestro.testing.conformance.check import Check
from flowmaestro.testing.conformance.expectations import forget_frames
from flowmaestro.testing.conformance.runner import AsyncRunner, Runner, SyncRunner
from flowmaestro.testing.conformance.suite import all_checks
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports import SocketTransport

CHECKS = {check.name: check for check in all_checks()}
_PATIENT = 5
"""The `pace` of a second attempt, whose limit is one second, and whose margin is three."""


def outcome(runner: Runner, check: Check) -> Optional[Exception]:
    """What comes of a check as the suite has it."""
    try:
        runner.run(check.run, check.needs)
    except Exception as error:
        forget_frames(error)
        return error
    return None


def finding_of(make: Callable[[], Runner], check: Check, expected: str) -> Optional[Exception]:
    """Return what a check finds, at a second attempt if a busy machine may have spoilt the first.

    A timed check has longer limits then. A check that is not timed and finds nothing is not
    repeated: it must find the mistake each time.
    """
    runner = make()
    found = outcome(runner, check)
    if (runner.timed or found is not None) and not re.search(expected, str(found)):
        again = make()
        if runner.timed:
            again.pace = _PATIENT
        found = outcome(again, check)
    return found


class HurriedSyncRunner(SyncRunner):
    """One that does not wait for long for what never comes."""

    immediate = 0.5
    pace = 0.3


class HurriedAsyncRunner(AsyncRunner):
    immediate = 0.5
    pace = 0.1


class Wrapper:
    """A good transport inside; what derives from this spoils one thing."""

    def __init__(self, **options: Any) -> None:
        self.inner = SocketTransport(**options)

    def send(self, request: Request, timeout: float) -> Response:
        return self.inner.send(request, timeout)

    def open(self, request: Request, timeout: float) -> Any:
        return self.Body(self.inner.open(request, timeout))

    Body: Any = staticmethod(lambda body: body)
    """Makes what `open` gives of an open body."""

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)

    def now(self) -> float:
        return self.inner.now()

    def close(self) -> None:
        self.inner.close()


class WrappedBody:
    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.status = inner.status
        self.headers = inner.headers

    def read(self, patience: float) -> Optional[bytes]:
        data: Optional[bytes] = self.inner.read(patience)
        return data

    def close(self) -> None:
        self.inner.close()


class TakesABreakForTheEnd(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            try:
                return super().read(patience)
            except TransportFailure:
                return b""


class TakesABreakBetweenChunksForTheEnd(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            try:
                return super().read(patience)
            except TransportFailure:
                if "transfer-encoding" in self.headers:
                    return b""
                raise


class EndsWhenItIsClosed(Wrapper):
    class Body(WrappedBody):
        closed = False

        def read(self, patience: float) -> Optional[bytes]:
            return b"" if self.closed else super().read(patience)

        def close(self) -> None:
            super().close()
            time.sleep(0.2)  # A read that waits must wake by its own failure.
            self.closed = True


class TakesQuietForTheEnd(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            return super().read(patience) or b""


class TakesQuietForABreak(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            data = super().read(patience)
            if data is None:
                raise TransportFailure(Phase.REPLY_BROKEN, "read timed out", timed_out=True)
            return data


class Impatient(TakesQuietForABreak):
    patient = False


class ImpatientAndWrong(TakesQuietForTheEnd):
    patient = False


class ImpatientAndVague(Wrapper):
    patient = False

    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            raise TransportFailure(Phase.MAYBE_PROCESSED, "read timed out", timed_out=True)


class TakesAPieceForTheBody(Wrapper):
    class Body(WrappedBody):
        begun = False

        def read(self, patience: float) -> Optional[bytes]:
            before, self.begun = self.begun, True
            return b"" if before else super().read(patience)


class LosesWhatCameBeforeTheQuiet(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            data = super().read(patience)
            if data is None:
                self.lossy = True
            elif getattr(self, "lossy", False):
                self.lossy = False
                return data[1:] or super().read(patience)
            return data


class NeverLetsGo(Wrapper):
    class Body(WrappedBody):
        def close(self) -> None:
            """Wait for the collector."""


class NeverLetsGoOfTls(Wrapper):
    def open(self, request: Request, timeout: float) -> Any:
        body = super().open(request, timeout)
        return NeverLetsGo.Body(body) if request.url.startswith("https:") else body


class TakesQuietOverTlsForTheEnd(Wrapper):
    def open(self, request: Request, timeout: float) -> Any:
        body = super().open(request, timeout)
        return TakesQuietForTheEnd.Body(body) if request.url.startswith("https:") else body


class ForgetsTheEnd(Wrapper):
    class Body(WrappedBody):
        ended = False

        def read(self, patience: float) -> Optional[bytes]:
            if self.ended:
                raise TransportFailure(Phase.REPLY_BROKEN, "the body was read")
            data = super().read(patience)
            self.ended = data == b""
            return data


class FollowsRedirects(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        response = super().send(request, timeout)
        if "location" not in response.headers:
            return response
        origin = "/".join(request.url.split("/")[:3])
        target = origin + response.headers["location"] + request.url[-4:]
        return super().send(Request("GET", target, request.headers), timeout)


class KeepsCookies(Wrapper):
    cookie = ""

    def send(self, request: Request, timeout: float) -> Response:
        pairs = [*request.headers.pairs, *([("Cookie", self.cookie)] if self.cookie else [])]
        response = super().send(replace(request, headers=Headers(pairs)), timeout)
        self.cookie = response.headers.get("set-cookie", "")
        return response


class SaysTheSamePhaseAlways(Wrapper):
    phase = Phase.MAYBE_PROCESSED

    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            raise TransportFailure(
                self.phase, failure.message, timed_out=failure.timed_out
            ) from failure


class SaysNotSentAlways(SaysTheSamePhaseAlways):
    phase = Phase.NOT_SENT


class HidesTheCause(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            raise TransportFailure(failure.phase, failure.message) from None


class LeaksTheLibrarysExceptions(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            raise ConnectionError(failure.message) from None


class TriesAgain(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        with contextlib.suppress(TransportFailure):
            return super().send(request, timeout)
        return super().send(request, timeout)


class ConnectsAnewAfterItsClose(Wrapper):
    def close(self) -> None:
        self.inner.close()
        self.inner = SocketTransport()


class AsksBeforeItRefuses(ConnectsAnewAfterItsClose):
    closed = False

    def send(self, request: Request, timeout: float) -> Response:
        response = super().send(request, timeout)
        if self.closed:
            raise TransportClosedError
        return response

    def open(self, request: Request, timeout: float) -> Any:
        if self.closed:
            return self.send(request, timeout)
        return super().open(request, timeout)

    def close(self) -> None:
        super().close()
        self.closed = True


class IsClosedOnce(Wrapper):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise TransportClosedError
        self.closed = True
        super().close()


class MixesUpItsCallers(Wrapper):
    last: Optional[Response] = None

    def send(self, request: Request, timeout: float) -> Response:
        before, self.last = self.last, super().send(request, timeout)
        return before or self.last


class LosesRepeatedFields(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        response = super().send(request, timeout)
        return Response(response.status, Headers(dict(response.headers.pairs)), response.body)


class JoinsRepeatedFields(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        response = super().send(request, timeout)
        return Response(response.status, Headers(dict(response.headers)), response.body)


class RaisesForStatus(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        response = super().send(request, timeout)
        if response.status >= 400:
            raise requests.HTTPError(str(response.status))
        return response


class AddsFields(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        pairs = [*request.headers.pairs, ("Cache-Control", "no-cache")]
        return super().send(replace(request, headers=Headers(pairs)), timeout)


def overrun(timeout: float) -> float:
    """Return a time that is too long at any `pace`: a margin is three times its limit."""
    return 5 * timeout + 1.0


class OverrunsItsTime(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        return super().send(request, overrun(timeout))


class ReadsOnAfterItsTime(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        body = self.inner.open(request, timeout)
        pieces = iter(lambda: body.read(overrun(timeout)) or b"", b"")
        return Response(body.status, body.headers, b"".join(pieces))


class SendsPasswords(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        found = requests.utils.get_netrc_auth(request.url)
        pairs = [*request.headers.pairs, *([("Authorization", found[1])] if found else [])]
        return super().send(replace(request, headers=Headers(pairs)), timeout)


class LooksAtNoHost(Wrapper):
    def __init__(self, verify: Any = True) -> None:
        context = ssl.create_default_context(cafile=None if verify is True else verify)
        context.check_hostname = False
        super().__init__(verify=context)


class TrustsEveryone(Wrapper):
    def __init__(self, verify: Any = False) -> None:
        super().__init__(verify=False)


class SendsBeforeItLooks(TrustsEveryone):
    def send(self, request: Request, timeout: float) -> Response:
        super().send(request, timeout)
        raise TransportFailure(Phase.NOT_SENT, "nobody vouches for it")

    open = send


class IgnoresTheLimitOfAReply(SocketTransport):
    """One that says that it bounds replies, and reads them whole."""

    def send(self, request: Request, timeout: float) -> Response:
        """Send it without its limit."""
        return super().send(replace(request, max_reply_size=None), timeout)


class IgnoresItsOptions(Wrapper):
    def __init__(self, **_: Any) -> None:
        super().__init__()


class BoundsOneAlone(Wrapper):
    def __init__(self, max_connections: int = 100) -> None:
        super().__init__(max_connections=max_connections if max_connections == 1 else 100)


class TakesAWaitForACall(SocketTransport):
    """One that says of each call that timed out that it may have been sent."""

    def send(self, request: Request, timeout: float) -> Response:
        """Send it, and mistake the phase of a failure."""
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            raise TransportFailure(Phase.MAYBE_PROCESSED, failure.message, timed_out=True) from None


class ShowsNoCertificate(Wrapper):
    def __init__(self, verify: Any, client_cert: Any) -> None:
        super().__init__(verify=verify)


class NeverSleeps(Wrapper):
    def sleep(self, seconds: float) -> None:
        """Hurry on."""


class BoundsTheBody(Wrapper):
    def open(self, request: Request, timeout: float) -> Any:
        body = super().open(request, timeout)
        threading.Timer(timeout / 2, body.close).start()  # the check looks a little after `timeout`
        return body


class ReadsOnWhileItIsQuiet(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            while (data := super().read(patience)) is None:
                pass
            return data


class GathersWhileThereIsMore(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            got = b""
            while data := super().read(patience):
                got += data
            return got or data


class TakesZeroForNoLimit(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            return super().read(patience or 60.0)


class ReadsAhead(Wrapper):
    class Body(WrappedBody):
        ahead: Optional[bytes] = None

        def read(self, patience: float) -> Optional[bytes]:
            data = self.ahead or super().read(patience)
            self.ahead = super().read(patience) if data else None
            return data


class LosesItsPlaceToASignal(Wrapper):
    """One whose only place is lost when an exception comes at the wrong time."""

    def __init__(self, max_connections: int = 1) -> None:
        super().__init__()
        self.place = threading.Lock()

    def send(self, request: Request, timeout: float) -> Response:
        if not self.place.acquire(timeout=0.2):
            raise TransportFailure(Phase.NOT_SENT, "no place came free", timed_out=True)
        response = super().send(request, timeout)
        self.place.release()
        return response

    def open(self, request: Request, timeout: float) -> Any:
        self.send(request, timeout)
        return super().open(request, timeout)


class HangsAfterASignal(LosesItsPlaceToASignal):
    """One that waits for a lock whose holder is gone, as `threading.Semaphore` may."""

    def send(self, request: Request, timeout: float) -> Response:
        with contextlib.suppress(TransportFailure):
            return super().send(request, timeout)
        self.place.acquire()  # for good
        raise AssertionError


class CountsOpenBodies(LosesItsPlaceToASignal):
    def open(self, request: Request, timeout: float) -> Any:
        self.place.acquire()
        return Wrapper.open(self, request, timeout)


class HangsInACondition(Wrapper):
    """One whose lock is written in Python, as that of urllib3's pool."""

    def __init__(self) -> None:
        super().__init__()
        self.place = threading.Condition(threading.Lock())

    def send(self, request: Request, timeout: float) -> Response:
        with self.place:
            return super().send(request, timeout)


class KeepsTheRequest(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            failure.args = (*failure.args, {"request": [request]})
            raise


class KeepsTheRequestInACause(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure as failure:
            error = OSError("lost")
            error.request = request  # type: ignore[attr-defined]
            raise failure from error


class NamesItsFields(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        fields = dict(request.headers)
        return super().send(Request(request.method, request.url, fields), timeout)


class TakesAClosedCallForDone(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure:
            return Response(200, {})

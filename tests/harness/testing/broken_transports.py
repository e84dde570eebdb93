"""Transports that break one rule of the contract each, and what comes of a check on them."""

from __future__ import annotations

import contextlib
import re
import threading
from http.client import HTTPConnection, HTTPException
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

import requests

from flowmaestro.testing.conformance.check import Check, forget_frames
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


def outcome(runner: Runner, check: Check) -> Optional[Exception]:
    """What comes of a check as the suite has it."""
    try:
        runner.run(check)
    except Exception as error:
        forget_frames(error)
        return error
    return None


def finding_of(make: Callable[[], Runner], check: Check, expected: str) -> Optional[Exception]:
    """What a check finds, with longer limits if a busy machine may hide it from short ones."""
    runner = make()
    found = outcome(runner, check)
    if runner.timed and not re.search(expected, str(found)):
        runner = make()
        runner.pace = 5
        found = outcome(runner, check)
    return found


class HurriedSyncRunner(SyncRunner):
    """One that does not wait for long for what never comes."""

    at_once = 0.5
    pace = 0.3


class HurriedAsyncRunner(AsyncRunner):
    at_once = 0.5
    pace = 0.3


class Wrapper:
    """A good transport inside; what derives from this spoils one thing."""

    def __init__(self, **options: Any) -> None:
        self.inner = SocketTransport(**options)

    def send(self, request: Request, timeout: float) -> Response:
        return self.inner.send(request, timeout)

    def open(self, request: Request, timeout: float) -> Any:
        return self.body(self.inner.open(request, timeout))

    body: Any = staticmethod(lambda body: body)
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

    body = Body


class TakesQuietForTheEnd(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            return super().read(patience) or b""

    body = Body


class TakesQuietForABreak(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            data = super().read(patience)
            if data is None:
                raise TransportFailure(Phase.REPLY_BROKEN, "read timed out", timed_out=True)
            return data

    body = Body


class Impatient(TakesQuietForABreak):
    patient = False


class ImpatientAndWrong(TakesQuietForTheEnd):
    patient = False


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

    body = Body


class NeverLetsGo(Wrapper):
    class Body(WrappedBody):
        def close(self) -> None:
            """Wait for the collector."""

    body = Body


class ForgetsTheEnd(Wrapper):
    class Body(WrappedBody):
        ended = False

        def read(self, patience: float) -> Optional[bytes]:
            if self.ended:
                raise TransportFailure(Phase.REPLY_BROKEN, "the body was read")
            data = super().read(patience)
            self.ended = data == b""
            return data

    body = Body


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
        response = super().send(
            Request(request.method, request.url, Headers(pairs), request.body), timeout
        )
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
        return super().send(
            Request(request.method, request.url, Headers(pairs), request.body), timeout
        )


class TakesTwiceTheTime(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        return super().send(request, timeout + 1.0)


class TrustsEveryone(Wrapper):
    def __init__(self, verify: Any = False) -> None:
        super().__init__(verify=False)


class IgnoresTheBound(Wrapper):
    def __init__(self, max_connections: int = 100) -> None:
        super().__init__()


class PlainRequests(Wrapper):
    """What a first draft on requests looks like."""

    def __init__(self) -> None:
        self.session = requests.Session()

    def send(self, request: Request, timeout: float) -> Response:
        try:
            got = self.session.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                data=request.body,
                timeout=timeout,
                allow_redirects=False,
            )
        except requests.ConnectionError as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error)) from error
        except requests.Timeout as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error), timed_out=True) from error
        return Response(got.status_code, Headers(got.headers.items()), got.content)

    def open(self, request: Request, timeout: float) -> Any:
        got = self.session.request(
            request.method, request.url, headers=dict(request.headers), stream=True, timeout=timeout
        )
        return PlainBody(got)

    def close(self) -> None:
        self.session.close()


class PlainBody:
    def __init__(self, got: requests.Response) -> None:
        self.status, self.headers = got.status_code, Headers(got.headers.items())
        self.close = got.close
        self.pieces = got.iter_content(65536)

    def read(self, patience: float) -> bytes:
        return next(self.pieces, b"")


class ReadsOnWhileItIsQuiet(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            while (data := super().read(patience)) is None:
                pass
            return data

    body = Body


class GathersWhileThereIsMore(Wrapper):
    class Body(WrappedBody):
        def read(self, patience: float) -> Optional[bytes]:
            got = b""
            while data := super().read(patience):
                got += data
            return got or data

    body = Body


class ReadsAhead(Wrapper):
    class Body(WrappedBody):
        ahead: Optional[bytes] = None

        def read(self, patience: float) -> Optional[bytes]:
            data = self.ahead or super().read(patience)
            self.ahead = super().read(patience) if data else None
            return data

    body = Body


class LosesItsPlaceToASignal(Wrapper):
    """One whose only place is lost when an exception comes at the wrong time."""

    def __init__(self) -> None:
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


class KeepsDeadConnections(Wrapper):
    """A first draft of keeping connections alive, on the standard library."""

    kept: Optional[HTTPConnection] = None

    def send(self, request: Request, timeout: float) -> Response:
        url = urlsplit(request.url)
        if self.kept is None:
            self.kept = HTTPConnection(url.netloc, timeout=timeout)
            self.kept.connect()
            self.kept.auto_open = False
        try:
            self.kept.request(request.method, url.path, request.body, dict(request.headers))
            reply = self.kept.getresponse()
            return Response(reply.status, Headers(reply.getheaders()), reply.read())
        except (OSError, HTTPException) as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error)) from error

    def close(self) -> None:
        if self.kept is not None:
            self.kept.close()
        super().close()


class LeavesConnectionsBehind(KeepsDeadConnections):
    def close(self) -> None:
        threading.Timer(2.5, super().close).start()  # later than anybody waits for it


class TakesAClosedCallForDone(Wrapper):
    def send(self, request: Request, timeout: float) -> Response:
        try:
            return super().send(request, timeout)
        except TransportFailure:
            return Response(200, {})

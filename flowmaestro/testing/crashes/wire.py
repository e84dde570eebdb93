"""The transports of a simulated process: each request is a step, at which the process may die.

They send to the fake. If the search may choose so, the network or the list has a fault.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from random import Random
from typing import Any, ContextManager, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

from flowmaestro.testing.crashes.process import Process, Run, current
from flowmaestro.testing.crashes.steps import Step, cut
from flowmaestro.testing.fake.model.requests import path_below_root
from flowmaestro.testing.virtual.memory import (
    AsyncMemoryBody,
    AsyncMemoryTransport,
    MemoryBody,
    MemoryTransport,
)
from flowmaestro_core.actions import Action, Emit, Load, Save
from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure

LATE = 29.0
"""Seconds by which the list may be late. The docs of checkpoints allow 30, with the request."""

NOT_ARRIVED = "is lost before it arrives"
NOT_ANSWERED = "arrives, and its answer is lost"
UNAVAILABLE = "is refused: 503"
FAILED = "is carried out, and answered with 500"
OLD_LIST = f"shows the list as it was {LATE:g} s ago"
NO_INPUTS = "shows the list without inputs"
_IDS = re.compile(r"(?<=/executions/)[^/]+")


def faults_of(request: Request, kinds: Any) -> Tuple[str, ...]:
    """Return the faults that a request may meet, of these kinds: `"network"` and `"list"`."""
    found: List[str] = []
    path = path_below_root(request.url)
    if "network" in kinds:
        found += [NOT_ARRIVED, NOT_ANSWERED, UNAVAILABLE]
        found += [FAILED] if request.method == "POST" else []
    if "list" in kinds and request.method == "GET" and path == "/executions":
        found += [OLD_LIST, NO_INPUTS]
    return tuple(found)


def _refuse(step: Step) -> Optional[Response]:
    """Return the response to a request that does not reach the service; `None` if it does.

    Raises `TransportFailure` if there is no response.
    """
    if step.fault:
        step.outcome = step.fault
    if step.fault == NOT_ARRIVED:
        raise TransportFailure(Phase.MAYBE_PROCESSED, "the connection was lost")
    if step.fault == UNAVAILABLE:
        return Response(503, Headers({"Retry-After": "1"}.items()), b"")
    return None


def _answered(step: Step, response: Response, now: float) -> Response:
    """Return the response that the client gets for `response` of the service.

    Raises `TransportFailure` if the client gets none.
    """
    if step.fault:
        step.outcome = f"{step.outcome.replace(step.fault, '').strip()} {step.fault}".strip()
    if step.fault == NOT_ANSWERED:
        raise TransportFailure(Phase.MAYBE_PROCESSED, "the connection was lost")
    if step.fault == FAILED:
        return Response(500, Headers(), b'{"error": {"code": "internal_error"}}')
    if step.fault in (OLD_LIST, NO_INPUTS) and response.status == 200:
        reply: Dict[str, Any] = json.loads(response.body)
        if step.fault == OLD_LIST:
            reply["data"] = [it for it in reply["data"] if _created(it) <= now - LATE]
        else:
            reply["data"] = [{**it, "inputs": None} for it in reply["data"]]
        fields = [pair for pair in response.headers.pairs if pair[0].lower() != "content-length"]
        return Response(200, Headers(fields), json.dumps(reply).encode())
    if not step.outcome:
        step.outcome = str(response.status)
    return response


def _created(execution: Dict[str, Any]) -> float:
    return datetime.fromisoformat(execution["created_at"].replace("Z", "+00:00")).timestamp()


class _Dying:
    """The common part of both transports: it makes steps of what a client does."""

    _process: Process

    def during(self, action: Action, file: str) -> ContextManager[object]:
        """Return a block for an action that is no request: see `DuringBlock` of the contract."""
        if isinstance(action, Emit):
            return self._process.step("emit", "an item is delivered", acts=False)
        key = file
        if self._process.folder is not None:
            key = key.replace(str(self._process.folder), "")
        if isinstance(action, Save):
            *_, last = action.states
            stages = {str(it.get("state", "header")) for it in action.states[1:]}
            said = ", ".join(sorted(stages)) or str(last.get("state", "header"))
            return self._process.step("save", "the SDK saves", f"saves {said!r}", key=key)
        assert isinstance(action, Load)  # noqa: S101 (for the type checker)
        return self._process.step("load", "the SDK loads", "loads", key=key, acts=False)

    def _requesting(self, request: Request, *, opens: bool = False) -> ContextManager[Step]:
        path = path_below_root(request.url)
        label = f"{request.method} {_IDS.sub('*', path)}"
        query = urlsplit(request.url).query
        body = "" if request.method == "GET" else f" {cut(request.body.decode())}"
        faults = faults_of(request, self._process.run.faults)
        if opens:
            faults = tuple(it for it in faults if it == NOT_ARRIVED)
        what = self._process.run.short_id(f"{request.method} {path}{'?' * bool(query)}{query}")
        return self._process.step(
            "request",
            label,
            f"{what}{body}",
            acts=request.method != "GET",
            faults=faults,
        )


class DyingTransport(_Dying, MemoryTransport):
    """A sync transport to the fake, for one simulated process."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.run.fake)
        self.random: Random = process.run.turns.random
        self._process = process

    def send(self, request: Request, timeout: float) -> Response:
        """Send a request, unless the process dies before. Return the response, unless it dies."""
        with self._requesting(request) as step:
            refused = _refuse(step)
            if refused is not None:
                return refused
            response = super().send(request, timeout)
            return _answered(step, response, self._process.run.fake.wall_clock())

    def open(self, request: Request, timeout: float) -> MemoryBody:
        """Open a stream, unless the process dies before. Return it, unless the process dies."""
        with self._requesting(request, opens=True) as step:
            _refuse(step)
            opened = super().open(request, timeout)
            step.outcome = step.outcome or str(opened.status)
            return opened

    def sleep(self, seconds: float) -> None:
        """Wait on the virtual clock. Raises `ProcessDied` if the process has died."""
        super().sleep(seconds)
        self._process.check_alive()


class AsyncDyingTransport(_Dying, AsyncMemoryTransport):
    """An async transport to the fake, for one simulated process."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.run.fake)
        self.random: Random = process.run.turns.random
        self._process = process

    async def send(self, request: Request, timeout: float) -> Response:
        """Send a request, unless the process dies before. Return the response, unless it dies."""
        with self._requesting(request) as step:
            refused = _refuse(step)
            if refused is not None:
                return refused
            response = await super().send(request, timeout)
            return _answered(step, response, self._process.run.fake.wall_clock())

    async def open(self, request: Request, timeout: float) -> AsyncMemoryBody:
        """Open a stream, unless the process dies before. Return it, unless the process dies."""
        with self._requesting(request, opens=True) as step:
            _refuse(step)
            opened = await super().open(request, timeout)
            step.outcome = step.outcome or str(opened.status)
            return opened

    async def sleep(self, seconds: float) -> None:
        """Wait on the virtual clock. Raises `ProcessDied` if the process has died."""
        await super().sleep(seconds)
        self._process.check_alive()


class Network:
    """The transports of a run, in place of the network: a `TransportOverride`.

    A transport belongs to the process in which it is made.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.api_key: str = run.fake.api_key
        """The key of clients that are given none."""

    def transport(self) -> DyingTransport:
        """Return a new transport for a sync client."""
        return DyingTransport(self._process())

    def async_transport(self) -> AsyncDyingTransport:
        """Return a new transport for an async client."""
        return AsyncDyingTransport(self._process())

    def _process(self) -> Process:
        process = current.get() or self._run.newest
        assert process is not None  # noqa: S101 (a process begins before its clients)
        return process

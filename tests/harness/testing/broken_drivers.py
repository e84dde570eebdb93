"""A plain driver that keeps the rules, and drivers whose authors each made one mistake."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from flowmaestro_core import (
    Close,
    Done,
    Emit,
    Fail,
    FlowMaestroError,
    JournalError,
    Load,
    Loaded,
    Open,
    Read,
    Save,
    Send,
    Wait,
)
from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    SocketTransport,
    TransportFailure,
)

Report = Any
"""The method of the machine to call next, with all arguments but the time and the jitter."""


class PlainDriver:
    """The loop of the guide over a transport, with a method for each action."""

    def __init__(self, machine: Any, emit: Callable[[Any], Any], store: Any) -> None:
        self.machine, self.emit, self.store = machine, emit, store
        self.transport = SocketTransport()
        self.body: Any = None

    def run(self) -> Any:
        report: Report = self.machine.start
        try:
            while True:
                action = report(self.now(), self.jitter())
                if isinstance(action, (Done, Fail)):
                    return self.end(action)
                try:
                    report = getattr(self, f"on_{type(action).__name__.lower()}")(action)
                except TransportFailure as failure:
                    report = self.on_failure(action, failure)
        finally:
            self.transport.close()

    def now(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()

    def end(self, action: Any) -> Any:
        if isinstance(action, Fail):
            raise action.error
        return action.value

    def on_failure(self, action: Any, failure: TransportFailure) -> Report:
        if isinstance(action, Read):
            self.body.close()
        return partial(self.machine.transport_failed, failure)

    def on_send(self, action: Send) -> Report:
        response = self.transport.send(action.request, action.timeout)
        return partial(self.machine.response_received, response)

    def on_open(self, action: Open) -> Report:
        self.body = self.transport.open(action.request, action.timeout)
        head = ResponseHead(self.body.status, self.body.headers)
        return partial(self.machine.stream_opened, head)

    def on_read(self, action: Read) -> Report:
        data: Optional[bytes] = self.body.read(action.patience)
        if data is None:
            return self.machine.stream_quiet
        if data:
            return partial(self.machine.bytes_received, data)
        self.body.close()
        return self.machine.stream_ended

    def on_close(self, action: Close) -> Report:
        self.body.close()
        return self.machine.stream_closed

    def on_wait(self, action: Wait) -> Report:
        time.sleep(action.seconds)
        return self.machine.waited

    def on_emit(self, action: Emit) -> Report:
        for item in action.items:
            self.emit(item)
        return self.machine.emitted

    def on_load(self, action: Load) -> Report:
        try:
            states = self.store.load(action.keys, action.outcomes) if action.keys else ()
            ids = action.execution_ids
            known = self.store.known(ids) if ids else {}
        except Exception as error:
            return self.store_failure(error)
        return partial(self.machine.loaded, Loaded(tuple(states), known, time.time()))

    def on_save(self, action: Save) -> Report:
        try:
            self.store.save(action.states)
        except Exception as error:
            return self.store_failure(error)
        return self.machine.saved

    def store_failure(self, error: Exception) -> Report:
        if not isinstance(error, FlowMaestroError):
            error = JournalError(f"The journal cannot be used: {error}")
        return partial(self.machine.store_failed, error)


class OnAVirtualClock(PlainDriver):
    """Its time passes only where it says so, and its waits are not short: no load changes them."""

    at = 0.0

    def now(self) -> float:
        return self.at

    def jitter(self) -> float:
        return 0.5 + random.random() / 2

    def on_wait(self, action: Wait) -> Report:
        self.at += action.seconds
        return self.machine.waited


class SendsTwice(PlainDriver):
    def on_send(self, action: Send) -> Report:
        super().on_send(action)
        return super().on_send(action)


class RetriesByItself(PlainDriver):
    def on_send(self, action: Send) -> Report:
        try:
            return super().on_send(action)
        except TransportFailure:
            return super().on_send(action)


class HandsOverAnotherReply(PlainDriver):
    """It looks responses up by their path, and returns what another query had."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.kept: Dict[str, Response] = {}

    def on_send(self, action: Send) -> Report:
        report = super().on_send(action)
        path = action.request.url.partition("?")[0]
        kept = self.kept.setdefault(path, report.args[0])
        return partial(self.machine.response_received, kept)


class TakesAStatusForAFailure(PlainDriver):
    def on_send(self, action: Send) -> Report:
        report = super().on_send(action)
        status = report.args[0].status
        if status >= 400:
            raise TransportFailure(Phase.REPLY_BROKEN, f"status {status}")
        return report


class LosesTheHeaders(PlainDriver):
    def on_send(self, action: Send) -> Report:
        asked = action.request
        bare = Request(asked.method, asked.url, Headers([]), asked.body)
        return super().on_send(Send(bare, action.timeout))


class IgnoresTheTimeout(OnAVirtualClock):
    """It accepts a response that comes after the time limit."""

    def on_send(self, action: Send) -> Report:
        self.at += 2 * action.timeout
        return super().on_send(action)


class ReadsTwoClocks(PlainDriver):
    turn = 0

    def now(self) -> float:
        self.turn += 1
        return time.time() if self.turn % 2 else time.monotonic()


class ReadsTheClockOnce(OnAVirtualClock):
    def now(self) -> float:
        return 0.0


class DrawsOneJitter(PlainDriver):
    def jitter(self) -> float:
        return 0.5


class TakesSecondsForMilliseconds(OnAVirtualClock):
    def on_wait(self, action: Wait) -> Report:
        self.at += action.seconds / 1000
        return self.machine.waited


class SkipsWait(OnAVirtualClock):
    def on_wait(self, action: Wait) -> Report:
        return self.machine.waited


class StartsAgainAfterAWait(PlainDriver):
    def on_wait(self, action: Wait) -> Report:
        super().on_wait(action)
        return self.machine.start


class LosesTheLastItems(PlainDriver):
    """It emits what it holds when the next items come, and loses it when it closes."""

    held: List[Any] = []

    def on_emit(self, action: Emit) -> Report:
        for item in self.held:
            self.emit(item)
        self.held = list(action.items)
        return self.machine.emitted


class EmitsInAnotherOrder(PlainDriver):
    """It keeps the items on a stack, and empties it at the end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.stack: List[Any] = []

    def on_emit(self, action: Emit) -> Report:
        self.stack += action.items
        return self.machine.emitted

    def end(self, action: Any) -> Any:
        while self.stack:
            self.emit(self.stack.pop())
        return super().end(action)


class EmitsTwice(PlainDriver):
    def on_emit(self, action: Emit) -> Report:
        super().on_emit(action)
        return super().on_emit(action)


class WrapsTheError(PlainDriver):
    def end(self, action: Any) -> Any:
        try:
            return super().end(action)
        except FlowMaestroError as error:
            raise FlowMaestroError(f"the call failed: {error}", "wrapped") from error


class ReturnsTheError(PlainDriver):
    def end(self, action: Any) -> Any:
        return action.error if isinstance(action, Fail) else action.value


class TakesQuietForTheEnd(PlainDriver):
    def on_read(self, action: Read) -> Report:
        data: Optional[bytes] = self.body.read(action.patience)
        if data:
            return partial(self.machine.bytes_received, data)
        self.body.close()
        return self.machine.stream_ended


class TakesALossForTheEnd(PlainDriver):
    def on_failure(self, action: Any, failure: TransportFailure) -> Report:
        report = super().on_failure(action, failure)
        return self.machine.stream_ended if isinstance(action, Read) else report


class SkipsSave(PlainDriver):
    def on_save(self, action: Save) -> Report:
        return self.machine.saved

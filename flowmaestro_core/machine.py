# pyright: reportPrivateUsage=false
# `event` belongs to the class whose methods it guards.
"""The base of every machine: explicit state, a table of transitions, events that return actions.

The rules for every machine of this package. `Machine` enforces the first three:

1. An event that the table does not list for the present state raises `LocalProtocolError` and
   changes nothing.
2. After an event the machine is in one of the states that the table lists for it.
3. `done` and `failed` are final: they take no event, so a machine ends exactly once.
4. A machine may own a smaller one (`_delegate`). Meanwhile, events go to the smaller machine, and
   its actions are returned. When the smaller machine has ended, `_inner_ended` gets its result, and
   the owner continues. When the smaller machine wants to wait, the owner may set it aside (`_park`)
   and own it again later.
5. A machine that must release an open body before it continues does so with `_close`.

`docs/diagrams.py` writes `docs/state-diagrams.md` from the tables.

Every event takes `now` (seconds on a monotonic clock) and `jitter` (a number in [0, 1), fresh
for each event), because a machine reads no clock and draws no random numbers.
"""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any, Callable, ClassVar, Generic, Mapping, Optional, Tuple, TypeVar, Union, cast

from flowmaestro_core.actions import Action, Close, Done, Fail, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.http.messages import Response, ResponseHead, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.store import Loaded

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Action])

Transitions = Mapping[str, Mapping[str, Tuple[str, ...]]]
"""`{state: {event: (possible next states, ...)}}`"""


class State(str, Enum):
    """The base of a machine's states. A state equals its text.

    Every machine has `"ready"`, in which it has not been started, and `"done"` and `"failed"`.
    """

    __str__ = str.__str__
    __repr__ = str.__repr__


class LocalProtocolError(RuntimeError):
    """The driver reported an event that the machine's state does not allow: a bug in the driver."""


def event(handler: F) -> F:
    """Decorate an event method, so that it keeps to the machine's table.

    The method raises `LocalProtocolError` if the table does not allow the event in the present
    state, and `AssertionError` if it does not allow the state afterwards. If the machine owns
    another machine, both are checked as well, but that machine gets the event in place of the
    decorated method.
    """
    name = handler.__name__

    @functools.wraps(handler)
    def guarded(self: Machine[Any], *args: Any) -> Action:
        came_from = self.state
        try:
            successors = self.TRANSITIONS[came_from][name]
        except KeyError:
            raise self._cannot_take(name) from None
        if self._inner is None:
            action = handler(self, *args)
        else:
            action = self._pass_on(getattr(self._inner, name)(*args), *args[-2:])
        if self.state not in successors:
            raise AssertionError(
                f"{type(self).__name__}: {came_from!r} -{name}-> {self.state!r} is not in its table"
            )
        return action

    return cast("F", guarded)


class Machine(Generic[T]):
    """A state machine for one piece of work, which ends with a value of type `T` or an error.

    Each event method takes `now`, in seconds on a monotonic clock, and `jitter`, a random number in
    [0, 1) that is drawn for this event. The method returns the next action for the driver.
    """

    TRANSITIONS: ClassVar[Transitions]

    execution_id: Optional[str] = None
    """The id of the execution that the machine follows; `None` if there is none or it is not known.

    Errors of the driver have it, too.
    """

    operation: str = ""
    """The name of the client's method that made it, such as `workflows.run`, for observers."""

    runs_callers_code: bool = False
    """Whether an event method, or an action other than a request or `Emit`, may run caller's code.

    That code may wait for another call. The listener of `Emit` does not count. A batch reads the
    caller's rows in its events, and the driver calls the methods of a caller's store.
    """

    def __init__(self, context: Context, token: str) -> None:
        """`context` holds what the calls of a client share.

        `token` is a random text, from which the machine makes the `Idempotency-Key` of a POST. A
        key that the caller passed, or a token that a checkpoint holds, is used instead.
        """
        self.state: str = "ready"
        self._context = context
        self._token = token
        self._inner: Optional[Machine[Any]] = None
        """The owned machine, which gets the events; `None` if there is none."""

    @property
    def finished(self) -> bool:
        """Whether the machine has ended without an error.

        A stream of events is finished once it has emitted its terminal event.
        """
        return self.state == "done"

    @property
    def scrubber(self) -> SecretScrubber:
        """The scrubber that redacts the secrets of this machine's requests in its error."""
        return self._context.scrubber

    @property
    def client_is_closed(self) -> bool:
        """Whether the client was closed that this machine works for."""
        return self._context.server.client_closed

    @event
    def start(self, now: float, jitter: float) -> Action:
        """Begin. Return the first action. Call this once."""
        return self._next(now, jitter)

    @event
    def response_received(self, response: Response, now: float, jitter: float) -> Action:
        """Report that `Send` was carried out, with the whole response. Return the next action."""
        raise NotImplementedError

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        """Report that `Send`, `Open` or `Read` failed. Return the next action.

        After a failed `Open` or `Read`, no body is open any more. After a failed `Send`, the body
        that was open beside it still is, and the machine may go on reading it.
        """
        raise NotImplementedError

    @event
    def stream_opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        """Report that `Open` was carried out: the body is open. Return the next action."""
        raise NotImplementedError

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        """Report that `Read` returned `data`, at least one byte. Return the next action."""
        raise NotImplementedError

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        """Report that `Read` returned nothing within its patience. Return the next action.

        The body is still open.
        """
        raise NotImplementedError

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        """Report that `Read` found the complete end of the body. Return the next action.

        The body is closed.
        """
        raise NotImplementedError

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        """Report that `Close` was carried out. Return the next action."""
        raise NotImplementedError

    @event
    def waited(self, now: float, jitter: float) -> Action:
        """Report that `Wait` was carried out. Return the next action."""
        return self._next(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        """Report that the caller took all items of `Emit` and wants the next one.

        Return the next action.
        """
        return self._next(now, jitter)

    @event
    def loaded(self, loaded: Loaded, now: float, jitter: float) -> Action:
        """Report that `Load` was carried out. Return the next action.

        `loaded` is what the store holds for the `keys` and `execution_ids` of the `Load`.
        """
        raise NotImplementedError

    @event
    def saved(self, now: float, jitter: float) -> Action:
        """Report that `Save` was carried out. Return the next action."""
        raise NotImplementedError

    @event
    def store_failed(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        """Report that `Load` or `Save` failed. Return the next action.

        `error` is the error of the SDK that the store raised, such as a `CheckpointConflict`. For
        any other exception, the driver makes one: a `JournalError`, or a `CheckpointError` if the
        store is a checkpoint.
        """
        raise NotImplementedError

    def _cannot_take(self, name: str) -> LocalProtocolError:
        expected = self.TRANSITIONS.get(self.state, {})
        return LocalProtocolError(
            f"{type(self).__name__} is {self.state!r} and cannot take {name!r}; "
            f"it can take: {', '.join(expected) or 'nothing, it has ended'}"
        )

    def _next(self, now: float, jitter: float) -> Action:
        """Return the next action: the first one, or the one after `waited` or `emitted`.

        A machine may call it after its other events, too.
        """
        raise NotImplementedError

    def _done(self, value: T) -> Action:
        self.state = "done"
        return Done(value)

    def _fail(self, error: FlowMaestroError) -> Action:
        self.state = "failed"
        error.execution_id = error.execution_id or self.execution_id
        return Fail(self.scrubber.clean(error))

    def _close(self) -> Action:
        """Return `Close` for the open body. The driver calls `stream_closed` afterwards."""
        self.state = "closing"
        return Close()

    def abandon(self) -> None:
        """Give back the turn that the next poll of the machine has, for the polls of other calls.

        Call this if no further event follows although the machine has not ended. Without the call,
        polls of other calls may come up to a minute later. After the end, it has no effect.
        """
        if self._inner is not None:
            self._inner.abandon()

    # A machine inside a machine

    def _delegate(self, inner: Machine[Any], now: float, jitter: float) -> Action:
        """Own `inner`. Start it, or continue it after its wait if it was parked.

        Return the next action. When `inner` ends, `_inner_ended` is called.
        """
        self._inner = inner
        begin = inner.start if inner.state == "ready" else inner.waited
        return self._pass_on(begin(now, jitter), now, jitter)

    def _park(self) -> Machine[Any]:
        """Set aside the owned machine, which wants to wait, and return it.

        From now on, events go to this machine, the owner.
        """
        parked, self._inner = self._inner, None
        return cast("Machine[Any]", parked)

    def _pass_on(self, action: Action, now: float, jitter: float) -> Action:
        if isinstance(action, (Done, Fail)):
            self._inner = None
            return self._inner_ended(action, now, jitter)
        if isinstance(action, Wait):
            return self._inner_waits(action, now, jitter)
        return action

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        """Return the action for an owned machine that wants to wait: here, its `Wait`.

        A subclass may park the owned machine instead.
        """
        return wait

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        """Return the next action after the owned machine has ended with `outcome`."""
        raise NotImplementedError

"""The ten actions that a machine can return to its driver, as plain values.

A driver carries out one action, and reports what happened: it calls one of the machine's methods
that `EVENTS` lists for the action. The method returns the next action.

`Send`, `Open`, `Read` and `Emit` are not frozen, because each call or event needs one, and a frozen
dataclass takes several times as long to make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Type, Union

from flowmaestro_core.errors import Attempt, FlowMaestroError
from flowmaestro_core.http.messages import Request


@dataclass
class _Sending:
    """Base of `Send`, which describes the attributes, and `Open`."""

    request: Request
    timeout: float
    attempt: int = field(default=1, compare=False)
    path: str = field(default="", compare=False, repr=False)
    call: object = field(default=None, compare=False, repr=False)
    latest: float = field(default=math.inf, compare=False, repr=False)


class Send(_Sending):
    """Send one request and receive the whole response, all within `timeout` seconds.

    `attempt`, `path` and `call` are for observers: the number of the attempt within its call, the
    path of the call, and an object that is the same in all attempts of one call.

    `latest` is the time, on the clock of `now`, until which the response must come. `timeout` is
    already shortened to it. So only a driver that lets a hook delay the request needs it: it
    shortens `timeout` again and, if no time is left, reports a failure that is `NOT_SENT` and timed
    out without sending anything.
    """


class Open(_Sending):
    """Send one request and receive the head of the response within `timeout` seconds.

    The body stays open for `Read`. The attributes are those of `Send`.
    """


LEAST_PATIENCE = 45.0
"""The least `impatient` of most reads of a stream, in seconds: one and a half of the intervals at
which the server sends keepalives."""


@dataclass
class Read:
    """Read some bytes of the open body, or report that none came within `patience` seconds.

    If no bytes came, that is not a failure: the same body can be read again. Some transports must
    close the body after such a wait (their `patient` is False). On these, the driver waits for
    `impatient` seconds instead of `patience`, unless `impatient` is 0.
    """

    patience: float
    impatient: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Close:
    """Release the open body now, whether or not it was read to its end."""


@dataclass(frozen=True)
class Wait:
    """Wait for `seconds`.

    `because` is the failed attempt or the lost connection to report, or `None`. With `reconnects`,
    an event stream waits for its next connection; a poll may come before that. Both are for logs
    and hooks, with one exception: if a start waits because of a 429, a batch delays its polls, too.
    """

    seconds: float
    because: Optional[Attempt] = field(default=None, compare=False)
    reconnects: bool = field(default=False, compare=False)


@dataclass
class Emit:
    """Deliver `items` to the caller, or to a callback, or both, one after another.

    There is at least one. Continue when the caller wants the next one after the last of them. If
    the caller stops before, drop the rest.
    """

    items: Sequence[Any]


@dataclass(frozen=True)
class Load:
    """Read from the store.

    Attributes:
        keys: the keys of the states to return.
        outcomes: whether ended states must have their `outcome`.
        execution_ids: ids of executions. The numbers of their starts are to be returned.

    """

    keys: Tuple[str, ...] = ()
    outcomes: bool = False
    execution_ids: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Save:
    """Keep `states` in the store, all of them or none. The first one is the header.

    A state that is `starting` must survive a power loss. The others need only survive the end of
    the process.
    """

    states: Tuple[Dict[str, Any], ...]


@dataclass(frozen=True)
class Done:
    """The machine has ended with `value`."""

    value: Any


@dataclass(frozen=True)
class Fail:
    """The machine has ended with `error`, to be raised as it is (its cause is already chained).

    A batch may also fail with an exception that is not of the SDK: the caller's iterable of rows or
    key function raised it while the batch read the rows, or a key was invalid.
    """

    error: FlowMaestroError


Action = Union[Send, Open, Read, Close, Wait, Emit, Load, Save, Done, Fail]

EVENTS: Mapping[Type[Any], Tuple[str, ...]] = {
    Send: ("response_received", "transport_failed"),
    Open: ("stream_opened", "transport_failed"),
    Read: ("bytes_received", "stream_quiet", "stream_ended", "transport_failed"),
    Close: ("stream_closed",),
    Wait: ("waited",),
    Emit: ("emitted",),
    Load: ("loaded", "store_failed"),
    Save: ("saved", "store_failed"),
    Done: (),
    Fail: (),
}
"""The methods of the machine of which a driver calls one after each action."""

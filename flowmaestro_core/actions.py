"""The nine actions that a machine can return to its driver, as plain values.

A driver carries out one action, reports what happened with the event method named beside it,
and gets the next action back.

| action  | the driver reports                                                    |
|---------|-----------------------------------------------------------------------|
| `Send`  | `response_received`, `transport_failed`                               |
| `Open`  | `stream_opened`, `transport_failed`                                   |
| `Read`  | `bytes_received`, `stream_quiet`, `stream_ended`, `transport_failed`  |
| `Close` | `stream_closed`                                                       |
| `Wait`  | `waited`                                                              |
| `Emit`  | `emitted`                                                             |
| `Record`| `recorded`                                                            |
| `Done`  | nothing: the machine has ended with a value                           |
| `Fail`  | nothing: the machine has ended with an error                          |

`Read` and `Emit` are not frozen, because there is one of each for every event of a stream, and a
frozen dataclass takes several times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Union

from flowmaestro_core.errors import Attempt, FlowMaestroError
from flowmaestro_core.http.messages import Request
from flowmaestro_core.records import JournalRow, Key


@dataclass(frozen=True)
class _Sending:
    """Base of `Send` and `Open`: a request, and its timeout in seconds.

    For observers: `attempt` counts the attempts of one call, `path` is the call's (see `Path`),
    and `call` is the same object in all of its attempts.
    """

    request: Request
    timeout: float
    attempt: int = field(default=1, compare=False)
    path: str = field(default="", compare=False, repr=False)
    call: object = field(default=None, compare=False, repr=False)


class Send(_Sending):
    """Send one request and read the whole reply, all within `timeout` seconds."""


class Open(_Sending):
    """Send one request and read the head of the reply within `timeout` seconds.

    The body stays open for `Read`.
    """


LEAST_PATIENCE = 45.0
"""Seconds that a machine gives a stream before it is lost: one and a half of the intervals at
which the server sends keepalives."""


@dataclass
class Read:
    """Read some bytes of the open body, or report that none came within `patience` seconds.

    A body on which none came can be read again; that is no failure. But a transport that must close
    the body then (`patient = False`) waits longer: for `impatient` seconds, if that is not 0.
    """

    patience: float
    impatient: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Close:
    """Release the open body now, whether or not it was read to its end."""


@dataclass(frozen=True)
class Wait:
    """Let `seconds` pass.

    `because` is the failed attempt that is retried afterwards. With `reconnects`, the next request
    reopens a lost event stream. Both are for logs and hooks, but for a 429 in `because`: a batch
    then holds all its requests back.
    """

    seconds: float
    because: Optional[Attempt] = field(default=None, compare=False)
    reconnects: bool = field(default=False, compare=False)


@dataclass
class Emit:
    """Hand `item` to the caller; continue when the caller wants the next one."""

    item: Any


@dataclass(frozen=True)
class Record:
    """Keep `rows` in the journal, all of them or none, then report what it holds.

    Attributes:
        rows: each takes the place of what was recorded of that row before. A row that is `starting`
            must survive a power loss; for the others it is enough that they survive the end of
            the process.
        keys: which rows to return.
        brief: whether to return of these rows no more than their digests and whether they are open.
        execution_ids: the executions whose starts to return.
        state: what a checkpoint keeps, as `save` gets it but for `at`. With a checkpoint, a
            `Record` without it loads what was saved.

    """

    rows: Tuple[JournalRow, ...] = ()
    keys: Tuple[Key, ...] = ()
    brief: bool = False
    execution_ids: Tuple[str, ...] = ()
    state: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class Done:
    """The machine has ended with `value`."""

    value: Any


@dataclass(frozen=True)
class Fail:
    """The machine has ended with `error`, to be raised as it is (its cause is already chained).

    A batch may fail with an exception of the caller's own, which ended the reading of its rows.
    """

    error: FlowMaestroError


Action = Union[Send, Open, Read, Close, Wait, Emit, Record, Done, Fail]

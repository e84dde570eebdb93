"""Following an event stream to its end. One method decides what to do next, whatever happened.

Each report of the driver updates the parts: the queue of events to emit, the facts about the
stream (`facts.py`), and the ending (`ending.py`). Then `_next` computes the deadlines that follow
from the facts (`deadlines.py`), and picks the action, by the first of these rules that applies:

1. The queue is not empty: emit all of it.
2. There is no ending, and the deadline has passed: the ending is a timeout, unless what has already
   arrived has a terminal event, or an event that moves the deadline.
3. There is an ending. A body is open: read what has already arrived, if that may bring a better
   ending, then close the body. A probe may find a better ending: wait until the server allows it,
   and probe, if there is time. Else end.
4. A body is open. No byte came for too long: close it and count it as lost. A probe is due: probe.
   Else read until the first of these times.
5. No body is open. The next connection is due: open it; but if the loss is not reported yet, return
   a `Wait` of 0 s with it first, so that the driver reports it. A probe is due: probe. Else wait
   for the first of these times.

What the table of states (`EventStreamMachine.TRANSITIONS`) does not say:

* A stream whose first opening fails ends with that error. If the error is transient, a probe may
  find another ending first. After a 429 there is no probe, because it would be refused as well.
  In a run, a transient error counts as a lost connection instead, except a daily quota that is used
  up.
* A stream whose server was away for too long (`reconnect_for`) ends with an error, unless a probe
  finds its ending. If the probe is answered and the execution runs, the stream reconnects.
* A probe that is refused ends a stream that had not failed before. (An open stream of a message
  goes on.)
* Some transports lose a quiet body (`Read.impatient`). Their waits for the first event are short
  (`first_event.py`). After each, the execution is probed and the stream opened again. If an event
  comes then, `stream:reconnected` is emitted before it. A stream without events emits none.
* If only a probe has seen that the execution was paused or resumed, that is emitted as an event,
  once.

Openings and probes are machines that the stream owns.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Deque, Dict, List, Mapping, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail, Read, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.payloads.json_values import text_or_empty
from flowmaestro_core.payloads.reply import Reply, is_daily_quota_error, shown_request_id
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.policy.retry import is_transient
from flowmaestro_core.streams.connection import LONGEST_PAUSE, Connection, not_resumed
from flowmaestro_core.streams.deadlines import Deadlines, opening_until
from flowmaestro_core.streams.ending import Certain, Ending, UnlessProbed, UnlessRead
from flowmaestro_core.streams.events import (
    REMEMBERED,
    event_from_sse,
    polled_event,
    terminal_event,
    timeline_part,
)
from flowmaestro_core.streams.facts import StreamFacts
from flowmaestro_core.streams.first_event import FirstEventWaits
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.streams.run_polls import RunPolls
from flowmaestro_core.streams.sse import ServerSentEvent

DRAIN_IDLE = 0.02
"""Seconds without a byte after which the open body is closed if the execution has ended. What the
server had sent before is in the buffers of the system by then; the end of a run is late by it."""
DRAIN_READS = 100
"""How many pieces are read at most of an open body once the execution has ended or the stream has
timed out. A piece has up to 64 KiB, so these are more than the buffers between the server and us
hold as a rule. A server that sends without end cannot keep the stream open."""
DRAIN_OVERTIME = 0.05
"""Seconds after the stream's deadline in which it reads what has already arrived. Half of the time
that a run may take beyond its own deadline (0.1 s): the rest is for its last poll."""
MOST_REMEMBERED = 1000
"""How many events are remembered for `seen_events`: those of a run of 300 nodes. With
`SHORT_EVENT`, a stream then holds about a megabyte at most."""
SHORT_EVENT = 1000
"""The longest event, in characters, that is remembered whole, for `seen_events`.

Only the parts that the timeline needs are remembered of a longer one.
"""


class StreamState(State):
    """The states of `EventStreamMachine`."""

    READY = "ready"
    OPENING = "opening"
    """A connection is made."""
    STREAMING = "streaming"
    """The open body is read."""
    EMITTING = "emitting"
    """The caller has the events that a read, an opening or a probe has brought."""
    DRAINING = "draining"
    """The ending is known. What has already arrived on the open body is read."""
    PROBING = "probing"
    """The execution is polled, or the answer looked for."""
    CLOSING = "closing"
    """The open body is closed."""
    BACKING_OFF = "backing off"
    """No body is open. The next connection or probe is due later."""
    ENDING = "ending"
    """The caller has the terminal event."""
    DONE = "done"
    FAILED = "failed"


_S = StreamState  # Short, for the table.


class EventStreamMachine(Machine[Any]):
    """A machine that emits events up to a terminal one, or ends with an error.

    A lost connection is replaced by a new one. `MessageStreamMachine` has the same table. It sends
    its message in the state `opening`, and replaces no connection.

    `last_seen` is the execution as the last successful probe returned it; `None` before.

    A subclass may override how the stream begins (`_opened`, `_not_opened`, `_replied`), what an
    event means (`_accept_event`), what a probe asks and means (`_probe_machine`, `_apply_probe`,
    `_probe_refused`), and what a loss leads to (`_connection_lost`). It adds events to `_queue` and
    sets the ending with the three methods `_end_...`.
    """

    state: str
    _ANY_RULE = (
        _S.STREAMING,
        _S.DRAINING,
        _S.CLOSING,
        _S.PROBING,
        _S.BACKING_OFF,
        _S.ENDING,
        _S.FAILED,
        _S.OPENING,
    )
    """Every state that `_next` may choose without events in the queue. The most frequent one is
    found first."""
    # The two rows with `_ANY_RULE` constrain nearly nothing, for this reason: all events are
    # emitted before anything else is decided, and a probe may show anything. The other rows have
    # these reasons:
    #
    # * A lost connection is followed by a pause, so `opening` follows at once only if another
    #   request of the same call is sent, or if the body was set aside (`Read.impatient`).
    # * While draining, the ending is known: no probe is sent, and no connection is made.
    # * `ending`, which emits the terminal event, follows only when no body is open. So a caller who
    #   stops there leaves no connection open.
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.OPENING, _S.FAILED)},
        _S.OPENING: {
            "response_received": (_S.OPENING, _S.EMITTING, _S.PROBING, _S.FAILED),
            "stream_opened": (
                _S.OPENING,
                _S.STREAMING,
                _S.EMITTING,
                _S.PROBING,
                _S.DRAINING,
                _S.CLOSING,
            ),
            "transport_failed": (_S.OPENING, _S.PROBING, _S.BACKING_OFF, _S.FAILED),
            "waited": (_S.OPENING,),
            # The body of a response that is not an event stream.
            "bytes_received": (_S.OPENING,),
            "stream_quiet": (_S.OPENING,),
            "stream_ended": (_S.OPENING, _S.EMITTING, _S.PROBING, _S.BACKING_OFF, _S.FAILED),
            "stream_closed": (_S.OPENING, _S.PROBING, _S.BACKING_OFF, _S.FAILED),
        },
        _S.STREAMING: {
            "bytes_received": (_S.STREAMING, _S.EMITTING, _S.PROBING, _S.DRAINING, _S.CLOSING),
            "stream_quiet": (_S.STREAMING, _S.PROBING, _S.CLOSING),
            "stream_ended": (_S.PROBING, _S.BACKING_OFF, _S.FAILED),
            "transport_failed": (_S.OPENING, _S.PROBING, _S.BACKING_OFF, _S.FAILED),
        },
        _S.EMITTING: {"emitted": _ANY_RULE},
        _S.DRAINING: {
            "bytes_received": (_S.DRAINING, _S.EMITTING, _S.CLOSING),
            "stream_quiet": (_S.CLOSING,),
            "stream_ended": (_S.ENDING, _S.FAILED),
            "transport_failed": (_S.ENDING, _S.FAILED),
        },
        _S.PROBING: {
            "response_received": (*_ANY_RULE, _S.EMITTING),
            # No event is queued by a probe that fails, and no ending found but an error.
            "transport_failed": (
                _S.OPENING,
                _S.BACKING_OFF,
                _S.STREAMING,
                _S.DRAINING,
                _S.CLOSING,
                _S.FAILED,
            ),
        },
        _S.CLOSING: {"stream_closed": (_S.ENDING, _S.PROBING, _S.BACKING_OFF, _S.FAILED)},
        _S.BACKING_OFF: {"waited": (_S.OPENING, _S.PROBING, _S.BACKING_OFF, _S.FAILED)},
        _S.ENDING: {"emitted": (_S.DONE,)},
    }

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        polls: Optional[RunPolls] = None,
    ) -> None:
        """Follow `events`.

        Args:
            events: the operation.
            context: the options of the client, and what all its calls share.
            token: a random text, which becomes the `Idempotency-Key` of a POST.
            polls: for the stream of a run: its probes are these polls. A first opening that fails
                counts as a lost connection then. Its call is not retried, and its transient errors
                do not end the stream, except a daily quota that is used up.

        """
        super().__init__(context, token)
        can_probe = events.reconcile is not None
        self._events = events
        self._queue: List[Dict[str, Any]] = []
        """The events to emit, without the terminal one."""
        self._stream = StreamFacts(context.stream_times, can_probe=can_probe, polls=polls)
        self._ending: Optional[Ending] = None
        """How the stream will end, as far as that is known. It is set by `_end_with`,
        `_end_after_reading` and `_end_unless_probed`. Each read changes it (`after_read`). Two
        things may reset it to `None`: a probe that is answered, and an event that moves the
        deadline."""
        self._first_event = FirstEventWaits(can_probe=can_probe)
        self._greeted_on = 0
        """The number of the connection whose `connected` was emitted; 0 if there was none yet. The
        first connection may be lost or set aside before it sends one."""
        self._is_paused = False
        """Whether the caller was told that the execution is paused."""
        self._seen: Deque[Union[ServerSentEvent, Dict[str, Any]]] = deque(maxlen=MOST_REMEMBERED)
        """The last events that a timeline needs, undecoded if they are short."""
        self.execution_id: Optional[str] = events.execution_id
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    @property
    def last_event_id(self) -> str:
        """The last event id that the server sent, for a reconnection; `""` if it sent none."""
        return self._stream.decoder.last_event_id

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self.state in (StreamState.ENDING, StreamState.DONE)

    @property
    def reconnects(self) -> int:
        """How many times `stream:reconnected` was queued."""
        return self._stream.reconnects

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """The last events that a timeline needs, shortened; `None` if there is no execution id.

        They are at most 1,000 events, with the terminal event once it has been emitted.
        """
        if self.execution_id is None:
            return None
        seen = self._seen.copy()  # Another thread may read the stream meanwhile.
        if self.finished:
            seen.append(self._terminal)
        return tuple(map(timeline_part, seen))

    @property
    def _terminal(self) -> Dict[str, Any]:
        """The terminal event, once it has been emitted (`finished`)."""
        last: Dict[str, Any] = cast("Emit", cast("Ending", self._ending).action).items[0]
        return last

    # What happened

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._stream.begin(now, self._events.timeout)
        return self._next(now, jitter)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._stream.heard_at = now
        try:
            decoded = self._stream.decoder.feed(data)
        except StreamError as error:
            # The rest of the body cannot be decoded, so it is not read.
            self._end_with(Fail(error) if self._ending is None else self._ending.action)
            return self._next(now, jitter)
        progressed, has_gap = False, self._stream.has_gap
        for sse in decoded:
            # What follows a terminal event is dropped.
            if self._ending is not None and not isinstance(self._ending, UnlessRead):
                break
            item = event_from_sse(sse)
            if has_gap and item["type"] != "connected":
                has_gap = False
                self._tell_reconnected()
            # To decode it later, if ever, costs less than to take its parts now.
            if item["type"] in REMEMBERED:
                self._seen.append(sse if len(sse.data) <= SHORT_EVENT else timeline_part(item))
            if self._accept_event(item, now):
                progressed = True
        if progressed:
            self._stream.event_came(now)
            self._first_event.seconds = None
        if self._ending is not None and isinstance(self._ending, UnlessRead):
            if isinstance(self._ending.action, Fail) and now < Deadlines(self._stream, now).end_at:
                self._ending = None  # An event has moved the deadline, so this is no timeout.
            else:
                self._ending = self._ending.after_read()
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        if self._ending is not None:
            self._end_with(self._ending.action)  # All that has arrived was read.
        elif now >= Deadlines(self._stream, now).end_at:
            self._end_with(Fail(self._timeout_error()))  # Nothing more has arrived in time.
        return self._next(now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        return self._connection_lost(None, now, jitter)

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        return self._connection_lost(None, now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        if self._ending is None and self._first_event.is_over(failure):
            self._stream.set_aside(now)
            return self._next(now, jitter)
        return self._connection_lost(failure, now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self.state == StreamState.ENDING:
            return self._done(self._terminal)
        self._stream.resumed(now)
        return self._next(now, jitter)

    def abandon(self) -> None:
        super().abandon()
        if self._stream.polls is not None:
            self._stream.polls.abandon()

    def _accept_event(self, item: Dict[str, Any], now: float) -> bool:
        """Queue an event, or make it the ending.

        Return False for `connected`, which does not count as progress. It is queued only on the
        first connection that sends one. Return True for every other event.
        """
        kind = item["type"]
        if kind == "connected":
            # The execution had ended before the connection was made, so no terminal event may come.
            if is_terminal(item):
                self._stream.in_doubt = True
            # Only that of the first connection that sends it is emitted. After a loss,
            # `stream:reconnected` is.
            if self._greeted_on in (0, self._stream.openings):
                self._greeted_on = self._stream.openings
                self._queue.append(item)
            return False
        if kind in self._events.terminal:
            self._end_with(Emit([item]))
        else:
            if kind == "execution:paused":
                self._is_paused = True
            elif kind == "execution:resumed":
                self._is_paused = False
            self._queue.append(item)
        return True

    # The one decision

    def _next(self, now: float, jitter: float) -> Action:
        # Rule 1
        if self._queue:
            self.state = StreamState.EMITTING
            self._stream.paused_at = now
            items, self._queue = self._queue, []
            return Emit(items)
        # Rules 2 and 3
        due = Deadlines(self._stream, now)
        if self._ending is None and now >= due.end_at:
            self._end_after_reading(Fail(self._timeout_error()))
        if self._ending is not None:
            return self._end(self._ending, due, now, jitter)
        # Rules 4 and 5
        connection = self._stream.connection
        # `is_open` would be one more call for each read.
        if connection is not Connection.LIVE and connection is not Connection.OPEN:
            return self._reconnect(due, now, jitter)
        if now >= due.lost_at:
            return self._close()  # `stream_closed` counts it as lost.
        if now >= due.probe_at:
            return self._probe(due, now, jitter)
        self.state = StreamState.STREAMING
        left = min(due.lost_at, due.end_at) - now
        patience = min(left, due.probe_at - now)
        return Read(patience, self._first_event.limit(patience, left))

    def _end(self, ending: Ending, due: Deadlines, now: float, jitter: float) -> Action:
        """Return the next action of a stream that has an ending (rule 3 of `_next`).

        With a body open: if the ending is `UnlessRead`, read what has already arrived, until
        `DRAIN_OVERTIME` seconds after the deadline. Otherwise close the body.

        Without a body: if the ending is `UnlessProbed` and the deadline has not passed, probe if a
        probe is due, or wait for it. Otherwise emit the terminal event or fail. If
        `polls_until_deadline` is False, do not wait for a probe that is due after the deadline, or
        in more than `LONGEST_PAUSE` seconds because the server asked for a long pause: fail.
        """
        if self._stream.is_open:
            left = due.end_at + DRAIN_OVERTIME - now
            if isinstance(ending, UnlessRead) and left > 0:
                self.state = StreamState.DRAINING
                return Read(min(DRAIN_IDLE, left))
            return self._close()
        if isinstance(ending, UnlessProbed) and now < due.end_at:
            if now >= due.probe_at:
                return self._probe(due, now, jitter)
            latest = min(now + LONGEST_PAUSE, due.end_at)
            if self._stream.polls_until_deadline or due.probe_at < latest:
                self.state = StreamState.BACKING_OFF
                return Wait(min(due.probe_at, due.end_at) - now)
        if isinstance(ending.action, Emit):
            self.state = StreamState.ENDING
            return Emit([dict(ending.action.items[0])])  # The caller may change it.
        return self._fail(ending.action.error)

    def _reconnect(self, due: Deadlines, now: float, jitter: float) -> Action:
        """Return the next action of a stream that has no body open and no ending (rule 5).

        The action opens a connection if one is due, else probes if a probe is due, else waits. The
        first wait after a loss reports it, and an opening never comes before that wait.
        """
        stream = self._stream
        if now >= due.open_at and stream.unreported is None:
            return self._open(due, now, jitter)
        if now >= due.probe_at and now < due.open_at:
            return self._probe(due, now, jitter)
        self.state = StreamState.BACKING_OFF
        # A probe may have outlasted the pause. Then this wait takes no time: it reports the loss.
        until = max(now, min(due.open_at, due.probe_at, due.end_at))
        lost, stream.unreported = stream.unreported, None
        if lost is not None:
            lost = lost._replace(delay=max(now, stream.reopen_at) - now)
        return Wait(until - now, lost, reconnects=True)

    # The ending, see `ending.py`

    def _end_with(self, action: Union[Emit, Fail]) -> None:
        """End the stream with `action` as soon as no body is open. No ending replaces this one."""
        self._ending = Certain(action)

    def _end_after_reading(self, action: Union[Emit, Fail]) -> None:
        """End the stream with `action`, once it has read what has arrived on an open body.

        A terminal event that has arrived replaces `action`. An event that moves the deadline
        cancels a timeout. If no body is open, nothing is read.
        """
        if self._stream.is_open:
            self._ending = UnlessRead(action, DRAIN_READS)
        else:
            self._ending = Certain(action)

    def _end_unless_probed(
        self, error: FlowMaestroError, now: float, *, resumes: bool = False
    ) -> None:
        """Fail with `error`, unless a probe finds another ending.

        The probe polls the execution; that of a message looks for the answer in the thread. Call
        this only if no body is open. If nothing can be probed, the stream fails at once. For
        `resumes`, see `UnlessProbed`.
        """
        self._ending = UnlessProbed(Fail(error), resumes)
        self._stream.end_with_probes(now)

    # Opening

    def _open(self, due: Deadlines, now: float, jitter: float) -> Action:
        self.state = StreamState.OPENING
        stream = self._stream
        is_call = stream.connection is Connection.UNOPENED and stream.polls is None
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            max_retries=None if is_call else 0,
            deadline=min(due.end_at, opening_until(stream, due.probe_at, now)),
            headers=stream.headers,
        )
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == StreamState.PROBING:
            return self._probed(outcome, now, jitter)
        if isinstance(outcome, Fail):
            return self._not_opened(outcome.error, now, jitter)
        if isinstance(outcome.value, ResponseHead):
            return self._opened(outcome.value, now, jitter)
        return self._replied(outcome.value, now, jitter)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self.scrubber)
        if self._stream.opened(now):
            self._tell_reconnected()
        return self._next(now, jitter)

    def _tell_reconnected(self) -> None:
        """Queue a `stream:reconnected`, because events may be missing before the next one."""
        item = {"type": "stream:reconnected", "attempt": self._stream.reconnected()}
        self._queue.append(item)
        self._seen.append(timeline_part(item))

    def _replied(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        """Use the reply to an opening: a successful response, but not an event stream.

        The stream fails, unless a probe finds that the execution has ended.
        """
        error = StreamError(
            f"The server answered with status {reply.status_code} and no event stream",
            status_code=reply.status_code,
            request_id=reply.request_id,
        )
        self._end_unless_probed(error, now)
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        """Return the next action after an opening has failed with `error`.

        A permanent error ends the stream. A transient error may instead lead to a reconnection or
        to a probe. After the deadline, the stream times out instead.
        """
        if now >= Deadlines(self._stream, now).end_at:
            return self._next(now, jitter)  # The ending is a timeout, not this error.
        transient = self._is_transient(error)
        # The id of an event is all that differs from the first opening, which was accepted.
        if error.status_code == 431 and self._stream.headers:
            self._stream.sends_id = False  # For this server, it makes the head too large.
            return self._connection_lost(error, now, jitter)
        # A first opening that failed was retried already, as any call.
        may_reopen = self._stream.polls is not None or self._stream.was_open
        if may_reopen and transient and not is_daily_quota_error(error):
            return self._connection_lost(error, now, jitter)
        # The stream may be the only part of the server that fails, so poll the execution. After a
        # 429, a probe would be refused as well.
        if transient and not isinstance(error, RateLimitError):
            self._end_unless_probed(error, now)
        else:
            self._end_with(Fail(error))
        return self._next(now, jitter)

    def _is_transient(self, error: FlowMaestroError) -> bool:
        return is_transient(error, server_known=self._stream.was_open)

    def _connection_lost(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """Plan the next connection after the body was lost, or could not be opened.

        Plan none if there is an ending, or if the server was away for too long. The latter is an
        error, which ends the stream unless a probe succeeds. Return the next action. `cause` is the
        error, or `None` if there was no error: the server ended the body, or sent nothing for too
        long.
        """
        if self._ending is not None:
            # No loss: the body was read as far as it was needed.
            self._stream.connection = Connection.CLOSED
        elif not self._stream.lost(cause, now, jitter):
            reason = f"no progress for {self._context.stream_times.reconnect_for:g} s"
            error = not_resumed(reason, cause, self.scrubber)
            self._end_unless_probed(error, now, resumes=True)
        return self._next(now, jitter)

    # Probing

    def _probe(self, due: Deadlines, now: float, jitter: float) -> Action:
        self.state = StreamState.PROBING
        self._stream.paused_at = now
        until = min(now + self._stream.probe_timeout.seconds(), due.end_at)
        return self._delegate(self._probe_machine(until), now, jitter)

    def _probe_machine(self, until: float) -> Machine[Any]:
        """Return the machine of a probe.

        `until` is the deadline of the probe, on the clock that gives `now`.
        """
        call = cast("Call[Any]", self._events.reconcile)
        return CallMachine(call, self._context, self._token, max_retries=0, deadline=until)

    def _probed(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            self._stream.probe_failed(outcome.error, now)
            if not self._is_transient(outcome.error):
                self._probe_refused(outcome.error)
        else:
            pace = self._context.pace
            pace.replied(outcome.value.rate_limit, now)
            self._stream.probe_answered(pace.pause(now), now)
            self._apply_probe(outcome.value["data"], now)
        if isinstance(self._ending, UnlessProbed) and not self._stream.polls_until_deadline:
            self._end_with(self._ending.action)  # That was the last probe.
        return self._next(now, jitter)

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """End the stream with `error`, which a probe got and every later probe would get, too.

        If the stream has failed already, this was its last probe. Then its own error is raised, and
        `error` is its context.
        """
        if isinstance(self._ending, UnlessProbed):
            self._ending.action.error.__context__ = error
        else:
            self._end_with(Fail(error))

    def _apply_probe(self, data: Any, now: float) -> None:
        """Use the result of a probe: `data` is the execution, as the server returned it.

        If the execution has ended, set the ending. If it still runs, and the stream would have
        failed because the server was away for too long, plan a connection instead. If the execution
        was paused or resumed, and no event has said so, queue an event.

        `MessageStreamMachine` overrides this: its probes return messages.
        """
        self.last_seen = data
        if is_terminal(data):
            self._end_after_reading(Emit([terminal_event(data)]))
            return
        if isinstance(self._ending, UnlessProbed) and self._ending.resumes:
            # The server is back, and the execution still runs.
            self._ending = None
            self._stream.reopen(now)
        status = text_or_empty(data.get("status"))
        if status and (status == "paused") != self._is_paused:
            self._is_paused = not self._is_paused
            kind = "execution:paused" if self._is_paused else "execution:resumed"
            self._queue.append(polled_event(kind, data))

    # Errors

    def _fail(self, error: FlowMaestroError) -> Action:
        error.request_id = error.request_id or self.request_id
        return super()._fail(error)

    def _timeout_error(self) -> FlowMaestroError:
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        said = f"The event stream{whose} did not end in time"
        if self._is_paused:
            said += "; the execution is paused"
        error = TimeoutError(said)
        error.last_execution = self.last_seen
        return error

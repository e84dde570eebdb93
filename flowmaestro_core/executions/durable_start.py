"""The machine of a start with a checkpoint, which another process can continue."""

from __future__ import annotations

import math
from typing import Any, Callable, ClassVar, Literal, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Fail, Load, Save, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    CheckpointConflict,
    CheckpointError,
    FlowMaestroError,
    StartUnknownError,
)
from flowmaestro_core.executions.operation import DurableStart, PageOf
from flowmaestro_core.executions.saved_states import (
    SavedStart,
    StartIdentity,
    checkpoint_unusable,
    read_state,
)
from flowmaestro_core.executions.sending import Sender
from flowmaestro_core.executions.settling import (
    LookupMachine,
    LookupResult,
    WalkEnd,
    baseline_of,
    settle,
    shows_all,
)
from flowmaestro_core.executions.start import (
    ANNOUNCED,
    IN_DOUBT,
    NEW,
    REFUSED,
    STARTED,
    Start,
)
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.records import digest_of
from flowmaestro_core.store import HEADER_KEY, Loaded
from flowmaestro_core.types import Execution

MAX_SETBACKS = 3
"""After this many setbacks, the start ends with an error. A setback is a conflict with another
process or, without a deadline, an announcement of another process that comes during the wait for an
earlier one. Another attempt of the same task causes one or two. If there are more, something saves
to the checkpoint again and again."""
_ANNOUNCED_AGAIN = (
    "It is not known whether the run was started: another process announced a start during the "
    "wait; make the same call again"
)


class DurableState(State):
    """The states of `DurableStartMachine`."""

    READY = "ready"
    LOADING = "loading"
    SAVING = "saving"
    WAITING = "waiting"
    """`settle_after` passes."""
    READING_BASELINE = "reading baseline"
    STARTING = "starting"
    DELAYED = "delayed"
    """The request waits for its next attempt."""
    LOOKING_UP = "looking up"
    ATTACHING = "attaching"
    """The execution is read by its id."""
    DONE = "done"
    FAILED = "failed"


_S = DurableState  # Short, for the table.


class DurableStartMachine(Machine[Reply[Any]]):
    """A scheduler of one start: starts an execution, or finds the one that was started.

    The store is shared: another process may load and save at any time. So this machine loads
    before it acts, and again after each wait and each save that was refused. Events update what is
    known, and `_next` decides. It takes the first of these tasks for which there is something to
    do:

    1. *saving*: save what has changed.
    2. The start is new or announced, and the deadline has passed: it is refused. Begin again at 1.
    3. It is new: *reading baseline*, unless the baseline is known; then announce it, and begin
       again at 1. The baseline is the newest execution of the workflow, which is older than the
       start. For a rerun, it is the execution that is replaced.
    4. It is announced: *starting*, in the window for it. If the window has passed, announce it
       again.
    5. It is in doubt: *waiting* for `settle_after` seconds, then *loading*. If that shows the
       announcement that was waited for: *looking up*.
    6. It is started: end with the reply to the request. Else *attaching*: get the execution. If it
       ended in an earlier call with a status of `rerun`, the start is new: begin again at 1.
    7. It is refused or unknown: end with its error.

    While the request of a start waits for its next attempt, the machine is *delayed*.

    If the start of this process was accepted, and another process has saved a state meanwhile, its
    id is saved all the same, unless the state is `started`.

    Attributes:
        attached: the execution, if this machine read it by its id; `None` if it ends with the reply
            to its own start.

    """

    runs_callers_code = True

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.LOADING,)},
        _S.LOADING: {
            "loaded": (
                _S.SAVING,
                _S.READING_BASELINE,
                _S.WAITING,
                _S.LOOKING_UP,
                _S.ATTACHING,
                _S.FAILED,
            ),
            "store_failed": (_S.FAILED,),
        },
        _S.SAVING: {
            "saved": (_S.SAVING, _S.STARTING, _S.ATTACHING, _S.DONE, _S.FAILED),
            "store_failed": (_S.LOADING, _S.FAILED),
        },
        _S.WAITING: {"waited": (_S.LOADING,)},
        _S.READING_BASELINE: {
            "response_received": (_S.READING_BASELINE, _S.SAVING, _S.FAILED),
            "transport_failed": (_S.READING_BASELINE, _S.FAILED),
            "waited": (_S.READING_BASELINE,),
        },
        _S.STARTING: {
            "response_received": (_S.DELAYED, _S.SAVING, _S.WAITING, _S.FAILED),
            "transport_failed": (_S.DELAYED, _S.SAVING, _S.WAITING, _S.FAILED),
        },
        _S.DELAYED: {"waited": (_S.STARTING, _S.SAVING, _S.FAILED)},
        _S.LOOKING_UP: {
            "response_received": (_S.LOOKING_UP, _S.SAVING, _S.READING_BASELINE, _S.FAILED),
            "transport_failed": (_S.LOOKING_UP, _S.SAVING, _S.READING_BASELINE, _S.FAILED),
            "waited": (_S.LOOKING_UP,),
        },
        _S.ATTACHING: {
            "response_received": (_S.ATTACHING, _S.SAVING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.ATTACHING, _S.FAILED),
            "waited": (_S.ATTACHING,),
        },
    }

    def __init__(
        self, start: DurableStart[Any], context: Context, token: str, deadline: float = math.inf
    ) -> None:
        """`deadline` is the time, on the clock of `now`, after which the start is not sent."""
        super().__init__(context, token)
        self.attached: Optional[Execution] = None
        self._operation = start
        self._checkpoint = cast("Checkpoint", start.checkpoint)
        self._deadline = deadline
        self._start = Start(digest=digest_of(start.body))
        self._identity = StartIdentity(
            context.options.api_root, start.workflow_id, self._start.digest
        )
        self._saved = SavedStart("open", token)
        """The state that was saved or loaded last, with changes to the baseline."""
        self._saved_at = 0.0
        """When the loaded state was saved, on the clock of `now`; minus infinity if that is not
        known, because the clock of the process that saved it was ahead."""
        self._epoch = 0.0
        """The Unix time at 0 on the clock of `now`, since the last load."""
        self._needs_baseline = True
        """Whether the baseline is read before the start is announced."""
        self._awaited: Optional[Tuple[int, float]] = None
        """The `announcement` in a saved state that `settle_after` was waited for, if any."""
        self._sender = Sender(self._checkpoint.settle_after, checkpoint_unusable)
        self._setbacks = 0
        """How many setbacks there were: see `MAX_SETBACKS`."""
        self._reply: Optional[Reply[Any]] = None
        """The reply to the start that this machine made, until another execution is known."""

    # Events

    @event
    def start(self, now: float, jitter: float) -> Action:
        return self._load()

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._load() if self.state == DurableState.WAITING else self._next(now, jitter)

    @event
    def loaded(self, loaded: Loaded, now: float, jitter: float) -> Action:
        newest = self._saved.serial
        (state,) = loaded.states or (None,)
        try:
            saved = read_state(state, self._identity, self._saved.token)
            if saved.serial < newest:
                raise CheckpointError("The checkpoint lost a state: load returned an older one")
            self._saved = saved
            self._epoch = loaded.wall_time - now
            age = loaded.wall_time - saved.at
            # If its clock was ahead of ours, its age is not known, and the walk reads all pages.
            self._saved_at = now - age if age >= 0 else -math.inf
            self._restore(saved, now, is_foreign=saved.serial > newest)
        except FlowMaestroError as error:
            return self._fail(error)
        return self._next(now, jitter)

    @event
    def saved(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter)

    @event
    def store_failed(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if isinstance(error, CheckpointConflict):
            return self._set_back(error)
        refusal = self._start.error
        if self._start.state is REFUSED:
            # The error of the start says what to mend, such as the wrong input.
            error.message += f"; before that, the start failed: {refusal}"
            error.__cause__ = error.__cause__ or refusal
        return self._fail(error)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        if self.state == DurableState.STARTING:
            self._sender.hold_up(self._start, cast("CallMachine", self._park()))
            self.state = DurableState.DELAYED
        return wait

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == DurableState.LOOKING_UP:
            # A lookup never fails: its failure is part of its result.
            self._looked_up(cast("Done", outcome).value, now)
        elif self.state == DurableState.STARTING:
            self._answered(outcome)
        elif isinstance(outcome, Fail):
            return self._fail(outcome.error)
        elif self.state == DurableState.ATTACHING:
            return self._found(outcome.value, now, jitter)
        else:
            self._needs_baseline = False
            self._saved = self._saved._replace(after=baseline_of(outcome.value))
        return self._next(now, jitter)

    # The decision

    def _next(self, now: float, jitter: float) -> Action:
        start = self._start
        if start.state in (NEW, ANNOUNCED) and now >= self._deadline:
            self._sender.expire(start)
        if not self._is_saved:
            return self._save(now)
        if start.state is NEW and self._needs_baseline:
            self.state = DurableState.READING_BASELINE
            newest = cast("PageOf", self._operation.page_of)(1, 1)
            return self._delegate(self._machine_of(newest, self._deadline), now, jitter)
        if start.state in (NEW, ANNOUNCED):
            try:
                is_due = self._sender.announce((start,), now)
            except CheckpointError as error:
                return self._fail(error)
            return self._save(now) if is_due else self._send(now, jitter)
        if start.state is IN_DOUBT:
            if self._awaited == self._saved.announcement:
                return self._look_up(now, jitter)
            self.state = DurableState.WAITING
            self._awaited = self._saved.announcement
            return Wait(self._checkpoint.settle_after)
        if start.state is STARTED:
            return self._attach(now, jitter) if self._reply is None else self._done(self._reply)
        return self._fail(cast("FlowMaestroError", start.error))

    def _fail(self, error: FlowMaestroError) -> Action:
        """Fail with `error`, or with a `StartUnknownError` if a start may have been processed.

        Otherwise the caller would take an error without an `execution_id` to mean that nothing was
        started.
        """
        start = self._start
        was_lost = start.state is IN_DOUBT and start.error is not None
        if (start.may_run or was_lost) and not isinstance(error, StartUnknownError):
            error = start.unknown((), error)
        return super()._fail(error)

    # The checkpoint

    def _load(self) -> Action:
        self.state = DurableState.LOADING
        return Load((HEADER_KEY,))

    def _restore(self, saved: SavedStart, now: float, *, is_foreign: bool) -> None:
        """Use the state that was loaded; `is_foreign`: another process has saved it meanwhile.

        Raises `CheckpointError` if another process has saved the id of another execution than this
        one has started, and `StartUnknownError` if other processes announce the start again and
        again.
        """
        start = self._start
        if self._reply is not None:
            if saved.state != "started":
                # Another process took over, but the execution of this process runs.
                return
            if saved.execution_id != start.execution_id:
                raise CheckpointError(
                    f"Another process has started {saved.execution_id!r} meanwhile, and saved "
                    f"its id; the start of this call, {start.execution_id!r}, runs as well",
                    "checkpoint_conflict",
                )
        self._reply = None
        start.restore(saved.state, saved.execution_id, saved.reruns)
        if is_foreign and start.state is IN_DOUBT:
            # The other process has settled what this call has sent, and announced its own start.
            start.sent_here = False
        self._needs_baseline = start.state is NEW
        if start.state is IN_DOUBT and self._awaited not in (None, saved.announcement):
            # A process that cannot send its request announces its start again and again.
            is_late = now >= self._deadline
            if self._deadline == math.inf:
                self._setbacks += 1
                is_late = self._setbacks == MAX_SETBACKS
            if is_late:
                raise StartUnknownError(_ANNOUNCED_AGAIN)

    @property
    def _is_saved(self) -> bool:
        """Whether the store has what it must have before the next step.

        It need not have the start as new, because it will have it as `starting` next.
        """
        start = self._start
        return start.state not in (STARTED, REFUSED) or start.stage == self._saved.state

    def _save(self, now: float) -> Action:
        start = self._start
        self.state = DurableState.SAVING
        self._saved = self._saved._replace(
            state=cast("Literal['open', 'starting', 'started']", start.stage),
            execution_id=start.execution_id,
            reruns=start.reruns,
            serial=self._saved.serial + 1,
            at=round(self._epoch + now, 3),
        )
        return Save((self._saved.as_dict(self._identity),))

    def _set_back(self, error: CheckpointConflict) -> Action:
        """Load the checkpoint again, because another process has saved a state first.

        `error` is the conflict. After too many setbacks (`MAX_SETBACKS`), fail instead.
        """
        self._setbacks += 1
        if self._setbacks == MAX_SETBACKS:
            conflict = CheckpointError(
                f"Other processes saved to the checkpoint {MAX_SETBACKS} times meanwhile",
                "checkpoint_conflict",
            )
            conflict.__cause__ = error
            return self._fail(conflict)
        if self._deadline == math.inf:
            # An announcement that the load shows is part of this setback, not the next one.
            self._awaited = None
        # The store has not kept this state, so its serial number is free.
        self._saved = self._saved._replace(serial=self._saved.serial - 1)
        self._sender.parked = None
        return self._load()

    # The start

    def _machine_of(
        self, call: Call[Any], deadline: float, token: Optional[str] = None
    ) -> CallMachine:
        """Return the machine of a call. In a run, the call is repeated until it is sent."""
        return CallMachine(
            call,
            self._context,
            token or self._token,
            deadline=deadline,
            until_sent=self._deadline < math.inf,
        )

    def _send(self, now: float, jitter: float) -> Action:
        self.state = DurableState.STARTING
        token = self._start.token(self._saved.token)
        call = self._sender.send(
            self._start, lambda: self._machine_of(self._operation, self._deadline, token)
        )
        return self._delegate(call, now, jitter)

    def _answered(self, outcome: Union[Done, Fail]) -> None:
        """Update the start, after its call has ended with `outcome`."""
        start = self._start
        if isinstance(outcome, Fail):
            start.fail(outcome.error)
            return
        start.answer(outcome.value, self.scrubber)
        if start.state is STARTED:
            self.execution_id, self._reply = start.execution_id, outcome.value

    # The lookup

    def _look_up(self, now: float, jitter: float) -> Action:
        self.state = DurableState.LOOKING_UP
        page_of = cast("PageOf", self._operation.page_of)
        end = WalkEnd(self._saved.after, self._saved_at)
        digests = {self._start.digest: 1}
        look_up = LookupMachine(page_of, end, digests, self._context, self._token, has_known=False)
        return self._delegate(look_up, now, jitter)

    def _looked_up(self, found: LookupResult, now: float) -> None:
        """Settle the start by the result of a lookup.

        If the list is empty, and another process has sent the request, start the workflow again
        with the start still unknown: if the key is that of another workspace (`settle`), the server
        refuses that, and the store keeps `starting`.
        """
        start, baseline = self._start, self._saved.after
        is_whole = shows_all(found, baseline)
        starts_unknown = self._checkpoint.on_unknown == "start" or (is_whole and found.is_empty)
        starts_unknown = starts_unknown and now < self._deadline
        settle([start], found, is_whole=is_whole, starts_unknown=starts_unknown)
        if start.state is STARTED:
            self.execution_id = start.execution_id
        if start.state is NEW:
            self._needs_baseline = baseline is None

    # The execution that was started

    def _attach(self, now: float, jitter: float) -> Action:
        self.state = DurableState.ATTACHING
        self.execution_id = self._start.execution_id
        late = now >= self._deadline  # Settling may take longer than the deadline.
        deadline = now + LAST_POLL_TIMEOUT if late else self._deadline
        call = self._call_of(cast("str", self.execution_id))
        return self._delegate(self._machine_of(call, deadline), now, jitter)

    def _found(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        execution = reply["data"]
        if not self._start.sent_here and execution["status"] in self._checkpoint.rerun:
            # The list may not show this execution yet, but it is older than the next start.
            self._saved = self._saved._replace(after=self.execution_id)
            self._start.end()
            self._start.rerun()
            self.execution_id, self._needs_baseline = None, False
            return self._next(now, jitter)
        self.attached = cast("Execution", execution)
        workflow_id = execution.get("workflow_id") or self._operation.workflow_id
        reply["data"] = {**execution, "execution_id": self.execution_id, "workflow_id": workflow_id}
        return self._done(reply)

    def _call_of(self, execution_id: str) -> Call[Any]:
        return cast("Callable[[str], Call[Any]]", self._operation.attach)(execution_id)

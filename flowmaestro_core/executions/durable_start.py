"""The machine of a start with a checkpoint, which another process can continue."""

from __future__ import annotations

import math
from typing import Any, Callable, ClassVar, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Fail, Load, Save, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    CheckpointConflict,
    CheckpointError,
    FlowMaestroError,
    StartUnknownError,
    TimeoutError,
)
from flowmaestro_core.executions.operation import DurableStart, PageOf
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.saved_states import SavedStart, StartIdentity, read_state
from flowmaestro_core.executions.settling import (
    Follow,
    LookupMachine,
    LookupResult,
    Unknown,
    WalkEnd,
    settle,
)
from flowmaestro_core.executions.starts import (
    LEAST_TIMEOUT,
    is_fatal,
    is_harmless,
    may_have_started,
)
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT
from flowmaestro_core.machine import Machine, Transitions, event
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply, missing_id_error
from flowmaestro_core.records import digest_of
from flowmaestro_core.store import HEADER_KEY, Loaded
from flowmaestro_core.types import Execution

MAX_SETBACKS = 3
"""After this many setbacks, the start ends with an error. A setback is a conflict with another
process, a save that takes too long or, without a deadline, an announcement of another process that
comes during the wait for an earlier one."""
_UNKNOWN = "It is not known whether the run was started"
_ANNOUNCED_AGAIN = (
    f"{_UNKNOWN}: another process announced a start during the wait; make the same call again"
)


class DurableStartMachine(Machine[Reply[Any]]):
    """Starts an execution, or finds the one that was started with the same checkpoint.

    It announces each start before the request is sent: it saves the state `starting`. Afterwards it
    saves the id of the execution. A process that finds an announcement without an id waits until
    the server must list the execution. Then it reads the list of executions, newest first, down to
    the newest one before the announcement (the baseline). What a loaded state means:

    * nothing, or `open`: nothing was started. Read the baseline, announce, start.
    * `started`: get the execution. If its status is in `rerun`, and this machine has neither
      started nor found it, it is the baseline of the next start; else return it.
    * `starting`: wait for `settle_after` and load again. If no other state was saved meanwhile,
      look for the execution: return the one with equal inputs, or announce and start again if there
      is certainly none. If that is not known, fail; with `on_unknown="start"`, start again.

    After a start that the server refused, the state is `open` again. After a start whose response
    was lost, the state is still `starting`, and this machine itself looks for the execution. If
    another process has saved a state first, this machine loads again. If this machine has started
    an execution by then, it saves the id of that one, unless the loaded state is `started`.

    A request goes out within half of `settle_after` after its announcement, so that the execution
    can be listed when another process looks for it. A start that is delayed for longer is announced
    again. If another process has taken over meanwhile, a store that can compare then refuses the
    announcement.

    The attributes that `__init__` sets hold state that `TRANSITIONS` does not show.

    Attributes:
        attached: the execution, if this machine read it by its id; `None` if it ends with the reply
            to its own start.

    """

    runs_callers_code = True

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        "ready": {"start": ("loading",)},
        "loading": {
            "loaded": (
                "reading baseline",
                "attaching",
                "waiting",
                "looking up",
                "saving id",
                "failed",
            ),
            "store_failed": ("failed",),
        },
        "waiting": {"waited": ("loading",)},
        "looking up": {
            "response_received": (
                "looking up",
                "announcing",
                "reading baseline",
                "saving id",
                "releasing",
                "failed",
            ),
            "transport_failed": (
                "looking up",
                "announcing",
                "reading baseline",
                "failed",
            ),
            "waited": ("looking up",),
        },
        "reading baseline": {
            "response_received": ("reading baseline", "announcing", "failed"),
            "transport_failed": ("reading baseline", "failed"),
            "waited": ("reading baseline",),
        },
        "announcing": {
            "saved": ("starting", "announcing", "releasing", "failed"),
            "store_failed": ("loading", "failed"),
        },
        "starting": {
            "response_received": ("delayed", "saving id", "releasing", "waiting", "failed"),
            "transport_failed": ("delayed", "releasing", "waiting", "failed"),
        },
        "delayed": {"waited": ("starting", "announcing", "releasing", "failed")},
        "saving id": {
            "saved": ("done", "attaching"),
            "store_failed": ("loading", "failed"),
        },
        "releasing": {
            "saved": ("failed",),
            "store_failed": ("loading", "failed"),
        },
        "attaching": {
            "response_received": ("attaching", "announcing", "done", "failed"),
            "transport_failed": ("attaching", "failed"),
            "waited": ("attaching",),
        },
    }

    def __init__(
        self, start: DurableStart[Any], context: Context, token: str, deadline: float = math.inf
    ) -> None:
        """`deadline` is the time, on the clock of `now`, after which the start is not sent."""
        super().__init__(context, token)
        self.attached: Optional[Execution] = None
        self._start = start
        self._checkpoint = cast("Checkpoint", start.checkpoint)
        self._deadline = deadline
        # The row of a batch of one, for `settle`.
        digest = digest_of(start.body)
        self._row = Row(0, None, 0, start.body, digest, subject="the run")
        self._identity = StartIdentity(
            context.options.api_root, start.workflow_id, self._row.digest
        )
        self._saved = SavedStart("open", token)
        """The state that was saved or loaded last."""
        self._saved_at = 0.0
        """When the loaded state was saved, on the clock of `now`."""
        self._epoch = 0.0
        """The Unix time at 0 on the clock of `now`, since the last load."""
        self._awaited: Optional[Tuple[int, float]] = None
        """The `announcement` in a saved state that `settle_after` was waited for, if any."""
        self._send_before = 0.0
        """Before this time the request must be sent, and its response must be received: half of
        `settle_after` after the last save of an announcement began."""
        self._least_timeout = LEAST_TIMEOUT
        """`LEAST_TIMEOUT`, or less if there is little time for all. The start is not sent at all if
        the deadline is so near. Half of it is enough for the next attempt of a start that was
        delayed: the last one is planned for `LAST_ATTEMPT_TIMEOUT` before the deadline, and clocks
        wake late."""
        self._setbacks = 0
        """How many setbacks there were: see `MAX_SETBACKS`."""
        self._may_rerun = False
        """Whether `rerun` applies. It does to an execution in a loaded state, but not to one that
        this machine has started or found."""
        self._may_run = False
        """Whether a start may have been processed whose execution is not known, as far as this
        machine knows."""
        self._delayed: Optional[CallMachine] = None
        """The call of the start, while it waits for its next attempt; else `None`."""
        self._reply: Optional[Reply[Any]] = None
        """The reply to the start that this machine made, until another execution is known."""
        self._start_error: FlowMaestroError
        """The error of a start that started nothing, until the checkpoint is `open` again."""

    # What happens

    @event
    def start(self, now: float, jitter: float) -> Action:
        shortest = min(self._checkpoint.settle_after, self._deadline - now)
        self._least_timeout = min(LEAST_TIMEOUT, shortest / 4)
        return self._load()

    @event
    def waited(self, now: float, jitter: float) -> Action:
        if self.state == "waiting":
            return self._load()
        # The call of the start is due for its next attempt.
        return self._send(now, jitter) if self._has_time(now) else self._announce(now)

    @event
    def loaded(self, loaded: Loaded, now: float, jitter: float) -> Action:
        newest = self._saved.serial
        (state,) = loaded.states or (None,)
        try:
            saved = read_state(state, self._identity, self._saved.token)
            if saved.serial < newest:
                raise CheckpointError("The checkpoint lost a state: load returned an older one")
        except CheckpointError as error:
            return self._fail(error)
        self._saved = saved
        self._row.reruns = saved.reruns
        self._epoch = loaded.wall_time - now
        self._saved_at = now - max(loaded.wall_time - saved.at, 0.0)
        return self._continue_from(saved, now, jitter)

    @event
    def saved(self, now: float, jitter: float) -> Action:
        if self.state == "announcing":
            return self._announced(now, jitter)
        if self.state == "releasing":
            return self._fail(self._start_error)
        if self._reply is not None:
            return self._done(self._reply)
        return self._attach(now, jitter)

    @event
    def store_failed(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if isinstance(error, CheckpointConflict):
            return self._set_back(error)
        if self.state == "releasing":
            # The error of the start says what to mend, such as the wrong input.
            error.message += f"; before that, the start failed: {self._start_error}"
            error.__cause__ = error.__cause__ or self._start_error
        return self._fail(error)

    def _fail(self, error: FlowMaestroError) -> Action:
        """Fail with `error`, or with a `StartUnknownError` if a start may have been processed.

        Otherwise the caller would take an error without an `execution_id` to mean that nothing was
        started.
        """
        if self._may_run and not isinstance(error, StartUnknownError):
            failures = " and then ".join(str(it) for it in (self._row.failure, error) if it)
            unknown = StartUnknownError(f"{_UNKNOWN}: {failures}; make the same call again")
            unknown.__cause__ = error
            error = unknown
        return super()._fail(error)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        if self.state == "starting":
            self._delayed = cast("CallMachine", self._park())
            self.state = "delayed"
        return wait

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "looking up":
            return self._looked_up(outcome, now, jitter)
        if self.state == "starting":
            return self._answered(outcome, now)
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        if self.state == "attaching":
            return self._found(outcome.value, now)
        baseline: Optional[str] = ""
        for newest in outcome.value["data"][:1]:
            baseline = text_or_empty(object_or_empty(newest).get("id")) or None
        self._saved = self._saved._replace(after=baseline)
        return self._announce(now)

    # The checkpoint

    def _load(self) -> Action:
        self.state = "loading"
        return Load((HEADER_KEY,))

    def _continue_from(self, saved: SavedStart, now: float, jitter: float) -> Action:
        """Return the next action, after the state `saved` was loaded."""
        if self._reply is not None and saved.state != "started":
            # Another process took over, but the execution of this process runs: record that one.
            return self._save_id(cast("str", self.execution_id), now)
        if saved.state == "open":
            return self._read_baseline(now, jitter)
        if saved.state == "started":
            if self._reply is not None and saved.execution_id != self.execution_id:
                return self._fail(
                    CheckpointError(
                        f"Another process has started {saved.execution_id!r} meanwhile, and saved "
                        f"its id; the start of this call, {self.execution_id!r}, runs as well",
                        "checkpoint_conflict",
                    )
                )
            self._may_rerun = saved.execution_id != self.execution_id
            self._may_run = False
            return self._attach(now, jitter)
        if self._awaited is None:
            return self._wait_until_listed()
        if self._awaited != saved.announcement:
            return self._wait_again(now)
        self.state = "looking up"
        page_of = cast("PageOf", self._start.page_of)
        end = WalkEnd(saved.after, self._saved_at)
        digests = {self._row.digest: 1}
        look_up = LookupMachine(page_of, end, digests, self._context, self._token, has_known=False)
        return self._delegate(look_up, now, jitter)

    def _save(self, state: str, saved: SavedStart, now: float) -> Action:
        self.state = state
        at = round(self._epoch + now, 3)
        self._saved = saved._replace(serial=saved.serial + 1, at=at)
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
        # The store has not kept this state, so its serial number is free.
        self._saved = self._saved._replace(serial=self._saved.serial - 1)
        self._delayed = None
        return self._load()

    # The start

    def _read_baseline(self, now: float, jitter: float) -> Action:
        """Read the newest execution of the workflow, as the baseline.

        Every execution that is started later is newer.
        """
        self.state = "reading baseline"
        newest = cast("PageOf", self._start.page_of)(1, 1)
        return self._delegate(self._machine_of(newest, self._deadline), now, jitter)

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

    def _announce(self, now: float) -> Action:
        self._send_before = now + self._checkpoint.settle_after / 2
        starting = self._saved._replace(state="starting", execution_id=None)
        return self._save("announcing", starting, now)

    def _announced(self, now: float, jitter: float) -> Action:
        if self._has_time(now):
            return self._send(now, jitter)
        # The save took so long that another process may look for the execution already.
        self._setbacks += 1
        if self._setbacks < MAX_SETBACKS:
            return self._announce(now)
        said = f"save took longer than half of settle_after, {MAX_SETBACKS} times"
        return self._fail(CheckpointError(f"The checkpoint cannot be used: {said}"))

    def _has_time(self, now: float) -> bool:
        """Return whether enough time is left to send the start without another announcement."""
        return now + self._least_timeout <= self._send_before

    def _send(self, now: float, jitter: float) -> Action:
        delayed, self._delayed = self._delayed, None
        least = self._least_timeout if delayed is None else self._least_timeout / 2
        if now + least > self._deadline:
            return self._too_late(None if delayed is None else delayed.last_failure, now)
        self.state = "starting"
        if delayed is not None:
            delayed.send_before = self._send_before
            return self._resume(delayed, now, jitter)
        token = self._row.token(self._saved.token)
        call = self._machine_of(self._start, self._deadline, token)
        call.send_before = self._send_before
        return self._delegate(call, now, jitter)

    def _answered(self, outcome: Union[Done, Fail], now: float) -> Action:
        """Return the next action after the call that starts the execution has ended with `outcome`.

        If the reply has a usable execution id, save it. Otherwise settle a start that may have been
        processed (`_in_doubt`), or fail with the error of one that started nothing (`_release`).
        """
        if isinstance(outcome, Fail):
            error = outcome.error
            starts_nothing = is_harmless(self._row, error) or not may_have_started(error)
            if is_fatal(error) or starts_nothing:
                return self._release(error, now)
            return self._in_doubt(error)
        reply: Reply[Any] = outcome.value
        execution_id: Any = reply["data"].get("execution_id")
        try:
            self._call_of(execution_id)
        except (TypeError, ValueError) as cause:
            return self._in_doubt(self.scrubber.clean(missing_id_error(reply, cause)))
        self._reply = reply
        return self._save_id(execution_id, now)

    def _in_doubt(self, error: FlowMaestroError) -> Action:
        """Begin to settle a start that may have been processed: wait. `error` is its failure."""
        self._row.failure = error
        self._may_run = True
        return self._wait_until_listed()

    def _wait_until_listed(self) -> Action:
        """Return a `Wait` of `settle_after` seconds.

        Afterwards, the server lists the execution for certain, if one was started.
        """
        self.state = "waiting"
        self._awaited = self._saved.announcement
        return Wait(self._checkpoint.settle_after)

    def _wait_again(self, now: float) -> Action:
        """Wait again, because another process has announced a start during the wait.

        A process that cannot send its request announces its start again and again. Once the
        deadline has passed, fail instead. Without a deadline, this counts as a setback: see
        `MAX_SETBACKS`.
        """
        is_late = now >= self._deadline
        if self._deadline == math.inf:
            self._setbacks += 1
            is_late = self._setbacks == MAX_SETBACKS
        if is_late:
            return self._fail(StartUnknownError(_ANNOUNCED_AGAIN))
        return self._wait_until_listed()

    def _release(self, error: FlowMaestroError, now: float) -> Action:
        """Save in the checkpoint that nothing was started. Afterwards, fail with `error`.

        If an earlier start may have been processed (`on_unknown="start"`), save nothing and fail at
        once: a repeated call then looks for the execution of that start.
        """
        if self._may_run:
            return self._fail(error)
        self._start_error = error
        return self._save("releasing", self._saved._replace(state="open"), now)

    def _too_late(self, failure: Optional[FlowMaestroError], now: float) -> Action:
        """Fail, because the deadline leaves too little time to send the start.

        `failure` is the error of an earlier attempt; `None` if there was none.
        """
        late = TimeoutError("The execution could not be started within the timeout, and was not")
        if failure is not None:
            late.__cause__, late.attempts = failure, failure.attempts
        return self._release(late, now)

    def _save_id(self, execution_id: str, now: float) -> Action:
        self.execution_id = execution_id
        self._may_run = False
        started = self._saved._replace(state="started", execution_id=execution_id)
        return self._save("saving id", started, now)

    # The lookup

    def _looked_up(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        # A lookup never fails: its failure is part of its result.
        found: LookupResult = cast("Done", outcome).value
        baseline = self._saved.after
        if found.failure is None and (baseline == "" or (baseline is None and found.dated)):
            # The list has every execution since the announcement, even if it shows no older one.
            found = found._replace(is_conclusive=True)
        may_start = self._checkpoint.on_unknown == "start" and now < self._deadline
        (conclusion,) = settle([self._row], found, start_unknown=may_start)
        if isinstance(conclusion, Follow):
            self._may_rerun = False
            return self._save_id(conclusion.execution_id, now)
        if isinstance(conclusion, Unknown):
            return self._fail(conclusion.error)
        self._row.not_found(conclusion.refusal)
        self._may_run = not conclusion.is_certain
        if now >= self._deadline:
            return self._too_late(self._row.failure, now)
        if baseline is None:
            return self._read_baseline(now, jitter)
        return self._announce(now)

    # The execution that was started

    def _attach(self, now: float, jitter: float) -> Action:
        self.state = "attaching"
        self._reply = None
        self.execution_id = self._saved.execution_id
        late = now >= self._deadline  # Settling may take longer than the deadline.
        deadline = now + LAST_POLL_TIMEOUT if late else self._deadline
        call = self._call_of(cast("str", self.execution_id))
        return self._delegate(self._machine_of(call, deadline), now, jitter)

    def _found(self, reply: Reply[Any], now: float) -> Action:
        execution = reply["data"]
        if self._may_rerun and execution["status"] in self._checkpoint.rerun:
            # The list may not show this execution yet, but it is older than the next start.
            baseline, self.execution_id = self.execution_id, None
            self._row.reruns += 1
            self._saved = self._saved._replace(after=baseline, reruns=self._row.reruns)
            return self._announce(now)
        self.attached = cast("Execution", execution)
        workflow_id = execution.get("workflow_id") or self._start.workflow_id
        reply["data"] = {**execution, "execution_id": self.execution_id, "workflow_id": workflow_id}
        return self._done(reply)

    def _call_of(self, execution_id: str) -> Call[Any]:
        return cast("Callable[[str], Call[Any]]", self._start.attach)(execution_id)

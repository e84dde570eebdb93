"""A start: one unit of work that must be started once. Its states, and the rules of each event.

`Start` sends nothing and saves nothing. Two schedulers use it: a batch (`batch.py`) has one for
each row, a run with a checkpoint (`durable_start.py`) has a single one. A scheduler tells it what
has happened, and acts by its `state`.

| state | stored as | meaning | this call | the next call begins with |
|---|---|---|---|---|
| new | nothing, or `open` (1) | nothing was started | announces it, in its turn | new (1) |
| announced | `starting` | the store has it; the request is not out | sends it | in doubt |
| sent | `starting` | the request may be processed | waits for the response | in doubt |
| in doubt | `starting` | an execution may run | reads the server's list | in doubt |
| started | `started` | the id of its execution is known | waits for the end | started |
| ended | `ended` | its outcome is known | says so, or `rerun` | ended |
| refused | `open` | nothing was started; `error` says why | says so | new |
| unknown | `starting` | nobody can tell; `error` says why | says so, or `start_anyway` | in doubt |

(1) After `miss`, `start_anyway` and `rerun`, the store keeps what it had until the next save, and
the next call begins with that. So it is until a batch saves `started`, with what follows. With a
checkpoint, a start whose execution has ended stays started: `end` comes only before `rerun`.

Events, by the state in which they may come; each is a method. `TRANSITIONS` lists them: it has
`fail` as `refuse` and `doubt`, `answer` as `accept` and `doubt`.

* new, announced: `announce`, before the store saves `starting`: announced. So again, if that save
  or a delay took too long (`Sender`); the third slow save in a row ends the call, and the store
  keeps `starting`. `refuse`, if it cannot be sent, or not in time: refused. `withdraw`, if a batch
  stops or is closed: new, saved as `open` if it can still save; never with a checkpoint.
* announced: `send`: sent.
* sent: `hold_up`, if nothing was processed and this call tries again later: announced. `accept`, if
  the response has an id: started. `doubt`, if it has none: in doubt. `fail`, for an error: refused
  if certainly nothing was started (`maybe_processed`, `refusal`), else in doubt. `is_fatal` (key,
  workflow, certificate; not an outage) or a 429 beyond the deadline stops a batch: no outcome.
* in doubt: `settle_after` seconds later the list shows every execution. `settle` takes those with
  equal inputs that belong to no other start. No more than there are such starts: the first start
  gets the oldest one (`find`: started), and those left over were not made (`miss`: new, to be
  started again; after `MAX_RESTARTS`: refused). More of them, a list that fails or is not read back
  to one from before, if any, or, if there are fewer, an entry without an id: `give_up`: unknown.
  If it is and was empty: `miss` if only this call sent it, and knows no execution, else `give_up`.
* unknown: `start_anyway`, right after `give_up`, for `on_unknown="start"` or, with a checkpoint,
  for an empty list without a known execution from before (another workspace's key is refused): new.
* started: `end`: ended, or, in a batch without credits, refused with an outcome; the batch stops.
* ended: `rerun`, for `rerun=` and, in a batch, for inputs that changed (`redo=`): new. With
  `redo=`, a changed row that the store has as `starting` or `started` stops the batch.
* all but sent, ended and unknown: `restore`, after a load: new, in doubt, started or ended. A batch
  loads each row once; a conflict (another process saved first) ends it at once. With a checkpoint,
  the state is loaded again after a wait or a conflict. The third setback (`MAX_SETBACKS`) ends the
  call: a conflict or, without a deadline, an announcement of another process during the wait. Until
  then, an id given to this call is saved all the same; if the store has another one, it fails.

Five things do not show in the state:

* `may_run`: an earlier request may have been processed, because the start was unknown. `find`,
  `accept`, `miss` and `restore`, unless from `starting`, end that. Meanwhile `refuse` and
  `withdraw` lead to unknown, so that the store keeps `starting` for the next call.
* `was_processed`: the response had no usable id. This call then has no `miss` or `start_anyway`.
* `sent_here`: this call has announced it last, and sent it. `rerun` is for other executions alone.
* `restarts`: how often this call has started it again, by `miss` or `start_anyway`: at most 3.
* `refusal`: a 500 after which a lookup has found nothing. An equal one is known to start nothing.

Without a store, nothing is saved and nothing is looked up: the error of a start in doubt is final.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Dict, Optional, Tuple

from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    FlowMaestroError,
    InsufficientCreditsError,
    NotFoundError,
    ServerError,
    StartUnknownError,
    ValidationError,
)
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.urls import path
from flowmaestro_core.machine import LocalProtocolError, State, Transitions
from flowmaestro_core.payloads.reply import NonJsonBody, Reply, missing_id_error
from flowmaestro_core.policy.retry import maybe_processed
from flowmaestro_core.records import Key
from flowmaestro_core.store import Stage

MAX_RESTARTS = 3
"""How often one call starts again what lookups did not find: as often as a call is retried by
default. Each time costs a wait of `settle_after`."""
KEY_ERRORS = (AuthenticationError, AuthorizationError, InsufficientCreditsError)
FATAL_ERRORS = (*KEY_ERRORS, NotFoundError)
"""Errors that every further start would fail with as well."""
INVALID_WORKFLOW = "Workflow validation failed"
"""The beginning of the message of a 400 for an invalid workflow, which refuses every start
(`docs/api-facts.md`). Every other 400 is about the inputs of one row."""


class StartState(State):
    """The states of a start: see the module."""

    NEW = "new"
    ANNOUNCED = "announced"
    SENT = "sent"
    IN_DOUBT = "in doubt"
    STARTED = "started"
    ENDED = "ended"
    REFUSED = "refused"
    UNKNOWN = "unknown"


NEW = StartState.NEW
ANNOUNCED = StartState.ANNOUNCED
SENT = StartState.SENT
IN_DOUBT = StartState.IN_DOUBT
STARTED = StartState.STARTED
ENDED = StartState.ENDED
REFUSED = StartState.REFUSED
UNKNOWN = StartState.UNKNOWN
_STORED_AS: Dict[StartState, Stage] = {
    NEW: "open",
    ANNOUNCED: "starting",
    SENT: "starting",
    IN_DOUBT: "starting",
    STARTED: "started",
    ENDED: "ended",
    REFUSED: "open",
    UNKNOWN: "starting",
}
_RESTORED: Dict[Stage, StartState] = {
    "open": NEW,
    "starting": IN_DOUBT,
    "started": STARTED,
    "ended": ENDED,
}


class Start:
    """One unit of work that must be started once: see the module for its states and events.

    Attributes:
        state: its state.
        key: identifies it in the store, and makes its `Idempotency-Key`.
        digest: of its inputs, to compare them with those of executions; empty until it is known.
        number: that of its last start, in the order of all starts of the store. If `may_run`, the
            number of its first start that may have been processed.
        reruns: how many executions it has had that a later start replaces: for `rerun` or `redo`,
            or for a lack of credits.
        refusal: the digest of its inputs and of a server error after which a lookup has shown that
            no execution was started; `""` if there is none.
        execution_id: the id of its execution, in the states started and ended.
        error: the failure that put it in doubt in this call, or that refused it, or a
            `StartUnknownError`; `None` if there is none.
        was_processed: the server has accepted it, but without a usable id.
        may_run, sent_here, restarts: see the module, also for `refusal`.

    """

    TRANSITIONS: ClassVar[Transitions] = {
        NEW: {
            "restore": (NEW, IN_DOUBT, STARTED, ENDED),
            "announce": (ANNOUNCED,),
            "withdraw": (NEW, UNKNOWN),
            "refuse": (REFUSED, UNKNOWN),
        },
        ANNOUNCED: {
            "restore": (NEW, IN_DOUBT, STARTED),
            "announce": (ANNOUNCED,),
            "send": (SENT,),
            "withdraw": (NEW, UNKNOWN),
            "refuse": (REFUSED, UNKNOWN),
        },
        SENT: {
            "hold_up": (ANNOUNCED,),
            "accept": (STARTED,),
            "refuse": (REFUSED, UNKNOWN),
            "doubt": (IN_DOUBT,),
        },
        IN_DOUBT: {
            "restore": (NEW, IN_DOUBT, STARTED),
            "find": (STARTED,),
            "miss": (NEW,),
            "give_up": (UNKNOWN,),
        },
        STARTED: {
            "restore": (NEW, IN_DOUBT, STARTED),
            "end": (ENDED, REFUSED),
        },
        ENDED: {"rerun": (NEW,)},
        REFUSED: {"restore": (NEW, IN_DOUBT, STARTED)},
        UNKNOWN: {"start_anyway": (NEW,)},
    }

    __slots__ = (
        "digest",
        "error",
        "execution_id",
        "key",
        "may_run",
        "number",
        "refusal",
        "reruns",
        "restarts",
        "sent_here",
        "state",
        "was_processed",
    )

    def __init__(self, key: Key = 0, digest: str = "") -> None:
        self.state: StartState = NEW
        self.key: Key = key
        self.digest: str = digest
        self.number: int = 0
        self.reruns: int = 0
        self.refusal: str = ""
        self.execution_id: Optional[str] = None
        self.error: Optional[FlowMaestroError] = None
        self.may_run: bool = False
        self.sent_here: bool = False
        self.was_processed: bool = False
        self.restarts: int = 0

    @property
    def name(self) -> str:
        """Its name in errors."""
        return "the run"

    @property
    def stage(self) -> Stage:
        """Its state as the store keeps it."""
        return _STORED_AS[self.state]

    def token(self, common: str) -> str:
        """Return the `Idempotency-Key` of the request.

        It is derived from `common`, the random text of the store, and from the key and the reruns.
        """
        name = str(self.key)
        if isinstance(self.key, str):
            name = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        return f"{common}-{name}-{self.reruns}" if self.reruns else f"{common}-{name}"

    # Events

    def restore(self, stage: Stage, execution_id: Optional[str], reruns: int) -> None:
        """Take over what the store holds.

        If it is still `starting`, a request that this call has sent may have been processed as
        before. Else, another process has found out what became of that.
        """
        self._go("restore", _RESTORED[stage])
        self.execution_id, self.reruns = execution_id, reruns
        if stage != "starting":
            self.error, self.may_run = None, False

    def announce(self) -> None:
        """Note that `starting` is saved next."""
        self._go("announce", ANNOUNCED)

    def withdraw(self) -> None:
        """Note that this call does not start it."""
        self._go("withdraw", UNKNOWN if self.may_run else NEW)

    def refuse(self, error: FlowMaestroError) -> None:
        """Note that nothing was started, because of `error`: now, or, if `may_run`, at last."""
        self._go("refuse", UNKNOWN if self.may_run else REFUSED)
        self.error = self.unknown((), error) if self.may_run else error

    def send(self) -> None:
        """Note that the request goes out next."""
        self._go("send", SENT)
        self.sent_here, self.was_processed = True, False

    def hold_up(self) -> None:
        """Note that the request was not processed so far, and is sent again later."""
        self._go("hold_up", ANNOUNCED)

    def answer(self, reply: Reply[Any], scrubber: SecretScrubber) -> None:
        """Note the response to the request: `accept` if it has a usable id, else `doubt`.

        Without an id, the execution runs but cannot be followed.
        """
        found: Any = reply["data"].get("execution_id")
        try:
            path("{execution_id}", execution_id=found)
        except (TypeError, ValueError) as cause:
            self.doubt(scrubber.clean(missing_id_error(reply, cause)))
            self.was_processed = True
        else:
            self.accept(found)

    def accept(self, execution_id: str) -> None:
        """Note that the server has started an execution."""
        self._go("accept", STARTED)
        self.execution_id, self.may_run = execution_id, False
        self.refusal = ""  # These inputs can be started, so the next server error may come later.

    def fail(self, error: FlowMaestroError) -> None:
        """Note that the request has failed with `error`."""
        if is_fatal(error) or self._is_harmless(error) or not maybe_processed(error):
            self.refuse(error)
        else:
            self.doubt(error)
            # A reply that cannot be read: the status alone says so (`docs/api-facts.md`).
            self.was_processed = error.status_code == 202

    def doubt(self, error: FlowMaestroError) -> None:
        """Note that the request may have been processed. `error` says why that is not known."""
        self._go("doubt", IN_DOUBT)
        self.error = error

    def find(self, execution_id: str) -> None:
        """Note the execution that a lookup has found."""
        self._go("find", STARTED)
        self.execution_id, self.may_run = execution_id, False

    def miss(self) -> None:
        """Note that a lookup has shown that nothing was started. It is started again.

        If this call has started it again `MAX_RESTARTS` times, it is refused with the last error.
        """
        self._go("miss", NEW)
        # If the same server error comes again, it is known to start nothing.
        self.refusal = self._refusal_of(self.error)
        self.may_run = False
        if self.restarts >= MAX_RESTARTS and self.error is not None:
            self.refuse(self.error)
        else:
            self.restarts += 1

    def give_up(self, candidates: Tuple[Any, ...], failure: Optional[FlowMaestroError]) -> None:
        """Note that a lookup cannot tell. `failure` is that of the lookup, if it failed.

        `candidates` are the executions that may be its own.
        """
        self._go("give_up", UNKNOWN)
        self.error, self.may_run = self.unknown(candidates, failure or self.error), True

    def start_anyway(self) -> bool:
        """Start it again, although it may have been started (`on_unknown="start"`).

        Return False, and do nothing, if it is not unknown, if the server has accepted it, or if
        this call has started it again `MAX_RESTARTS` times.
        """
        is_over = self.was_processed or self.restarts >= MAX_RESTARTS
        if self.state is not UNKNOWN or is_over:
            return False
        self._go("start_anyway", NEW)
        self.restarts += 1
        return True

    def end(self, error: Optional[FlowMaestroError] = None) -> None:
        """Note that the execution has ended. `error`: for lack of credits, so it is started again.

        Nothing of `error` is kept here: it is part of the outcome. As after `rerun`, the next start
        has another `Idempotency-Key`, since the server has processed this one.
        """
        self._go("end", ENDED if error is None else REFUSED)
        self.reruns += error is not None

    def rerun(self) -> None:
        """Forget the ended execution. The new start has another `Idempotency-Key`."""
        self._go("rerun", NEW)
        self.reruns += 1
        self.execution_id = None

    # Judgements

    def unknown(
        self, candidates: Tuple[Any, ...], cause: Optional[FlowMaestroError]
    ) -> StartUnknownError:
        """Return the error of a start that may have been made, but is not known to have been.

        `candidates` are the executions that may be its own; `cause` is the last failure.
        """
        error = StartUnknownError(
            f"It is not known whether {self.name} was started: "
            f"{len(candidates)} executions could be it"
            + ("" if cause is None else f"; the last failure: {cause}")
        )
        error.candidates = candidates
        error.__cause__ = cause
        return error

    def _is_harmless(self, error: FlowMaestroError) -> bool:
        """Return whether it is known that a request that fails with `error` starts nothing.

        That is known if an earlier request with equal inputs failed with an equal error, and a
        conclusive lookup afterwards found no execution: the server fails on these inputs before it
        starts one.
        """
        return self.refusal != "" and self._refusal_of(error) == self.refusal

    def _refusal_of(self, error: Optional[FlowMaestroError]) -> str:
        """Return a digest of the inputs and of a 500's code and message, or `""`.

        Return `""` for any other error or `None`, and for a 500 whose body is empty or not JSON:
        such a body comes from a gateway, and says nothing about the inputs.
        """
        if not isinstance(error, ServerError) or error.status_code != 500 or error.body == "":
            return ""
        if isinstance(error.details, NonJsonBody) or error.code == "invalid_response":
            return ""
        said = f"{self.digest}\n{error.code}\n{error.message}"
        return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=16).hexdigest()

    def _go(self, event: str, to: StartState) -> None:
        # Not an assertion, which `python -O` leaves out: it is the last guard of a second start.
        if to not in self.TRANSITIONS[self.state].get(event, ()):
            raise LocalProtocolError(f"A start that is {self.state} cannot take {event!r} to {to}")
        self.state = to


def is_fatal(error: FlowMaestroError) -> bool:
    """Return whether every further start would fail with this error as well."""
    if isinstance(error, ValidationError) and error.code == "validation_error":
        return error.message.startswith(INVALID_WORKFLOW)
    cause = error.__cause__
    if isinstance(cause, TransportFailure) and cause.permanent:
        # An untrusted certificate, or a 407. To repeat refused credentials may lock an account.
        return cause.phase is Phase.NOT_SENT
    return isinstance(error, FATAL_ERRORS)

"""The results that callers get: ended executions, and the outcomes and progress of a batch."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Dict,
    Generic,
    Iterable,
    Literal,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    TypeVar,
    cast,
    overload,
)

from flowmaestro_core.errors import ExecutionError, FlowMaestroError
from flowmaestro_core.handles import AsyncItems, SyncItems
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.secrets import REDACTED, is_secret_member
from flowmaestro_core.payloads.hints import HintingDict
from flowmaestro_core.payloads.json_values import hidden_member
from flowmaestro_core.types import ExecutionStatus

__tracebackhide__ = True  # pytest shows the lines of the test instead.

Self = TypeVar("Self")
T = TypeVar("T")
Outputs = TypeVar("Outputs")

if TYPE_CHECKING:
    # Type checkers know this module, installed or not; at run time, no default is needed.
    from typing_extensions import TypeVar as TypeVarWithDefault

    Outputs_co = TypeVarWithDefault("Outputs_co", covariant=True, default=Optional[Dict[str, Any]])
else:
    Outputs_co = TypeVar("Outputs_co", covariant=True)


class EndedExecution(HintingDict, Generic[Outputs_co]):
    """An ended execution: a dict, JSON-serialisable, picklable, equal to the plain dict.

    It has the keys of `Execution`; `id`, `status`, `outputs` and `error` are attributes, too. The
    error for a missing key or an unknown attribute says what to write instead.

    Its type parameter is the type of its outputs: `EndedExecution` alone is one whose outputs may
    be `None`, and `raise_for_status` returns an `EndedExecution[Dict[str, Any]]`.

    Its `repr` has the id, the status, the duration, and short outputs and error, in which possible
    credentials are redacted. `print` shows everything. A notebook shows the timeline, too.
    """

    seen_events: Optional[Tuple[Mapping[str, Any], ...]] = None
    """The events that `workflows.run` has kept for the timeline; `None` if it read no stream of
    this execution."""
    _name = "execution"
    _inner = ("outputs", "inputs")

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["id", "workflow_id", "created_at"]) -> str: ...
        @overload
        def __getitem__(self, key: Literal["status"]) -> ExecutionStatus: ...
        @overload
        def __getitem__(self, key: Literal["inputs"]) -> Dict[str, Any]: ...
        @overload
        def __getitem__(self, key: Literal["outputs"]) -> Outputs_co: ...
        @overload
        def __getitem__(
            self, key: Literal["error", "started_at", "completed_at"]
        ) -> Optional[str]: ...
        @overload
        def __getitem__(self, key: str) -> Any: ...
        def __getitem__(self, key: str) -> Any: ...

    @property
    def id(self) -> str:
        """The id of the execution."""
        return self["id"]

    @property
    def status(self) -> ExecutionStatus:
        """The status of the execution: `completed`, `failed` or `cancelled`."""
        return self["status"]

    @property
    def outputs(self) -> Outputs_co:
        """The outputs by name, `{}` for none; usually `None` if the execution did not complete."""
        return self["outputs"]

    @property
    def error(self) -> Optional[str]:
        """The server's reason for a failure, as a text for people; `None` if there is none."""
        return self["error"]

    def raise_for_status(self: EndedExecution[Optional[Outputs]]) -> EndedExecution[Outputs]:
        """Return this execution if it completed. Its `outputs` are then a dict, never `None`.

        Raises `ExecutionError` if it failed or was cancelled. Its message has the server's reason,
        its attribute `execution` is this execution.
        """
        status = self.get("status")
        if status == "completed":
            return cast("EndedExecution[Outputs]", self)
        line = SecretScrubber().line
        reason = self.get("error")
        said = f": {line(str(hidden_member('', reason)))}" if reason else ""
        verb = "was" if status == "cancelled" else "has the status"
        text = "failed" if status == "failed" else f"{verb} {line(str(status))}"
        error = ExecutionError(f"Execution {line(str(self.get('id')))} {text}{said}")
        error.execution, error.status, error.execution_id = self, status, self.get("id")
        raise error

    def outputs_as(self, make: Callable[[Any], T]) -> T:
        """Return `make(outputs)`, for outputs with a type of your own.

        `make` is for example `Invoice.model_validate` of a pydantic model. It gets the outputs as
        the server sent them, or `{}` if it sent none. Raises `ExecutionError`, as
        `raise_for_status`, if the execution did not complete. An exception of `make` is raised as
        it is; on Python 3.11 and later, it gets a note that names the execution.
        """
        outputs: Any = self.raise_for_status().get("outputs")
        try:
            return make(outputs)
        except Exception as error:
            add_note = getattr(error, "add_note", None)  # Python 3.11
            if add_note is not None:
                name = SecretScrubber().line(str(self.get("id")))
                add_note(f"These are the outputs of execution {name}")
            raise

    def __repr__(self) -> str:
        from flowmaestro_core.showing.texts import duration_of

        took = duration_of(self)
        name, said = (_SHORT.repr(str(self.get(key)))[1:-1] for key in ("id", "status"))
        said += "" if took is None else f" in {took}"
        for key in ("outputs", "error"):
            if self.get(key) is not None:
                said += f", {key} {_SHORT.repr(self[key])}"
        return f"<Execution {name}: {said}>"

    def __str__(self) -> str:
        return super().__repr__()

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import execution_html

        return execution_html(self, self.seen_events)


class _Short(reprlib.Repr):
    """A short repr that redacts possible credentials.

    It reads only a few values of a long dict or list.
    """

    def repr_dict(self, x: Dict[Any, Any], level: int) -> str:
        from heapq import nsmallest

        first = nsmallest(self.maxdict + 1, x, key=str)
        hides = {key for key in first if x[key] is not None and is_secret_member(str(key))}
        shown = {str(key): REDACTED if key in hides else x[key] for key in first}
        return super().repr_dict(shown, level)

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(hidden_member("", x), level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def ended(
    execution: Mapping[str, Any], seen_events: Optional[Iterable[Mapping[str, Any]]] = None
) -> EndedExecution:
    """Return an ended execution in the form that callers get.

    `seen_events` are the events for its timeline, if its stream was followed.
    """
    made = EndedExecution(execution)
    if seen_events is not None:
        made.seen_events = tuple(seen_events)
    return made


@dataclass(frozen=True, repr=False)
class RunOutcome:
    """The result of one row of a batch.

    Attributes:
        index: the index of the row in the inputs, or of the execution in `wait_many`, from 0.
        inputs: the row itself, as it was passed; `None` for `wait_many`.
        execution_id: the id of its execution; `None` if none is known.
        execution: the ended execution, whatever its status; `None` if its end was not seen.
        error: the error of this row; `None` if there was none. A failed execution is not an error,
            except one that failed for a lack of credits.
        replayed: whether the outcome was read from the journal. An earlier call has yielded it, or
            ended before it could, so your code may or may not have handled it.

    """

    index: int
    inputs: Any = None
    execution_id: Optional[str] = None
    execution: Optional[EndedExecution] = None
    error: Optional[FlowMaestroError] = None
    replayed: bool = False

    def __repr__(self) -> str:
        """Return a repr without inputs and outputs, which may be long."""
        ended = "running" if self.execution is None else self.execution["status"]
        said = type(self.error).__name__ if self.error is not None else ended
        name = f" {self.execution_id}" if self.execution_id else ""
        return f"<RunOutcome {self.index}:{name} {said}{', replayed' if self.replayed else ''}>"

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import outcome_html

        return outcome_html(self)

    @property
    def ok(self) -> bool:
        """Whether the execution has ended with the status `completed`."""
        ended = self.execution
        return self.error is None and ended is not None and ended["status"] == "completed"

    @property
    def status(self) -> Optional[ExecutionStatus]:
        """The status of the ended execution; `None` if its end was not seen."""
        return None if self.execution is None else self.execution["status"]

    @property
    def outputs(self) -> Optional[Dict[str, Any]]:
        """The outputs of the execution; `None` if there are none."""
        return None if self.execution is None else self.execution["outputs"]

    def result(self) -> EndedExecution:
        """Return the ended execution, whether it completed, failed or was cancelled.

        Raises `error` if there is one, and `FlowMaestroError` (code `not_ended`) if the execution
        still runs.
        """
        if self.error is not None or self.execution is None:
            raise self.error or FlowMaestroError("This execution has not ended", "not_ended")
        return self.execution


@dataclass(frozen=True)
class BatchProgress:
    """The progress of a batch.

    Attributes:
        done: how many outcomes were delivered, failed ones included.
        failed: how many of these are not `ok`.
        in_flight: how many executions are running.
        total: the number of rows; `None` if it is not known.
        seconds_left: an estimate of the seconds until the end, from the pace so far and the rate
            limit of the key; `None` if it is unknown.
        in_doubt: how many rows are in doubt: they may have been started, and are settled last. 0
            without a journal.
        day_ends_after: after how many rows the requests that the key has left today will be used
            up, at the pace so far, if that is before the last row; else `None`. The batch is not
            slowed, because the server does not say when its day ends.

    """

    done: int
    failed: int
    in_flight: int
    total: Optional[int]
    seconds_left: Optional[float]
    in_doubt: int = 0
    day_ends_after: Optional[int] = None


def still_runs(outcome: RunOutcome) -> bool:
    """Return whether an outcome is that of an execution that has not ended, for `on_start`."""
    return outcome.execution is None and outcome.error is None


def day_ends(progress: BatchProgress) -> str:
    """Return the sentence that says that the requests of the day will not suffice."""
    after = progress.day_ends_after or 0
    about = int(float(f"{after:.1e}"))  # Two digits: it is an estimate.
    return (
        f"the key's requests of this day are used up after about {about:,} of {progress.total:,} "
        "rows at this rate"
    )


class _Runs(Protocol):
    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """The executions that run, and those whose outcomes were not delivered, with their ids.

        The property can also be read after `close()`, and after an exception in the iteration.
        """
        ...

    @property
    def progress(self) -> BatchProgress:
        """The progress of the batch, at any time and from any thread."""
        ...

    def __len__(self) -> int:
        """Return the number of rows of the batch. Raises `TypeError` if it is not known."""
        ...


class RunOutcomes(_Runs, SyncItems[RunOutcome], Protocol):
    """The outcomes of a batch, yielded one by one. To leave early, call `close` or use `with`.

    Executions that still run are not cancelled, and are in `in_flight`. If `close` is called while
    another thread is in `next` or in a callback, that thread unlocks the journal afterwards.
    """

    def __enter__(self: Self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def close(self) -> None:
        """Stop now. Running executions continue, and stay in `in_flight`. May be called twice."""
        ...


class AsyncRunOutcomes(_Runs, AsyncItems[RunOutcome], Protocol):
    """The outcomes of a batch, yielded one by one.

    To leave an `async for` early, await `close` or use `async with`.

    Executions that still run are not cancelled, and are in `in_flight`.
    """

    def __aenter__(self: Self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]: ...
    def close(self) -> Coroutine[Any, Any, None]:
        """Stop now. Running executions continue, and stay in `in_flight`. May be called twice."""
        ...

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Do the same as `close`."""
        ...

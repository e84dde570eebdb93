"""Workflows: reading them and running them."""

from __future__ import annotations

from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    FrozenSet,
    Iterable,
    Mapping,
    Optional,
    Sized,
    Union,
    cast,
)

from flowmaestro_core.arguments import (
    check_callback,
    check_choice,
    check_count,
    check_plain_function,
    check_seconds,
    check_several,
    file_path,
    flag,
    mapping,
    rerun_statuses,
)
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.checkpoint import SETTLE_AFTER, Checkpoint, check_checkpoint
from flowmaestro_core.executions.operation import Batch, DurableStart, PageOf, Run
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.records import JournalPlan, OnUnknown, PathLike
from flowmaestro_core.resources.executions import (
    DEFAULT_WAIT_TIMEOUT,
    Executions,
    listed_executions,
    waiting_for,
)
from flowmaestro_core.resources.listing import iterate_pages, list_call
from flowmaestro_core.store import AsyncStore, Store
from flowmaestro_core.types import (
    ExecuteWorkflowResponse,
    ExecutionEvent,
    ExecutionStatus,
    Workflow,
)

if TYPE_CHECKING:
    from flowmaestro_core.resources.typed_starts import (
        execute_endpoint,
        run_endpoint,
        run_many_endpoint,
    )
else:
    execute_endpoint = run_endpoint = endpoint
    run_many_endpoint = iterating_endpoint

__tracebackhide__ = True  # pytest shows the lines of the test instead.


class Workflows(Resource[D]):
    """`client.workflows`. Needs the scope `workflows:read`.

    To start a workflow, the key needs the scope `workflows:execute` too. `run` and `run_many` also
    need `executions:read`.
    """

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Workflow]]:
        """List workflows, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        return list_call("/workflows", page, per_page, shapes.workflow)

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[Workflow]:
        """Iterate over all workflows, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(Workflows.list, per_page)

    @endpoint
    def get(self, workflow_id: str) -> Call[Reply[Workflow]]:
        """Get one workflow. `input_schema` describes its inputs as a JSON Schema object.

        It is `None` if the server sends neither a schema nor the workflow's `inputs`. Raises
        `NotFoundError` if there is no such workflow.
        """
        where = path("/workflows/{workflow_id}", workflow_id=workflow_id)
        return Call("GET", where, shape=shapes.workflow)

    @execute_endpoint
    def execute(
        self,
        workflow_id: str,
        inputs: Optional[Mapping[str, Any]] = None,
        *,
        idempotency_key: Optional[str] = None,
        checkpoint: Optional[Checkpoint] = None,
    ) -> Call[Reply[ExecuteWorkflowResponse]]:
        """Start a run of one workflow; `data["execution_id"]` is its id.

        Without a `checkpoint`, each call starts an execution, so the SDK retries only when
        certainly nothing was started.

        With a `checkpoint`, the same call again returns the execution that was started, with its
        present `data["status"]`, whether it runs or has ended (unless `rerun` of the checkpoint
        lists its status): see `docs/durable.md`. The key then needs the scope `executions:read`. If
        the reply to a start was lost, or an earlier process died during the start, the call takes
        at least `settle_after` seconds longer.

        Args:
            inputs: the workflow's inputs by name; values that JSON can express.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out. Not
                with a `checkpoint`, which stores its own.
            checkpoint: stores the state of the start, so that a repeated call finds the execution.

        Raises:
            NotFoundError: there is no such workflow; with a `checkpoint`, the execution that was
                started no longer exists.
            ValidationError: the workflow is invalid, or the server refuses the inputs.
            CheckpointError: the checkpoint cannot be used. If `error.execution_id` is `None`, this
                call started nothing.
            StartUnknownError: with a checkpoint, it is not known whether the execution was started.

        """
        body = _body_of(inputs)
        if checkpoint is None:
            return _start(workflow_id, body, idempotency_key)
        check_checkpoint(checkpoint)
        if idempotency_key is not None:
            raise ValueError("idempotency_key must be left out: the checkpoint keeps its own")
        return DurableStart(
            **vars(_start(workflow_id, body)),
            checkpoint=checkpoint,
            workflow_id=workflow_id,
            attach=Executions.get,
            page_of=_pages_of(workflow_id),
        )

    @run_endpoint
    def run(
        self,
        workflow_id: str,
        inputs: Optional[Mapping[str, Any]] = None,
        on_event: Optional[Callable[[ExecutionEvent], Any]] = None,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        *,
        idempotency_key: Optional[str] = None,
        checkpoint: Optional[Checkpoint] = None,
    ) -> Run:
        """Execute a workflow, follow its events, and return the ended execution.

        A failed or cancelled execution is returned like a completed one: check `status`. While the
        event stream is open, a 429 on a poll does not end the run, even if the daily quota is used
        up: the stream may still deliver the terminal event in time. (A 429 for the daily quota ends
        `wait_for_completion`.)

        With a `checkpoint`, the same call again follows the execution that was started, or returns
        it if it has ended (unless `rerun` of the checkpoint lists its status): see
        `docs/durable.md`. If the reply to a start was lost, or an earlier process died during the
        start, the call may take longer than `timeout`: by `settle_after` seconds and the time for
        reading the list of executions.

        Args:
            inputs: the workflow's inputs by name; values that JSON can express.
            on_event: called with each event as it comes; on an async client it may be a
                coroutine function.
            timeout: seconds to wait in all, from this call on. The execution goes on after that.
            idempotency_key: sent as `Idempotency-Key` on every attempt of the start; random when
                left out. Not with a `checkpoint`, which stores its own.
            checkpoint: stores the state of the start, so that a repeated call finds the execution.

        Raises:
            NotFoundError: there is no such workflow; with a `checkpoint`, the execution that was
                started no longer exists.
            ValidationError: the workflow is invalid, or the server refuses the inputs.
            TimeoutError: the execution did not end within `timeout`. It continues;
                `error.execution_id` is its id. If that is `None`, the start timed out; without a
                `checkpoint`, an execution may have been started.
            CheckpointError: the checkpoint cannot be used. If `error.execution_id` is `None`, this
                call started nothing.
            StartUnknownError: with a checkpoint, it is not known whether the execution was started.

        """
        check_seconds("timeout", timeout)
        check_callback("on_event", on_event)
        return Run(
            execute=Workflows.execute(
                workflow_id, inputs=inputs, idempotency_key=idempotency_key, checkpoint=checkpoint
            ),
            events=Executions.stream,
            waiting=partial(Executions.wait_for_completion, timeout=timeout),
            timeout=timeout,
            listener=on_event,
        )

    @run_many_endpoint
    def run_many(
        self,
        workflow_id: str,
        inputs: Iterable[Optional[Mapping[str, Any]]],
        *,
        concurrency: int = 8,
        poll_interval: Optional[float] = None,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        ordered: bool = False,
        on_start: Optional[Callable[[RunOutcome], Any]] = None,
        progress: Optional[Callable[[BatchProgress], Any]] = None,
        journal: Union[str, PathLike, Store, AsyncStore, None] = None,
        key: Optional[Callable[[Any], Union[int, str]]] = None,
        rerun: Iterable[ExecutionStatus] = (),
        redo: Iterable[int] = (),
        on_unknown: OnUnknown = "error",
        settle_after: float = SETTLE_AFTER,
        checkpoint: None = None,
    ) -> Batch:
        """Run a workflow once for each of many rows, and yield a `RunOutcome` for each as it ends.

        Each outcome has the `index` of its row and the row itself, `inputs`. Failed and cancelled
        executions are yielded like completed ones: check `ok`. An error of one row is the `error`
        of its outcome and does not end the others. A 429 on a poll may also be the `error` of other
        executions in flight: of those whose `timeout` ends before the key may be used again.
        Requests go out one after another, within the key's rate limit; after a 429 the batch waits.
        Without a `journal`, a start that may have been processed is never retried. A start that was
        certainly not sent is retried until it times out if the server has responded to this client
        before, otherwise as any call.

        An error that every further start would fail with, too (the key, a scope, credits, the daily
        quota, an unknown or invalid workflow, an untrusted certificate, a 407 of a proxy) stops new
        starts. Executions in flight are followed to their end, then the error is raised. The SDK
        cancels nothing: executions that run when you leave the iteration continue, and are in
        `in_flight`.

        With a `journal`, the same call with the same rows continues after a crash: see
        `docs/batches.md`.

        Args:
            inputs: the rows: the inputs of each run by name; values that JSON can express. An
                iterator is read only as its rows can be started (with a journal up to about 1,300
                rows further), so it may be endless. An `Exception` that it raises stops new starts,
                too, and so does one that a signal handler raises while it runs, such as a time
                limit. A `BaseException` ends the batch at once.
            concurrency: how many executions may be in flight at a time.
            poll_interval: seconds between two polls, never fewer; more only if the rate limit
                demands it. Left out: for one or two executions in flight as in
                `executions.wait_for_completion`; for more, 5 seconds, or about a third of the time
                that most executions take, if that is less, and at least 1 second.
            timeout: seconds to wait for each execution, from its start, or from when this call
                finds it in the journal. The request that starts it has the same limit, from the
                time at which it is due.
            ordered: yield outcomes in the order of the rows instead of that of their ends. Starts
                then run at most four times `concurrency` rows ahead of the next outcome.
            on_start: called with an outcome as soon as an execution has an id, also if an earlier
                call with the journal has started it; on an async client it may be a coroutine
                function, and so may `progress`.
            progress: called with a `BatchProgress` before each outcome is delivered, and about
                every second while rows in doubt are settled, which comes last.
            journal: path of a file that records each start and each end; or a store of yours with
                the methods of `Store` (on an async client also of `AsyncStore`), which keeps them
                in a database that other machines can reach.
            key: with a journal, a function that returns a `str` or an `int` that identifies a row,
                so that rows may move. By default a row is identified by its index, and new rows go
                to the end.
            rerun: with a journal, the statuses (`"failed"`, `"cancelled"`) of ended executions of
                earlier calls whose rows are started again.
            redo: with a journal, the indices (from 0, as `RunOutcome.index`) of rows that are
                started again if their inputs differ from the journal's. A row that was started and
                has changed raises `JournalError` if it is not among them, or if its earlier
                execution may still run.
            on_unknown: with a journal, what to do if a lookup cannot show whether a row was
                started: `"error"` makes its error a `StartUnknownError`; `"start"` starts it, three
                times at most.
            settle_after: with a journal, seconds after which the server lists every execution that
                it has accepted.
            checkpoint: must be left out; a batch has a `journal` instead.

        Raises while iterating:
            NotFoundError: there is no such workflow.
            ValidationError: the workflow is invalid (code `validation_error`).
            AuthenticationError: the server refuses the key.
            AuthorizationError: the key lacks a scope.
            InsufficientCreditsError: the account does not have enough credits.
            RateLimitError: a 429 on a start asks for a longer wait than the start has left of
                `timeout`; a 429 on a poll asks for a longer wait than all of `timeout`, and is the
                `error` of rows, too; or the daily quota is used up.
            JournalError: the journal belongs to another batch, is in use, is damaged, or cannot be
                written; or a row differs from the journal's, or has the key of another row.

        An outcome's `error` may be any error of `execute` or `wait_for_completion`, and besides:
            ValidationError: JSON cannot express the row (code `invalid_input`).
            TimeoutError: the start was not accepted within `timeout`; or the execution did not end
                within it, and continues.
            StartUnknownError: see `on_unknown`.

        """
        if checkpoint is not None:
            raise TypeError(  # pyright: ignore[reportUnreachable]
                "checkpoint is for one run; a batch keeps a file: pass journal=path"
            )
        _start(workflow_id, b"")  # raises for a bad id
        check_several("inputs", inputs, of="dicts")
        total = len(inputs) if isinstance(inputs, Sized) else None
        check_count("concurrency", concurrency)
        waiting = waiting_for(poll_interval, timeout)
        check_callback("on_start", on_start)
        check_callback("progress", progress)
        check_plain_function("key", key)
        check_seconds("settle_after", settle_after)
        return Batch(
            waiting,
            listed_executions,
            timeout,
            inputs=inputs,
            encode=_body_of,
            start=partial(_start, workflow_id),
            page_of=_pages_of(workflow_id),
            workflow_id=workflow_id,
            poll_interval=poll_interval,
            concurrency=concurrency,
            ordered=flag("ordered", ordered),
            total=total,
            on_start=on_start,
            progress=progress,
            journal=_plan(journal, workflow_id, key, rerun, settle_after, on_unknown, redo, total),
        )


def _start(
    workflow_id: str, body: bytes, idempotency_key: Optional[str] = None
) -> Call[Reply[ExecuteWorkflowResponse]]:
    return Call(
        "POST",
        path("/workflows/{workflow_id}/execute", workflow_id=workflow_id),
        body,
        repeatable=False,
        shape=shapes.started_execution,
        idempotency_key=idempotency_key,
    )


def _pages_of(workflow_id: str) -> PageOf:
    return lambda page, per_page: Executions.list(
        page=page, per_page=per_page, workflow_id=workflow_id
    )


def _body_of(inputs: Optional[Mapping[str, Any]]) -> bytes:
    return json_body(inputs=mapping("inputs", inputs) or {})


def _plan(
    journal: Union[str, PathLike, Store, AsyncStore, None],
    workflow_id: str,
    key: Optional[Callable[[Any], Union[str, int]]],
    rerun: Iterable[ExecutionStatus],
    settle_after: float,
    on_unknown: OnUnknown,
    redo: Iterable[int],
    total: Optional[int],
) -> Optional[JournalPlan]:
    """Return the plan of a journal, after checking the arguments that concern it.

    Return `None` if there is no journal. `total` is the number of rows; `None` if it is not known.
    Raises `TypeError` or `ValueError` for a bad argument, or for one that needs a journal and is
    passed without it.
    """
    check_choice("on_unknown", on_unknown, "error", "start")
    statuses = rerun_statuses("rerun", rerun)
    indices = _indices(redo, None if journal is None else total)
    given = (key, statuses, on_unknown, settle_after, indices)
    if journal is None and given != (None, (), "error", SETTLE_AFTER, frozenset()):
        raise ValueError(
            "key, rerun, redo, on_unknown and settle_after are for a journal; pass journal= as well"
        )
    if journal is None:
        return None
    store = _store("journal", journal)
    return JournalPlan(store, workflow_id, key, statuses, settle_after, on_unknown, indices)


def _store(name: str, value: Any) -> Union[str, Store]:
    """Return a path as a `str`, or a store. Raise `TypeError` for anything else."""
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        return file_path(name, value)
    methods = ("load", "save", "known")
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    kind = type(value).__name__
    if isinstance(value, Checkpoint):
        raise TypeError(f"{name} must be a path or a store; a {kind} is for one run")
    if isinstance(value, type):
        raise TypeError(f"{name} must be a path or a store, not the class {value.__name__}")
    if missing:
        raise TypeError(
            f"{name} must be a path or a store, not {kind}: it has no method {missing[0]}()"
        )
    return cast("Store", value)


def _indices(redo: Iterable[int], total: Optional[int]) -> FrozenSet[int]:
    """Return the indices in `redo`, each once.

    Raises `TypeError` or `ValueError` unless each is an `int` from 0 up, and below `total`, the
    number of rows, if that is known.
    """
    check_several("redo", redo, "indices")
    indices = tuple(redo)
    for index in indices:
        check_count("each index in redo", index, at_least=0)
        if total is not None and index >= total:
            raise ValueError(f"redo holds {index}, but inputs ends at index {total - 1}")
    return frozenset(indices)

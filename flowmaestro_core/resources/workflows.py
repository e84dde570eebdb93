"""Workflows: what they are, and running them."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sized, Type

from flowmaestro_core.arguments import (
    check_callback,
    check_count,
    check_seconds,
    check_several,
    mapping,
)
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.context import Context
from flowmaestro_core.executions.batch import Batch, BatchMachine, ProgressCounter
from flowmaestro_core.executions.run import Run
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.executions import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_WAIT_TIMEOUT,
    execution_events,
    waiting_for,
)
from flowmaestro_core.resources.listing import page_of, walk
from flowmaestro_core.types import ExecuteWorkflowResponse, ExecutionEvent, Workflow


class Workflows(Resource[D]):
    """`client.workflows`. Needs the scope `workflows:read`; running, `workflows:execute` too."""

    @endpoint
    def list(
        self, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[Workflow]]:
        """List workflows, one page at a time.

        Args:
            page: which page, from 1.
            per_page: how many on a page; the server clamps it to 1-100, its default is 20.

        """
        return page_of("/workflows", page, per_page, shape=_workflow_list)

    @iterating_endpoint
    def iterate(self, *, per_page: Optional[int] = None) -> Pages[Workflow]:
        """All workflows, page after page; `per_page` as in `list`."""
        return walk(partial(page_of, "/workflows", shape=_workflow_list), per_page)

    @endpoint
    def get(self, workflow_id: str) -> Call[Reply[Workflow]]:
        """Get one workflow. `input_schema` describes its inputs as a JSON Schema object.

        Raises `NotFoundError` for an unknown id.
        """
        where = path("/workflows/{workflow_id}", workflow_id=workflow_id)
        return Call("GET", where, shape=shapes.workflow)

    @endpoint
    def execute(
        self,
        workflow_id: str,
        *,
        inputs: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[ExecuteWorkflowResponse]]:
        """Start a run of one workflow; `data["execution_id"]` says which.

        Each call starts an execution, so it is tried again only while it is certain that
        nothing was started.

        Args:
            workflow_id: which workflow.
            inputs: its inputs by name; values that JSON can express.
            idempotency_key: sent as `Idempotency-Key`, the same on every attempt; a random
                one when left out.

        Raises:
            NotFoundError: there is no such workflow.
            ValidationError: the server refuses the inputs.

        """
        return _execute(workflow_id, inputs, idempotency_key)

    @endpoint
    def run(
        self,
        workflow_id: str,
        inputs: Optional[Mapping[str, Any]] = None,
        on_event: Optional[Callable[[ExecutionEvent], Any]] = None,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Run:
        """Execute a workflow, follow its events, and give back the ended execution.

        A failed or cancelled execution is given back like a completed one: look at `status`.
        While its event stream is open, a 429 on the question beside it is no error, not even
        that the day's allowance is spent, with which `wait_for_completion` ends: the stream may
        still bring the end in time.

        Args:
            workflow_id: which workflow.
            inputs: as in `execute`.
            on_event: called with each event as it comes; on an async client it may be a
                coroutine function.
            timeout: seconds for all of it.
            idempotency_key: as in `execute`.

        Raises:
            TimeoutError: it did not end in time. It goes on: `error.execution_id` says which.

        """
        check_seconds("timeout", timeout)
        check_callback("on_event", on_event)
        return Run(
            execute=_execute(workflow_id, inputs, idempotency_key),
            events=execution_events,
            waiting=partial(
                waiting_for, poll_interval=DEFAULT_POLL_INTERVAL, timeout=timeout, on_poll=None
            ),
            timeout=timeout,
            listener=on_event,
        )

    @iterating_endpoint
    def run_many(
        self,
        workflow_id: str,
        inputs: Iterable[Optional[Mapping[str, Any]]],
        *,
        concurrency: int = 8,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        return_exceptions: bool = False,
        progress: Optional[Callable[[int, Optional[int]], Any]] = None,
    ) -> Batch:
        """Run a workflow once for each of many inputs, and get each execution as it ends.

        They come in the order in which they end. Failed and cancelled executions come like
        completed ones: look at `status`. Requests go out one after another, within the key's
        rate limit; a 429 is waited out. A start that may have been processed is never repeated.

        An error takes nothing from the executions under way: no more are started, those are
        handed over as they end, then the first error is raised. With `return_exceptions` errors
        are items instead, each with its `execution_id` where one was started, and all inputs
        are gone through. Nothing is ever cancelled: what runs when the iteration is left goes on.

        Args:
            workflow_id: which workflow.
            inputs: the inputs of each run, as in `execute`. It is read only as far as there is
                room, so an endless iterator will do.
            concurrency: how many executions may be in flight before another one is started.
            poll_interval: seconds between two questions about one execution.
            timeout: seconds that each execution may take from its start, and that each start
                may be put off by the rate limit.
            return_exceptions: hand errors over instead of raising the first of them.
            progress: called before each item is handed over with how many are done and how many
                there are, `None` when `inputs` has no length; on an async client it may be a
                coroutine function.

        Raises while iterating:
            NotFoundError: there is no such workflow.
            ValidationError: the server refuses the inputs; or one of them is nothing that JSON
                can express (code `invalid_input`), and its index is named.
            TimeoutError: an execution did not end in time. It goes on.

        """
        _execute(workflow_id, None, None)
        check_several("inputs", inputs, of="dicts")
        check_count("concurrency", concurrency)
        check_seconds("poll_interval", poll_interval)
        check_seconds("timeout", timeout)
        check_callback("progress", progress)
        total = len(inputs) if isinstance(inputs, Sized) else None
        return _batch_of(inputs)(
            partial(waiting_for, poll_interval=poll_interval, timeout=timeout, on_poll=None),
            timeout,
            starts=(partial(_execute, workflow_id, given, None) for given in inputs),
            concurrency=concurrency,
            return_exceptions=return_exceptions,
            listener=ProgressCounter(progress, total) if progress else None,
        )


class _ReadOn(Batch):
    """Executions whose inputs are read from an iterator of the caller's as they are started."""

    def machine(self, context: Context, token: str) -> BatchMachine:
        """As that of `Batch`; the iterator runs within its steps."""
        machine = super().machine(context, token)
        machine.runs_callers_code = True
        return machine


def _batch_of(inputs: Iterable[Any]) -> Type[Batch]:
    return Batch if isinstance(inputs, (list, tuple)) else _ReadOn


def _execute(
    workflow_id: str, inputs: Optional[Mapping[str, Any]], idempotency_key: Optional[str]
) -> Call[Reply[ExecuteWorkflowResponse]]:
    return Call(
        "POST",
        path("/workflows/{workflow_id}/execute", workflow_id=workflow_id),
        json_body(inputs=mapping("inputs", inputs) or {}),
        repeatable=False,
        shape=shapes.started_execution,
        idempotency_key=idempotency_key,
    )


def _workflow_list(body: Dict[str, Any]) -> None:
    shapes.workflow(body)
    shapes.pagination(body)

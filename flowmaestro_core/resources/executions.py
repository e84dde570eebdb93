"""Executions: their state, their events, and waiting for their end."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Iterable, Optional

from flowmaestro_core.arguments import check_callback, check_seconds, check_several, flag
from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.executions.operation import Batch, Poll
from flowmaestro_core.executions.outcome import BatchProgress
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.policy.polling import DEFAULT_POLL_INTERVAL
from flowmaestro_core.resources.listing import iterate_pages, list_call, row_filter
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.types import CancelledExecution, Execution, ExecutionEvent, ExecutionStatus

DEFAULT_WAIT_TIMEOUT = 300.0
"""Seconds: the contract's value."""


class Executions(Resource[D]):
    """`client.executions`. Needs the scope `executions:read`.

    `cancel` needs the scope `executions:cancel` too.
    """

    @endpoint
    def list(
        self,
        *,
        page: Optional[int] = None,
        per_page: Optional[int] = None,
        workflow_id: Optional[str] = None,
        status: Optional[ExecutionStatus] = None,
    ) -> Call[Page[Execution]]:
        """List executions, one page at a time.

        On the deployed server, pages and `total_count` are exact only with `workflow_id` and
        without `status`. With both, the server cuts the list into pages before it filters: a page
        may be short or empty although more follow, and its `total_count` counts that page alone.
        Without `workflow_id`, executions may be missing, and `has_more` is always False. Use
        `iterate` with `workflow_id` to get all executions.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.
            workflow_id: list only the executions of this workflow.
            status: list only the executions with this status.

        """
        return list_call(
            "/executions", page, per_page, shapes.execution, workflow_id=workflow_id, status=status
        )

    @iterating_endpoint
    def iterate(
        self,
        *,
        per_page: Optional[int] = None,
        workflow_id: Optional[str] = None,
        status: Optional[ExecutionStatus] = None,
    ) -> Pages[Execution]:
        """Iterate over all executions, page after page.

        Pass `workflow_id` to get every execution. Without it the deployed server reads the newest
        executions of all its customers and filters yours afterwards: it does not report the total
        or the last page, and executions may be missing. The iteration then continues until a page
        is empty or repeats an earlier one. `status` is not sent, because the server would filter
        after it has cut the list into pages. The SDK skips executions with another status.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.
            workflow_id: iterate only over the executions of this workflow.
            status: iterate only over the executions with this status.

        """
        keep = row_filter("status", status)
        build = partial(
            list_call, "/executions", shape=shapes.execution, keep=keep, workflow_id=workflow_id
        )
        return iterate_pages(build, per_page, until_empty=workflow_id is None)

    @endpoint
    def get(self, execution_id: str) -> Call[Reply[Execution]]:
        """Get one execution; `outputs` and `error` are `None` until there are any.

        Raises `NotFoundError` if there is none.
        """
        return Call("GET", _execution(execution_id), shape=shapes.execution)

    @endpoint
    def cancel(
        self, execution_id: str, *, idempotency_key: Optional[str] = None
    ) -> Call[Reply[CancelledExecution]]:
        """Cancel a running or pending execution.

        When the reply is lost or a server error, and the retry is refused, the SDK polls the
        execution. If it was cancelled, the call succeeds, and `data` is the whole execution.

        Args:
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        Raises:
            ValidationError: the execution has ended already, or it is paused.
            NotFoundError: there is no such execution.

        """
        return Call(
            "POST",
            _execution(execution_id) + "/cancel",
            shape=shapes.resource(CancelledExecution),
            confirmation=Confirmation(
                400, ask=Executions.get(execution_id), confirms=_is_cancelled
            ),
            idempotency_key=idempotency_key,
        )

    @endpoint
    def wait_for_completion(
        self,
        execution_id: str,
        *,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        on_poll: Optional[Callable[[Execution], Any]] = None,
    ) -> Poll:
        """Poll an execution until it has ended, and return it.

        A failed or cancelled execution is returned like a completed one: check `status`. By
        default, the first polls come quickly, later ones every second. Polls come less often when
        the key's rate limit is nearly spent, or when many calls of the client wait.

        Args:
            poll_interval: seconds between two polls. Any other value than the default holds from
                the first poll on. Only the rate limit of the key makes the time longer.
            timeout: seconds to wait in all. A last poll may take one second more.
            on_poll: called with the execution after each poll that succeeds; on an async client it
                may be a coroutine function.

        Raises:
            TimeoutError: it did not end within `timeout`; `error.last_execution` is its last state,
                or `None` if no poll succeeded.
            NotFoundError: there is no such execution.
            RateLimitError: the server demands a longer pause than `timeout` allows, or the daily
                quota is used up.

        """
        check_seconds("poll_interval", poll_interval)
        check_seconds("timeout", timeout)
        check_callback("on_poll", on_poll)
        return Poll(
            execution_id,
            Executions.get(execution_id),
            poll_interval,
            timeout,
            on_poll,
            exact=poll_interval != DEFAULT_POLL_INTERVAL,
        )

    @iterating_endpoint
    def wait_many(
        self,
        execution_ids: Iterable[str],
        *,
        poll_interval: Optional[float] = None,
        timeout: float = DEFAULT_WAIT_TIMEOUT,
        ordered: bool = False,
        progress: Optional[Callable[[BatchProgress], Any]] = None,
    ) -> Batch:
        """Wait for many executions, and yield a `RunOutcome` for each as it ends.

        Failed and cancelled executions are yielded like completed ones: check `ok`. An error of one
        execution is the `error` of its outcome, and does not end the others. A 429 may also be
        the `error` of other executions: of those whose `timeout` ends before the key may be used
        again. For three or more executions of a workflow, the SDK reads the workflow's list of
        executions, 100 with one request, else it polls one after another, within the key's rate
        limit, and waits after a 429. It polls only while you wait for the next outcome.

        Args:
            execution_ids: the executions to follow. An id that occurs twice is followed once.
            poll_interval: seconds between two polls, never fewer; more only if the rate limit
                demands it. Left out: for one or two executions as in `wait_for_completion`; for
                more, 5 seconds, or about a third of the time that most executions take, if that is
                less, and at least 1 second.
            timeout: seconds to wait for each execution, from the beginning of the iteration. As
                long as polls succeed, each is polled at least once, and a last time when it times
                out.
            ordered: yield outcomes in the order of `execution_ids` instead of that of their ends.
            progress: called with a `BatchProgress` before each outcome is delivered; on an
                async client it may be a coroutine function.

        An outcome's `error` may be any that `wait_for_completion` raises. If an execution failed
        for a lack of credits, it is an `InsufficientCreditsError`.

        """
        check_several("execution_ids", execution_ids, of="ids")
        check_callback("progress", progress)
        wait = waiting_for(poll_interval, timeout)
        ids = tuple({each: wait(each) for each in execution_ids})  # Building a wait checks the id.
        return Batch(
            wait,
            listed_executions,
            timeout,
            ids,
            poll_interval=poll_interval,
            ordered=flag("ordered", ordered),
            total=len(ids),
            progress=progress,
        )

    @iterating_endpoint
    def stream(
        self, execution_id: str, *, timeout: Optional[float] = None
    ) -> Events[ExecutionEvent]:
        """Iterate over the events of an execution, up to its end.

        The iteration always ends with a terminal event (`execution:completed`,
        `execution:failed`, `execution:cancelled`) or an exception. The SDK reconnects a lost
        stream and then yields an event of type `stream:reconnected`. When a stream goes quiet, the
        SDK polls the execution.

        Args:
            timeout: seconds that the whole iteration may take; no limit by default.

        Raises while iterating:
            TimeoutError: the execution did not end within `timeout`. The connection is released;
                the execution continues.
            StreamError: the stream was lost and could not be resumed, or the server sent none.
            NotFoundError: there is no such execution.

        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        return Events(
            Call("GET", _execution(execution_id) + "/events", enveloped=False),
            EXECUTION_TERMINAL,
            reconcile=Executions.get(execution_id),
            execution_id=execution_id,
            timeout=math.inf if timeout is None else timeout,
        )


def waiting_for(poll_interval: Optional[float], timeout: float) -> Callable[[str], Poll]:
    """Return a function that returns the wait for one execution of many, given its id.

    Raises `TypeError` or `ValueError` for numbers that are not positive and finite.
    """
    given = DEFAULT_POLL_INTERVAL if poll_interval is None else poll_interval
    check_seconds("poll_interval", given)
    check_seconds("timeout", timeout)
    exact = poll_interval is not None
    return lambda execution_id: Poll(
        execution_id, Executions.get(execution_id), given, timeout, exact=exact
    )


def listed_executions(workflow_id: str, page: int, per_page: int) -> Call[Page[Any]]:
    """Return the call for a page of a workflow's executions, as the server sends them.

    An execution of which the server leaves out a part must be told from a whole one. So nothing is
    added to them.
    """
    call = Executions.list(page=page, per_page=per_page, workflow_id=workflow_id)
    return replace(call, shape=shapes.pagination)


def _execution(execution_id: str) -> str:
    return path("/executions/{execution_id}", execution_id=execution_id)


def _is_cancelled(reply: Reply[Execution]) -> bool:
    return reply["data"]["status"] == "cancelled"

"""Triggers: named ways to start a workflow."""

from __future__ import annotations

from functools import partial
from typing import Any, Mapping, Optional

from flowmaestro_core.arguments import mapping
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.http.urls import path
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.listing import iterate_pages, list_call, row_filter
from flowmaestro_core.types import ExecuteTriggerResponse, Trigger


class Triggers(Resource[D]):
    """`client.triggers`. Needs the scope `triggers:read`.

    `execute` needs the scope `triggers:execute` too.
    """

    @endpoint
    def list(
        self,
        *,
        workflow_id: Optional[str] = None,
        page: Optional[int] = None,
        per_page: Optional[int] = None,
    ) -> Call[Page[Trigger]]:
        """List triggers, one page at a time.

        Args:
            workflow_id: list only the triggers of this workflow. The deployed server ignores this
                filter. The SDK then removes the triggers of other workflows from the page, which
                may become short; `pagination` still counts them. A trigger whose workflow is not
                known is kept.
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        keep = row_filter("workflow_id", workflow_id, keep_null=True)
        return list_call("/triggers", page, per_page, shapes.trigger, keep, workflow_id=workflow_id)

    @iterating_endpoint
    def iterate(
        self, *, workflow_id: Optional[str] = None, per_page: Optional[int] = None
    ) -> Pages[Trigger]:
        """Iterate over all triggers, page after page.

        Args:
            workflow_id: iterate only over the triggers of this workflow: see `list`.
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(partial(Triggers.list, workflow_id=workflow_id), per_page)

    @endpoint
    def execute(
        self,
        trigger_id: str,
        inputs: Optional[Mapping[str, Any]] = None,
        *,
        idempotency_key: Optional[str] = None,
        checkpoint: None = None,
    ) -> Call[Reply[ExecuteTriggerResponse]]:
        """Fire a trigger; `data["execution_id"]` is the execution it started.

        Each call starts an execution, so the SDK retries only if certainly nothing was started.

        Args:
            inputs: inputs by name; values that JSON can express.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.
            checkpoint: must be left out; only a workflow can be started with one.

        Raises:
            NotFoundError: there is no such trigger.
            ValidationError: the trigger is disabled, or the server refuses the inputs.

        """
        if checkpoint is not None:
            raise TypeError(  # pyright: ignore[reportUnreachable]
                "checkpoint is for workflows: pass it to workflows.execute or workflows.run, "
                "or journal=path to workflows.run_many"
            )
        return Call(
            "POST",
            path("/triggers/{trigger_id}/execute", trigger_id=trigger_id),
            json_body(inputs=mapping("inputs", inputs) or {}),
            repeatable=False,
            shape=shapes.fired_trigger,
            idempotency_key=idempotency_key,
        )

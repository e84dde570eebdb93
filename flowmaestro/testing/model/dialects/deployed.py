"""Where the server that answers today differs from its published reference, oddities included."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Dict, Mapping, Optional, Sequence, cast

from flowmaestro.testing.model.agents import Message, Thread, Turn
from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.dialects.documented import (
    Documented,
    MessageAnswers,
    filled,
    of_workflow,
    with_status,
)
from flowmaestro.testing.model.dialects.shape import Shape
from flowmaestro.testing.model.executions import Execution, Happening, InputField, Workflow
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.webhooks import Delivery

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")
_SNAKE = re.compile(r"_([a-z])")
_RENAMED = {"duration_ms": "duration", "progress": "percentage"}


def _in_camel_case(name: str) -> str:
    return _SNAKE.sub(lambda found: found[1].upper(), name)


def _inputs(workflow: Workflow) -> Optional[JsonObject]:
    """Keyed by the ids of the input nodes, not by the inputs' names."""
    inputs = {
        f"input{number}": {
            "type": about.type,
            "label": about.label or name,
            "required": about.required,
            "description": about.description,
        }
        for number, (name, about) in enumerate(workflow.inputs.items(), 1)
    }
    return inputs or None


def _end(execution: Execution) -> Optional[float]:
    """A cancelled execution never gets a `completed_at`."""
    return None if execution.status == "cancelled" else execution.completed_at


class Deployed(Documented):
    """The shapes of the server that answers today."""

    accepts_test_keys = False
    accepts_any_json = True
    keeps_thread_metadata = False
    memory_needs_text = True
    filters_triggers = False
    misses_failed_agents = True
    refuses_for_credits = False
    message_answers: MessageAnswers = "refused"

    def check_id(self, id: str, code: str = "") -> None:
        """An id that is no UUID is handed to the database, which refuses it: 500."""
        if not _UUID.fullmatch(id):
            message = f'invalid input syntax for type uuid: "{id}"'
            if code:
                raise Refusal(500, code, message)
            raise Refusal(500, "22P02", message, layer="framework")

    def inputs(self, call: Call, declared: Mapping[str, InputField]) -> Dict[str, Any]:
        """Any object or list; what is missing is not noticed."""
        inputs: object = call.body.get("inputs")
        if inputs is None:
            return {}
        text = json.dumps(inputs)
        if not isinstance(inputs, (dict, list)):
            message = f"Unexpected token '{str(inputs)[:1]}', {text} is not valid JSON"
            raise Refusal(500, "execution_failed", message)
        if _NUL.search(text):
            raise Refusal(500, "execution_failed", "unsupported Unicode escape sequence")
        return cast("Dict[str, Any]", inputs)

    def top_k(self, call: Call) -> int:
        """Read as JavaScript reads a number: null is 0, and finds nothing."""
        try:
            top_k = int(float(call.body.get("top_k", 5) or 0))
        except (OverflowError, TypeError, ValueError):
            message = 'invalid input syntax for type bigint: "NaN"'
            raise Refusal(500, "internal_error", message) from None
        if top_k < 0:
            raise Refusal(500, "internal_error", "LIMIT must not be negative")
        return top_k

    def request_id(self, uuid: str) -> str:
        """The UUID itself."""
        return uuid

    def no_route(self, method: str, path: str) -> Refusal:
        """The framework's own 404."""
        return Refusal(404, "", f"Route {method}:{path} not found", layer="framework")

    def malformed_json(self, reason: str) -> Refusal:
        """The framework's own error, a 500."""
        return Refusal(500, "", reason, layer="framework")

    def wrong_media_type(self, media_type: str) -> Refusal:
        """The framework's own 415."""
        code, message = "FST_ERR_CTP_INVALID_MEDIA_TYPE", f"Unsupported Media Type: {media_type}"
        return Refusal(415, code, message, layer="framework")

    def too_large(self) -> Refusal:
        """The framework's own 413."""
        message = "Request body is too large"
        return Refusal(413, "FST_ERR_CTP_BODY_TOO_LARGE", message, layer="framework")

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """A shape of its own for what the web framework refuses."""
        if refusal.layer != "framework":
            return super().refusal(refusal, request_id)
        return filled(
            statusCode=refusal.status,
            code=refusal.code or None,
            error=HTTPStatus(refusal.status).phrase,
            message=refusal.message,
        )

    def pagination(self, page: Page, total: int) -> JsonObject:
        """Six keys."""
        return {
            "page": page.number,
            "per_page": page.size,
            "total_count": total,
            "total_pages": -(-total // page.size),
            "has_next": page.end < total,
            "has_prev": page.number > 1,
        }

    def deleted(self, id: str) -> Answer:
        """200 and a confirmation."""
        return Answer(200, {"data": {"id": id, "deleted": True}})

    workflow = Documented.workflow_row.plus(inputs=_inputs)
    execution = Documented.execution.without("trigger_id", "duration_ms").plus(completed_at=_end)
    ended = Documented.ended.plus(completed_at=_end)
    trigger = Documented.trigger.without("type", "workflow_name").plus(trigger_type="type")
    thread = Documented.thread.without("metadata")
    new_thread = Shape("id", "status", "created_at", agent_id="agent.id")
    knowledge_base_row = Documented.knowledge_base.without(
        "embedding_model", "chunk_size", "chunk_overlap"
    )
    delivery = Documented.delivery.without("response_time_ms")

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """The count is of what was fetched; with `workflow_id`, of what `status` leaves of a page.

        `status` is applied after paging where `workflow_id` is given.
        """
        page, status = Page.asked_for(query), query.get("status")
        if "workflow_id" in query:
            matching = of_workflow(executions, query["workflow_id"])
            rows = with_status(page.cut(matching), status)
            count = len(matching) if status is None else len(rows)
        else:
            matching = with_status(executions[: page.end], status)
            rows, count = page.cut(matching), len(matching)
        found = [self.execution(row) for row in rows]
        return {"data": found, "pagination": self.pagination(page, count)}

    def cancelled(self, execution: Execution) -> JsonObject:
        """Id, status and a sentence."""
        message = "Execution cancelled successfully"
        return {"id": execution.id, "status": execution.status, "message": message}

    def happening(self, happening: Happening) -> JsonObject:
        """Camel case, with a `type` and the time in milliseconds."""
        names = (
            {**_RENAMED, "outputs": "output"} if happening.name == "node:completed" else _RENAMED
        )
        data = super().happening(happening)
        return {
            **{names.get(key) or _in_camel_case(key): value for key, value in data.items()},
            **filled(failedNode=happening.more.get("failed_node_id")),
            "type": happening.name,
            "timestamp": round(1000 * self._timeline.wall(happening.at)),
        }

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """All of them in a wrapper, whatever page was asked for."""
        return {"data": {"messages": [self.message(message) for message in thread.messages]}}

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """An execution that holds a message; it does not say what it cost."""
        return {
            "execution_id": turn.execution_id,
            "thread_id": turn.thread.id,
            "status": "completed",
            "message": {key: it for key, it in self.message(answer).items() if key != "id"},
            "iterations": 1,
            "tool_calls_count": 0,
        }

    def tested(self, delivery: Delivery) -> JsonObject:
        """A status code and a sentence, or an error and a sentence."""
        status = delivery.status_code
        if delivery.state == "delivered":
            message = "Test webhook delivered successfully"
            return {"success": True, "status_code": status, "message": message}
        if status is not None:
            return {"success": False, "status_code": status, "message": delivery.error}
        message = "Failed to deliver test webhook"
        return {"success": False, "error": delivery.error, "message": message}

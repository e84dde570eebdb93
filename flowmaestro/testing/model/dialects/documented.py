"""What the service says, as its published reference has it. `deployed.py` overrides what differs.

Where the reference says nothing of a field, this is what the deployed server sends.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence

from flowmaestro.testing.model import refusals
from flowmaestro.testing.model.agents import (
    Agent,
    Memory,
    MemoryHit,
    Message,
    Thread,
    Turn,
    Utterance,
)
from flowmaestro.testing.model.agents import tokens as tokens_of
from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.executions import Execution, Happening, InputField, Trigger, Workflow
from flowmaestro.testing.model.knowledge import Hit, KnowledgeBase
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal, invalid
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.timeline import Timeline
from flowmaestro.testing.model.webhooks import Delivery, Webhook

Shapes = Literal["deployed", "documented"]
"""Which description of the API the fake follows."""
Events = Literal["live", "silent"]
"""Whether the stream of an execution sends more than `connected` and keepalives."""
MessageAnswers = Literal["refused", "sse", "two-connection"]
"""How a message sent with `"stream": true` is answered: with 501, with events on the POST itself,
or with JSON and the events on the thread's own stream."""

MEMORY_OWNER = "0fa11000-0000-4000-8000-000000000031"
"""The user whose messages agents remember: the owner of the API key."""


class Documented:
    """The shapes of the published reference; times come in as model times."""

    accepts_test_keys = True
    accepts_empty_json = False
    accepts_any_json = False
    keeps_thread_metadata = True
    memory_needs_text = False
    filters_triggers = True
    misses_failed_agents = False
    refuses_for_credits = True
    message_answers: MessageAnswers = "sse"

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    # Requests.

    def check_id(self, id: str, code: str = "") -> None:
        """Refuse an id that no resource can have; `code` is that of the refusal."""

    def inputs(self, call: Call, declared: Mapping[str, InputField]) -> Dict[str, Any]:
        """The inputs of a run; raises a 400 refusal for those that are missing."""
        inputs = call.mapping("inputs")
        missing = [name for name, it in declared.items() if it.required and name not in inputs]
        if missing:
            raise invalid("Missing required inputs", **dict.fromkeys(missing, "is required"))
        return inputs

    def top_k(self, call: Call) -> int:
        """How many results a query of a knowledge base asks for."""
        return call.count("top_k", 5)

    # Errors and envelopes.

    def request_id(self, uuid: str) -> str:
        """The `meta.request_id` made from a fresh UUID."""
        return "req_" + uuid.replace("-", "")[:16]

    def no_route(self, method: str, path: str) -> Refusal:
        """No endpoint has that method and path."""
        return refusals.not_found("route", f"{method} {path}")

    def malformed_json(self, reason: str) -> Refusal:
        """The body is not JSON."""
        return invalid(f"Request body is not valid JSON: {reason}")

    def wrong_media_type(self, media_type: str) -> Refusal:
        """The body is of a type that the server does not read."""
        return Refusal(415, "validation_error", f"Unsupported media type: {media_type}")

    def too_large(self) -> Refusal:
        """The body is over 1 MiB."""
        return Refusal(413, "validation_error", "Request body is too large")

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """The body of an error reply."""
        if refusal.layer == "outer":
            return {"success": False, "error": refusal.message, "details": refusal.details}
        error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
        return {"error": filled(**error), "meta": self.meta(request_id)}

    def meta(self, request_id: str) -> JsonObject:
        """The `meta` of an envelope."""
        return {"request_id": request_id, "timestamp": self.time(self._timeline.now)}

    def time(self, moment: Optional[float]) -> Optional[str]:
        """A model time as the API writes it."""
        return None if moment is None else self._timeline.iso(moment)

    def pagination(self, page: Page, total: int) -> JsonObject:
        """The `pagination` of a page of `total` rows."""
        return {
            "page": page.number,
            "per_page": page.size,
            "total_count": total,
            "has_more": page.end < total,
        }

    def listed(self, rows: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
        """`data` and `pagination` of the page of `rows` that the query asks for."""
        page = Page.asked_for(query)
        return {"data": page.cut(rows), "pagination": self.pagination(page, len(rows))}

    def deleted(self, id: str) -> Answer:
        """The answer to a deletion."""
        return Answer(204)

    # Workflows, executions and triggers.

    def workflow_row(self, workflow: Workflow) -> JsonObject:
        """A workflow in a list."""
        return {
            "id": workflow.id,
            "name": workflow.name,
            "description": workflow.description,
            "version": 1,
            **self._times(workflow.created_at),
        }

    def workflow(self, workflow: Workflow) -> JsonObject:
        """A workflow with the inputs that it takes."""
        properties = {
            name: filled(
                type=about.type, title=about.label or None, description=about.description or None
            )
            for name, about in workflow.inputs.items()
        }
        required = [name for name, about in workflow.inputs.items() if about.required]
        schema = {"type": "object", "properties": properties, "required": required}
        return {**self.workflow_row(workflow), "input_schema": schema}

    def started(self, execution: Execution) -> JsonObject:
        """The answer to a call that started an execution."""
        answer = {
            "execution_id": execution.id,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "inputs": execution.inputs,
        }
        return {**answer, **filled(trigger_id=execution.trigger_id)}

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """`data` and `pagination` of a list of executions, newest first."""
        matching = of_workflow(executions, query.get("workflow_id"))
        matching = with_status(matching, query.get("status"))
        return self.listed([self.execution(execution) for execution in matching], query)

    def execution(self, execution: Execution) -> JsonObject:
        """An execution, in a list or by itself."""
        return {
            **self._execution(execution),
            "trigger_id": execution.trigger_id,
            "duration_ms": milliseconds(execution.duration),
        }

    def _execution(self, execution: Execution) -> JsonObject:
        return {
            "id": execution.id,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "inputs": execution.inputs,
            "outputs": execution.outputs,
            "error": execution.error,
            "created_at": self.time(execution.created_at),
            "started_at": self.time(execution.started_at),
            "completed_at": self.time(execution.completed_at),
        }

    def cancelled(self, execution: Execution) -> JsonObject:
        """The answer to a cancellation."""
        return {
            "id": execution.id,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "cancelled_at": self.time(execution.completed_at),
        }

    def connected(self, execution: Execution) -> JsonObject:
        """The data of the first event of every stream of an execution."""
        return {"execution_id": execution.id, "status": execution.status}

    def ended(self, execution: Execution) -> JsonObject:
        """The data of the terminal event of a stream that was opened after the end."""
        return {
            "execution_id": execution.id,
            "status": execution.status,
            "outputs": execution.outputs,
            "error": execution.error,
            "completed_at": self.time(execution.completed_at),
        }

    def happening(self, happening: Happening) -> JsonObject:
        """The data of a live event of an execution; its name is only in the `event:` field."""
        name, execution, node = happening.name, happening.execution, happening.about
        return {
            "execution_id": execution.id,
            "timestamp": self.time(happening.at),
            **filled(
                node_id=node and node.id,
                node_name=node and node.name,
                node_type=node and node.type,
                outputs={} if name == "node:completed" else execution.outputs,
                duration_ms=milliseconds(happening.seconds),
                error=happening.error,
                progress=happening.percentage,
                current_node=happening.current_node,
                **happening.more,
            ),
        }

    def trigger(self, trigger: Trigger) -> JsonObject:
        """A trigger."""
        return {
            **self._trigger(trigger),
            "type": trigger.type,
            "workflow_name": trigger.workflow.name,
        }

    def _trigger(self, trigger: Trigger) -> JsonObject:
        return {
            "id": trigger.id,
            "workflow_id": trigger.workflow.id,
            "name": trigger.name,
            "enabled": trigger.enabled,
            "last_triggered_at": self.time(trigger.last_fired_at),
            "trigger_count": trigger.times_fired,
            **self._times(trigger.created_at),
        }

    # Agents, threads and memories.

    def agent_row(self, agent: Agent) -> JsonObject:
        """An agent in a list."""
        return {
            "id": agent.id,
            "name": agent.name,
            "description": agent.description,
            "model": agent.model,
            "provider": agent.provider,
            **self._times(agent.created_at),
        }

    def agent(self, agent: Agent) -> JsonObject:
        """An agent with its settings."""
        return {
            **self.agent_row(agent),
            "system_prompt": f"You are {agent.name}.",
            "temperature": 0.7,
            "max_tokens": 4096,
            "available_tools": [],
        }

    def new_thread(self, thread: Thread) -> JsonObject:
        """A thread as its creation returns it."""
        return self.thread(thread)

    def thread(self, thread: Thread) -> JsonObject:
        """A thread."""
        return {**self._thread(thread), "metadata": thread.metadata}

    def _thread(self, thread: Thread) -> JsonObject:
        last = thread.messages[-1].created_at if thread.messages else None
        return {
            "id": thread.id,
            "agent_id": thread.agent.id,
            "title": None,
            "status": "active",
            "created_at": self.time(thread.created_at),
            "updated_at": self.time(thread.created_at if last is None else last),
            "last_message_at": self.time(last),
        }

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """`data`, and `pagination` if there is one, of a thread's messages."""
        return self.listed([self.message(message) for message in thread.messages], query)

    def message(self, message: Message) -> JsonObject:
        """One message of a thread."""
        return {"id": message.id, **self._said(message)}

    def _said(self, message: Message) -> JsonObject:
        return {
            "role": message.role,
            "content": message.content,
            "tool_calls": None,
            "created_at": self.time(message.created_at),
        }

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """The answer to a message that was sent without streaming."""
        usage = self.usage(turn, answer)
        return {**self.message(answer), "thread_id": turn.thread.id, "usage": usage}

    def usage(self, turn: Turn, answer: Message) -> JsonObject:
        """What a turn cost, in tokens."""
        asked, answered = len(tokens_of(turn.question)), len(tokens_of(answer.content))
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        }

    def utterance(self, utterance: Utterance) -> JsonObject:
        """The data of an event of a message."""
        turn = utterance.turn
        data: JsonObject = {"message_id": turn.answer_id, "thread_id": turn.thread.id}
        if utterance.name == "message:token":
            data["token"] = utterance.token
        elif turn.answer is not None:
            data.update(content=turn.answer.content, usage=self.usage(turn, turn.answer))
        elif utterance.name == "message:failed":
            data["error"] = turn.error
        return data

    def memory(self, memory: Memory) -> JsonObject:
        """The working memory of one user."""
        return {
            "user_id": memory.user_id,
            "working_memory": memory.working_memory,
            "metadata": memory.metadata,
            "created_at": self.time(memory.created_at),
            "updated_at": self.time(memory.updated_at),
        }

    def memory_hit(self, hit: MemoryHit) -> JsonObject:
        """One result of a search in an agent's memory, with the messages around it."""
        thread, index = hit.thread, hit.number
        message = thread.messages[index]
        around = [self._embedding(thread, index - 1)] if index else []
        behind = [self._embedding(thread, index + 1)] if index + 1 < len(thread.messages) else []
        return {
            "content": message.content,
            "role": message.role,
            "similarity": hit.score,
            "execution_id": thread.id,
            "context_before": around,
            "context_after": behind,
        }

    def _embedding(self, thread: Thread, index: int) -> JsonObject:
        message = thread.messages[index]
        return {
            "id": message.id,
            "agent_id": thread.agent.id,
            "user_id": MEMORY_OWNER,
            "execution_id": thread.id,
            "message_id": message.id,
            "message_role": message.role,
            "message_index": index,
            "content": message.content,
            "embedding": "[0,0,0]",
            "embedding_model": "text-embedding-3-small",
            "embedding_provider": "openai",
            "created_at": self.time(message.created_at),
        }

    # Knowledge bases and webhooks.

    def knowledge_base_row(self, base: KnowledgeBase) -> JsonObject:
        """A knowledge base in a list."""
        return self.knowledge_base(base)

    def knowledge_base(self, base: KnowledgeBase) -> JsonObject:
        """A knowledge base."""
        return {
            "id": base.id,
            "name": base.name,
            "description": base.description,
            "embedding_model": "text-embedding-3-small",
            "chunk_size": 1000,
            "chunk_overlap": 200,
            "document_count": base.document_count,
            "chunk_count": len(base.chunks),
            **self._times(base.created_at),
        }

    def hit(self, hit: Hit) -> JsonObject:
        """One result of a query."""
        return {
            "id": hit.chunk.id,
            "document_id": hit.chunk.document_id,
            "document_name": hit.chunk.document_name,
            "content": hit.chunk.content,
            "score": hit.score,
            "metadata": {"chunk_index": hit.chunk.position},
        }

    def webhook_row(self, webhook: Webhook) -> JsonObject:
        """A webhook in a list, without its secret."""
        return {
            "id": webhook.id,
            "name": webhook.name,
            "url": webhook.url,
            "events": webhook.events,
            "is_active": webhook.active,
            "created_at": self.time(webhook.created_at),
            "updated_at": self.time(webhook.updated_at),
        }

    def webhook(self, webhook: Webhook) -> JsonObject:
        """A webhook, without its secret."""
        return {**self.webhook_row(webhook), "headers": webhook.headers or None}

    def tested(self, delivery: Delivery) -> JsonObject:
        """The outcome of a webhook's test."""
        return {
            "success": delivery.state == "delivered",
            "status_code": delivery.status_code,
            "response_time_ms": delivery.response_time_ms,
            "error_message": delivery.error,
        }

    def delivery(self, delivery: Delivery) -> JsonObject:
        """A delivery of a webhook."""
        return {**self._delivery(delivery), "response_time_ms": delivery.response_time_ms}

    def _delivery(self, delivery: Delivery) -> JsonObject:
        return {
            "id": delivery.id,
            "event_type": delivery.event,
            "response_status": delivery.status_code,
            "last_attempt_at": self.time(delivery.sent_at),
            "error_message": delivery.error,
        }

    def _times(self, created_at: float) -> JsonObject:
        created = self.time(created_at)
        return {"created_at": created, "updated_at": created}


def filled(**pairs: Any) -> Dict[str, Any]:
    """The pairs that have a value."""
    return {key: value for key, value in pairs.items() if value is not None}


def milliseconds(seconds: Optional[float]) -> Optional[int]:
    """Seconds in whole milliseconds."""
    return None if seconds is None else round(1000 * seconds)


def with_status(executions: Sequence[Execution], status: Optional[str]) -> List[Execution]:
    """The executions of one status, or all of them."""
    return [execution for execution in executions if status in (None, execution.status)]


def of_workflow(executions: Sequence[Execution], workflow_id: Optional[str]) -> List[Execution]:
    """The executions of one workflow, or all of them."""
    return [run for run in executions if workflow_id in (None, run.workflow.id)]

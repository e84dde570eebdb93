"""How the service words its replies: what both dialects share, and what each must decide.

`deployed.py` is the server that answers today, `documented.py` the published reference. This
base holds the shapes on which they agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence, Tuple

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
from flowmaestro.testing.model.executions import Execution, Happening, Workflow
from flowmaestro.testing.model.knowledge import Hit, KnowledgeBase
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.timeline import Timeline
from flowmaestro.testing.model.triggers import Trigger
from flowmaestro.testing.model.webhooks import Delivery, Webhook

Shapes = Literal["deployed", "documented"]
"""Which description of the API the fake follows."""
Events = Literal["live", "silent"]
"""Whether an open stream of an execution hears of what happens."""
MessageAnswers = Literal["refused", "sse", "two-connection"]
"""How a message sent with `"stream": true` is answered: 501, events on the POST itself, or JSON
with the events on the thread's own stream."""


class Dialect(ABC):
    """The shapes of one description of the API; times come in as model times."""

    accepts_test_keys: bool
    keeps_thread_metadata: bool
    null_top_k_finds_nothing: bool
    filters_triggers: bool
    accepts_empty_json: bool
    message_answers: MessageAnswers

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    # What each dialect words for itself.

    @abstractmethod
    def request_id(self, uuid: str) -> str:
        """The `meta.request_id` made from a fresh UUID."""

    @abstractmethod
    def no_such(self, resource: str, id: str, *, executing: bool = False) -> Refusal:
        """There is no `resource` of that id, for a call that starts one when `executing`."""

    @abstractmethod
    def no_route(self, method: str, path: str) -> Refusal:
        """Nothing answers that method on that path."""

    @abstractmethod
    def malformed_json(self, reason: str) -> Refusal:
        """The body is not JSON."""

    @abstractmethod
    def wrong_media_type(self, media_type: str) -> Refusal:
        """The body is of a type that is not read."""

    @abstractmethod
    def too_large(self) -> Refusal:
        """The body is over 1 MiB."""

    @abstractmethod
    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """The body of an error reply."""

    @abstractmethod
    def pagination(self, page: Page, total: int) -> JsonObject:
        """The `pagination` of a page of `total` rows."""

    @abstractmethod
    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """`data` and `pagination` of a list of executions, newest first."""

    @abstractmethod
    def workflow_inputs(self, workflow: Workflow) -> JsonObject:
        """The keys that tell which inputs a workflow takes."""

    @abstractmethod
    def cancelled(self, execution: Execution) -> JsonObject:
        """The answer to a cancellation."""

    @abstractmethod
    def happening(self, happening: Happening) -> JsonObject:
        """The data of a live event of an execution."""

    @abstractmethod
    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """`data`, and `pagination` if there is one, of a thread's messages."""

    @abstractmethod
    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """The answer to a message that was sent without streaming."""

    @abstractmethod
    def hit(self, hit: Hit) -> JsonObject:
        """One result of a query."""

    @abstractmethod
    def knowledge_base(self, base: KnowledgeBase) -> JsonObject:
        """A knowledge base, in a list or by itself."""

    @abstractmethod
    def trigger(self, trigger: Trigger) -> JsonObject:
        """A trigger."""

    @abstractmethod
    def tested(self, delivery: Delivery) -> JsonObject:
        """The outcome of a webhook's test."""

    @abstractmethod
    def deleted(self, id: str) -> Answer:
        """The answer to a deletion."""

    # What they agree on.

    def meta(self, request_id: str) -> JsonObject:
        """The `meta` of an envelope."""
        return {"request_id": request_id, "timestamp": self.time(self._timeline.now)}

    def time(self, moment: Optional[float]) -> Optional[str]:
        """A model time as the API writes it."""
        return None if moment is None else self._timeline.iso(moment)

    def listed(self, rows: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
        """`data` and `pagination` of the page of `rows` that the query asks for."""
        page = Page.asked_for(query)
        return {"data": page.cut(rows), "pagination": self.pagination(page, len(rows))}

    def workflow_row(self, workflow: Workflow) -> JsonObject:
        """A workflow in a list."""
        return {
            "id": workflow.id,
            "name": workflow.name,
            "description": workflow.description,
            "version": 1,
            "created_at": self.time(workflow.created_at),
            "updated_at": self.time(workflow.created_at),
        }

    def workflow(self, workflow: Workflow) -> JsonObject:
        """A workflow by itself."""
        return {**self.workflow_row(workflow), **self.workflow_inputs(workflow)}

    def started(self, execution: Execution) -> JsonObject:
        """The answer to a call that started an execution."""
        answer: JsonObject = {
            "execution_id": execution.id,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "inputs": execution.inputs,
        }
        return (
            answer
            if execution.trigger_id is None
            else {**answer, "trigger_id": execution.trigger_id}
        )

    def execution(self, execution: Execution) -> JsonObject:
        """An execution, in a list or by itself."""
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

    def connected(self, execution: Execution) -> JsonObject:
        """The data of the first event of every stream of an execution."""
        return {"execution_id": execution.id, "status": execution.status}

    def ended(self, execution: Execution) -> JsonObject:
        """The data of the terminal event for those who come after the end."""
        return {
            "execution_id": execution.id,
            "status": execution.status,
            "outputs": execution.outputs,
            "error": execution.error,
            "completed_at": self.time(execution.completed_at),
        }

    def agent(self, agent: Agent) -> JsonObject:
        """An agent, in a list or by itself."""
        return {
            "id": agent.id,
            "name": agent.name,
            "description": agent.description,
            "model": agent.model,
            "provider": agent.provider,
            "created_at": self.time(agent.created_at),
            "updated_at": self.time(agent.created_at),
        }

    def thread(self, thread: Thread) -> JsonObject:
        """A thread."""
        last = thread.messages[-1].created_at if thread.messages else None
        return {
            "id": thread.id,
            "agent_id": thread.agent.id,
            "status": "active",
            "metadata": thread.metadata,
            "message_count": len(thread.messages),
            "created_at": self.time(thread.created_at),
            "last_message_at": self.time(last),
        }

    def message(self, message: Message) -> JsonObject:
        """One message of a thread."""
        return {
            "id": message.id,
            "role": message.role,
            "content": message.content,
            "tool_calls": [],
            "created_at": self.time(message.created_at),
        }

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
        """What an agent remembers of a user."""
        return {
            "user_id": memory.user_id,
            "working_memory": memory.working_memory,
            "metadata": memory.metadata,
            "created_at": self.time(memory.created_at),
            "updated_at": self.time(memory.updated_at),
        }

    def memory_hit(self, hit: MemoryHit) -> JsonObject:
        """One result of a search in an agent's memory."""
        return {
            "user_id": hit.memory.user_id,
            "content": hit.memory.working_memory,
            "similarity": hit.score,
            "metadata": hit.memory.metadata,
        }

    def webhook(self, webhook: Webhook) -> JsonObject:
        """A webhook, without its secret."""
        return {
            "id": webhook.id,
            "name": webhook.name,
            "url": webhook.url,
            "events": webhook.events,
            "headers": webhook.headers,
            "is_active": webhook.active,
            "created_at": self.time(webhook.created_at),
        }

    def delivery(self, delivery: Delivery) -> JsonObject:
        """A delivery of a webhook."""
        return {
            "id": delivery.id,
            "webhook_id": delivery.webhook_id,
            "event": delivery.event,
            "status": delivery.state,
            "status_code": delivery.status_code,
            "attempts": delivery.attempts,
            "created_at": self.time(delivery.created_at),
            "completed_at": self.time(delivery.ended_at),
        }


def error_object(refusal: Refusal) -> JsonObject:
    """`{"code", "message", "details"?}`."""
    error: JsonObject = {"code": refusal.code, "message": refusal.message}
    return error if refusal.details is None else {**error, "details": refusal.details}


def outer_error(refusal: Refusal) -> JsonObject:
    """What the server's outermost handler writes."""
    return {"success": False, "error": refusal.message, "details": refusal.details}


def reason_phrase(status: int) -> str:
    """The words for a status code."""
    return HTTPStatus(status).phrase


def filled(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    """The pairs that have a value."""
    return {key: value for key, value in pairs if value is not None}


def with_status(executions: Sequence[Execution], status: Optional[str]) -> List[Execution]:
    """The executions of one status, or all of them."""
    return [execution for execution in executions if status in (None, execution.status)]


def of_workflow(executions: Sequence[Execution], workflow_id: Optional[str]) -> List[Execution]:
    """The executions of one workflow, or all of them."""
    return [run for run in executions if workflow_id in (None, run.workflow.id)]

"""The state behind the endpoints: all resources, and the listeners to their events."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict, deque
from functools import partial
from itertools import islice
from typing import Callable, DefaultDict, Deque, Dict, List, Optional, Set, Tuple, TypeVar

from flowmaestro.testing.fake.model.agents import (
    Agent,
    Message,
    Thread,
    Turn,
    run_turn,
)
from flowmaestro.testing.fake.model.dialects import Documented, MessageAnswers
from flowmaestro.testing.fake.model.executions import (
    Execution,
    ExecutionRunner,
    Trigger,
    Workflow,
)
from flowmaestro.testing.fake.model.knowledge import KnowledgeBase
from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.plans import Inputs, PlannedEvent
from flowmaestro.testing.fake.model.refusals import Refusal, not_found
from flowmaestro.testing.fake.model.replies import EventStream, JsonObject
from flowmaestro.testing.fake.model.webhooks import DeliveryQueue, Webhook

SHOWN_IDS = 6
"""The number of known ids beside one that did not exist: the latest, which the test has made. A new
fake holds up to twenty of a kind."""
MAX_MISSED = 1_000
"""Ids that did not exist, of which the latest are kept: asking for ever fills no memory."""
LONGEST_ID = 200
"""The most characters that are kept of an id that did not exist."""

T = TypeVar("T")
Listener = Callable[[str, JsonObject, Execution], None]
ChangeListener = Callable[[Execution, bool], None]
"""Is called with an execution that has changed, and whether it has just been started."""

NO_CREDITS = "Insufficient credits for workflow execution. Estimated need: 1 credits"
"""The error of an execution that cannot be paid for (`docs/api-facts.md`, row 402)."""


class Resources(Dict[str, T]):
    """The resources of one kind, by id.

    `find` and `every` record in the service what requests read.
    """

    def __init__(self, kind: str, service: Service) -> None:
        super().__init__()
        self._kind = kind
        self._service = service

    def find(self, id: str, code: str = "") -> T:
        """Return the resource with this id. Raise a 404 refusal if there is none.

        If the id is not a UUID either, the deployed dialect raises a 500 refusal instead. `code` is
        the error code of that refusal; `""` means 22P02.
        """
        try:
            found = self[id]
        except KeyError:
            self._note_missing(id)
            self._service.dialect.check_id(id, code)
            raise not_found(self._kind, id) from None
        self._service.used.add((self._kind, id))
        return found

    def _note_missing(self, id: str) -> None:
        missed = self._service.missed
        missed[self._kind, id[:LONGEST_ID]] = [*islice(reversed(self), SHOWN_IDS)][::-1]
        if len(missed) > MAX_MISSED:
            del missed[next(iter(missed))]

    def every(self) -> List[T]:
        """Return all resources, in the order in which their ids were added."""
        self._service.used.update((self._kind, id) for id in self)
        return list(self.values())


class Service:
    """The resources of a fake by id, its running executions, open streams and deliveries.

    `live` is whether open streams get the events of executions, except `execution:cancelled`, which
    they never get. `message_answers` is how every agent answers a message with `"stream": true`:
    `"sse"` or `"refused"`. If it is `None`, that depends on the agent: see the method
    `message_answers`.

    Attributes:
        credits: how many more executions can be paid for; `None` for no limit.
        started: the executions that requests have started, the oldest first; after
            `World.keep_last`, only the last ones.
        unlistable: by the id of a workflow, the inputs that were stored and are neither an object
            nor an array: how many executions of the workflow are older, and the error of each page
            of the list that they are on.
        used: kind and id of the resources that requests have read; a request for the list of
            executions does not count.
        missed: kind and (truncated) id of the last `MAX_MISSED` requested resources that did not
            exist, with the last `SHOWN_IDS` ids of that kind at the time.

    """

    STATE = (
        "workflows",
        "executions",
        "agents",
        "threads",
        "knowledge_bases",
        "triggers",
        "webhooks",
        "started",
        "credits",
        "unlistable",
    )

    def __init__(
        self,
        model_time: ModelTime,
        dialect: Documented,
        random_source: random.Random,
        *,
        live: bool,
        message_answers: Optional[MessageAnswers],
    ) -> None:
        self.model_time = model_time
        self.dialect = dialect
        self._message_answers: Optional[MessageAnswers] = message_answers
        self.credits: Optional[int] = None
        self.workflows: Resources[Workflow] = Resources("workflow", self)
        self.executions: Resources[Execution] = Resources("execution", self)
        self.agents: Resources[Agent] = Resources("agent", self)
        self.threads: Resources[Thread] = Resources("thread", self)
        self.knowledge_bases: Resources[KnowledgeBase] = Resources("knowledge base", self)
        self.triggers: Resources[Trigger] = Resources("trigger", self)
        self.webhooks: Resources[Webhook] = Resources("webhook", self)
        self.started: Deque[Execution] = deque()
        self.listener: Listener = lambda _name, _data, _execution: None
        self.note_change: ChangeListener = lambda _execution, _started: None
        self.unlistable: Dict[str, List[Tuple[int, str]]] = {}
        self.used: Set[Tuple[str, str]] = set()
        self.missed: Dict[Tuple[str, str], List[str]] = {}
        self.deliveries: DeliveryQueue = DeliveryQueue(model_time, self.new_id)
        self.runner: ExecutionRunner = ExecutionRunner(
            model_time, self._happened, dialect.node_error
        )
        self._random_source = random_source
        self._live = live
        self._streams: DefaultDict[str, List[EventStream]] = defaultdict(list)

    def new_id(self) -> str:
        """Return a UUID from the seeded random source."""
        return str(uuid.UUID(int=self._random_source.getrandbits(128), version=4))

    def new_secret(self, prefix: str) -> str:
        """Return a secret from the seeded random source, after `prefix`."""
        return f"{prefix}{self._random_source.getrandbits(160):040x}"

    def start(
        self, workflow: Workflow, inputs: Inputs, *, trigger_id: Optional[str] = None
    ) -> Execution:
        """Start an execution and return it. `trigger_id` is the trigger that starts it, if any.

        If no credits are left, the dialect decides: either a 402 refusal is raised, or the
        execution starts and fails.
        """
        unpaid = self.credits is not None and self.credits <= 0
        if unpaid and self.dialect.refuses_for_credits:
            code, message = "insufficient_credits", "Insufficient credits"
            raise Refusal(402, code, message, {"required": 1, "available": 0}, layer="outer")
        if self.credits:
            self.credits -= 1
        execution = Execution(self.new_id(), workflow, inputs, self.model_time.now, trigger_id)
        self.executions[execution.id] = execution
        self.started.append(execution)
        self.note_change(execution, True)
        self.used.add(("workflow", workflow.id))
        self.runner.start(execution, error=NO_CREDITS if unpaid else None)
        return execution

    def store_bad_inputs(self, workflow: Workflow, error: str) -> None:
        """Store inputs of a workflow that break each page of its list that they are on."""
        older = self._count_of(workflow.id)
        self.unlistable.setdefault(workflow.id, []).append((older, error))

    def bad_inputs_among(self, workflow_id: Optional[str], first: int, end: int) -> Optional[str]:
        """Return the error of bad inputs that are between two ranks of a workflow's list, if any.

        The newest execution has the rank 0; `end` is not among them.
        """
        found = self.unlistable.get(workflow_id or "", [])
        count = self._count_of(workflow_id) if found else 0
        return next((error for older, error in found if first <= count - older < end), None)

    def _count_of(self, workflow_id: Optional[str]) -> int:
        return sum(one.workflow.id == workflow_id for one in self.executions.values())

    def restore(self, execution: Execution, taken: int) -> None:
        """Add an execution of an earlier service, which had taken `taken` steps of its plan.

        If it has not ended, its next step is taken when it is due, or now if it was due before.
        """
        self.executions[execution.id] = execution
        self.started.append(execution)
        if not execution.ended:
            self.runner.resume(execution, taken)

    def newest_executions(self) -> List[Execution]:
        """Return every execution, the newest first.

        Of executions that began at the same time, the one that was added last comes first.
        """
        newest_first = reversed(self.executions.values())
        return sorted(newest_first, key=lambda execution: -execution.created_at)

    def message_answers(self, agent: Optional[Agent]) -> MessageAnswers:
        """Return how `agent` answers a message with `"stream": true`: `"sse"` or `"refused"`.

        `None` stands for an agent that no test has scripted.
        """
        if self._message_answers is None and agent is not None and agent.scripted:
            return "sse"
        return self._message_answers or self.dialect.message_answers

    def ask(
        self, thread: Thread, text: str, ended: Callable[[Turn], None] = lambda _: None
    ) -> Turn:
        """Post a user's message, and return its turn without waiting for the answer.

        Subscribers of the thread and of the turn's execution get the events of the answer as time
        advances. `ended` is called with the turn when the answer is complete or has failed.
        """
        question = Message(self.new_id(), "user", text, self.model_time.now)
        thread.messages.append(question)
        self.announce("thread.message.created", self._message_data(thread, question))
        turn = Turn(self.new_id(), thread, text, self.new_id())

        run_turn(self.model_time, turn, partial(self._uttered, ended))
        return turn

    def subscribe(self, topic: str) -> EventStream:
        """Open a stream of the future events of the execution or thread with the id `topic`."""
        stream = EventStream(self.model_time)
        self._streams[topic] = [*self._listening(topic), stream]
        return stream

    @property
    def open_streams(self) -> int:
        """The number of event streams that are not closed."""
        return sum(len(self._listening(topic)) for topic in list(self._streams))

    def announce(self, event: str, data: JsonObject) -> None:
        """Queue a delivery of an event to every active webhook that subscribes to it."""
        for webhook in self.webhooks.values():
            if webhook.active and event in webhook.events:
                self.deliveries.send(webhook, event, data)

    def _listening(self, topic: str) -> List[EventStream]:
        listening = [stream for stream in self._streams[topic] if not stream.closed]
        if listening:
            self._streams[topic] = listening
        else:
            del self._streams[topic]
        return listening

    def _publish(self, topic: str, name: str, data: JsonObject, *, is_last: bool = False) -> None:
        for stream in self._listening(topic):
            stream.publish(name, data)
            if is_last:
                stream.finish()

    def _happened(self, execution: Execution, step: PlannedEvent) -> None:
        name, data = step.event, {**self.dialect.event_data(execution, step), **step.data}
        self.listener(name, data, execution)
        self.note_change(execution, False)
        if self._live and name != "execution:cancelled":
            self._publish(execution.id, name, data, is_last=execution.ended)
        topic, _, what = name.partition(":")
        if topic == "execution" and what in ("started", "completed", "failed", "cancelled"):
            data = self.dialect.execution(execution)
            self.announce(f"execution.{what}", {"execution_id": execution.id, **data})

    def _uttered(
        self, ended: Callable[[Turn], None], turn: Turn, name: str, data: JsonObject
    ) -> None:
        what = name.partition(":")[2]
        is_last = what in ("completed", "failed")
        self._publish(turn.thread.id, name, data)
        self._publish(turn.execution_id, name, data, is_last=is_last)
        if what == "token":
            return
        ids = {"execution_id": turn.execution_id, "agent_id": turn.thread.agent.id}
        self.announce(f"agent.execution.{what}", {**ids, "thread_id": turn.thread.id})
        if what == "completed" and turn.answer is not None:
            self.announce("thread.message.completed", self._message_data(turn.thread, turn.answer))
        elif what == "failed":
            self.announce("thread.message.failed", data)
        if is_last:
            ended(turn)

    def _message_data(self, thread: Thread, message: Message) -> JsonObject:
        return {"thread_id": thread.id, **self.dialect.message(message)}

"""Scripted resources of a test: workflows, agents, knowledge bases and triggers."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union, cast

from flowmaestro.testing.arguments import (
    check_function,
    check_json,
    check_seconds,
    several,
    whole,
)
from flowmaestro.testing.fake.model.agents import Agent, AgentReply, AnswerText, Replies, echo
from flowmaestro.testing.fake.model.executions import (
    InputField,
    Outputs,
    Trigger,
    Workflow,
    greeting,
)
from flowmaestro.testing.fake.model.knowledge import KnowledgeBase
from flowmaestro.testing.fake.model.plans import (
    Node,
    NodeStep,
    ScriptedEvent,
    plan_by_events,
    scripted_nodes,
    stops,
)
from flowmaestro.testing.fake.model.world import Receiver, World
from flowmaestro_core.arguments import mapping, optional_text, text
from flowmaestro_core.http.messages import Request

__tracebackhide__ = True  # pytest shows the lines of the test instead.

WORK = (Node("work", "Work"),)


class UnusedScriptWarning(UserWarning):
    """A test ended without using one of its scripts, replies or faults."""


class Scripts(World):
    """The scripts of a fake. A contradictory script raises `ValueError`.

    An argument of a wrong type raises `TypeError` or `ValueError`. A scripted resource replaces an
    existing one of its kind with the same id. When the fake is closed, it warns of scripts that
    were never used, or with `strict` raises `AssertionError`.
    """

    def workflow(
        self,
        id: Optional[str] = None,
        *,
        outputs: Union[Mapping[str, Any], Outputs, None] = None,
        nodes: Sequence[Union[str, Node, Tuple[Union[str, Node], ...]]] = WORK,
        fails_at: Optional[str] = None,
        error: Optional[str] = None,
        pauses_at: Optional[str] = None,
        hangs_at: Optional[str] = None,
        events: Optional[Sequence[ScriptedEvent]] = None,
        inputs: Optional[Mapping[str, InputField]] = None,
        name: Optional[str] = None,
    ) -> str:
        """Add a workflow and return its id, by default a new UUID.

        Args:
            id: the id of the workflow.
            outputs: the outputs of an execution, or a function that returns them for its inputs;
                if the function raises, or returns no dict of JSON values, the execution fails. By
                default, the outputs in the last of `events`, or else a greeting. The function is
                called while the fake holds its `lock`, so it must not wait for another thread that
                calls the fake.
            nodes: the nodes, which run one after another. The nodes in a tuple run at the same
                time. A node that is given by its id takes 0.1 s. The seconds of a `Node` may be a
                function of the inputs. By default, one node, `work`, of 0.1 s.
            fails_at: the id of the node at which every execution fails, after three attempts.
            error: the error message of the node that fails, which the error of the execution
                contains; without `fails_at`, the last node fails. The deployed server loses this
                text, and says `Activity task failed`; it is used with `shapes="documented"`.
            pauses_at: the id of the node at which every execution waits for a human, forever.
            hangs_at: the id of the node that never ends.
            events: the events of an execution, instead of nodes. Without a terminal event at the
                end, an execution never ends by itself.
            inputs: how `workflows.get` describes the inputs. With `shapes="documented"`, a start
                without a required input is refused, except by a trigger; the deployed server does
                not check.
            name: the name of the workflow; by default its id.

        """
        ends_early = [fails_at, error, pauses_at, hangs_at] != [None] * 4
        plan, told, made = None, None, list[NodeStep]()
        if events is not None:
            if ends_early or nodes is not WORK:
                raise ValueError(
                    "pass events=, or nodes= with fails_at=, error=, pauses_at= or hangs_at=, "
                    "but not both"
                )
            plan = plan_by_events(events)
            completes = plan[-1].event == "execution:completed"
            told = plan[-1].data.get("outputs") if completes else None
        else:
            made = scripted_nodes(
                nodes, fails_at=fails_at, error=error, pauses_at=pauses_at, hangs_at=hangs_at
            )
            completes = not any(map(stops, chain(*made)))
        optional_text("name", name)
        produce = _producing(outputs, told, completes=completes)
        fields = _input_fields(inputs)
        with self.lock:
            id = self._registered("workflow", id)
            self._service.workflows[id] = Workflow(
                id,
                name or id,
                self._service.model_time.now,
                inputs=fields,
                nodes=made,
                outputs=produce,
                plan=plan,
            )
            return id

    def agent(
        self,
        id: Optional[str] = None,
        *replies: Union[AnswerText, AgentReply, Exception],
        seconds: float = 0.4,
        name: Optional[str] = None,
        model: str = "gpt-4o",
    ) -> str:
        """Add an agent and return its id, by default a new UUID.

        Args:
            id: the id of the agent.
            replies: the answers, one for each message; the last one is repeated. Each is a text,
                which is streamed word by word; a list of tokens; a function that returns either
                for the text of the message; or an exception: the message then fails. (Without
                streaming, the fake then answers like the deployed server: with 408, by default
                after 120 s; with `shapes="documented"`, with 500.) By default, the agent repeats
                the message.
            seconds: how long each answer takes; its tokens come evenly over that time.
            name: the name of the agent; by default its id.
            model: the name of its language model.

        """
        check_seconds("seconds", seconds)
        text("model", model)
        optional_text("name", name)
        script = Replies(replies or [echo])
        with self.lock:
            id = self._registered("agent", id, script if replies else None)
            self._service.agents[id] = Agent(
                id,
                name or id,
                model,
                self._service.model_time.now,
                reply=script,
                seconds=seconds,
                scripted=True,
            )
            return id

    def knowledge_base(
        self,
        id: Optional[str] = None,
        *,
        texts: Union[Mapping[str, str], Sequence[str]],
        name: Optional[str] = None,
    ) -> str:
        """Add a knowledge base and return its id, by default a new UUID.

        `texts` are its documents, a list or a dict by name. Blank lines separate paragraphs; a
        query finds single paragraphs. `name` is by default its id.
        """
        documents = _named_texts(texts)
        optional_text("name", name)
        with self.lock:
            id = self._registered("knowledge base", id)
            base = KnowledgeBase(id, name or id, "", self._service.model_time.now)
            for title, content in documents:
                base.add_document(self._service.new_id(), title, content)
            self._service.knowledge_bases[id] = base
            return id

    def trigger(
        self,
        id: Optional[str] = None,
        *,
        workflow: str,
        enabled: bool = True,
        type: str = "webhook",
    ) -> str:
        """Add a trigger of the workflow with the id `workflow`; return the trigger's id.

        The id is `id`, or a new UUID. Executing a trigger that is not `enabled` is refused. `type`
        is the kind of the trigger, as `triggers.list` returns it. Raises `ValueError` when there is
        no such workflow.
        """
        text("workflow", workflow)
        text("type", type)
        with self.lock:
            started = self._service.workflows.get(workflow)
            if started is None:
                raise ValueError(f"workflow must be the id of a workflow, not {workflow!r}")
            id = self._registered("trigger", id)
            now = self._service.model_time.now
            self._service.triggers[id] = Trigger(id, id, type, started, now, enabled)
            return id

    def receive_webhooks(self, receiver: Receiver) -> None:
        """Make each webhook delivery by calling the function `receiver`.

        `receiver` gets the signed request and returns the HTTP status of its response, or `None`
        for no response within the time limit. After `None`, 408, 425, 429 or a status from 500, the
        delivery is retried later, up to four times, unless it is a test. `receiver` may make calls
        of its own, but must not wait for another thread that makes calls: time stands still
        meanwhile. Without a receiver, every delivery is accepted. A fake over sockets posts
        deliveries to their URLs instead. If `receiver` returns anything else, the call during which
        time advances raises `TypeError`; what `receiver` raises is raised there, too. The attempt
        then counts as one without a response, and deliveries that were due at the same time are
        made when time next advances.
        """
        check_function("receiver", receiver)

        def receive(request: Request) -> Optional[int]:
            status = receiver(request)
            if status is not None and not whole(status):
                raise TypeError(f"receiver must return an HTTP status or None, not {status!r}")
            return status

        self._receiver = receive

    def _registered(self, kind: str, id: Optional[str], replies: Optional[Replies] = None) -> str:
        if id is not None and (not isinstance(id, str) or not id):
            raise ValueError(f"id must be a text that is not empty, not {id!r}")
        id = id or self._service.new_id()
        self._scripts[kind, id] = replies
        self._service.used.discard((kind, id))
        return id

    def _forget_scripts(self) -> List[str]:
        """Describe the scripts and faults that were not used, and forget all of them."""
        unused: List[str] = []
        for (kind, id), replies in self._scripts.items():
            if (kind, id) not in self._service.used:
                unused.append(f"{kind} {id}")
            elif replies is not None and replies.left and replies.given:
                unused.append(f"{replies.left} of the replies of agent {id}")
        self._scripts.clear()
        return unused + self._faults.drain_unused()


def _producing(
    outputs: Union[Mapping[str, Any], Outputs, None], told: Any, *, completes: bool
) -> Outputs:
    """Return the function that makes the outputs of an execution from its inputs.

    `outputs` is the argument of `workflow`, `told` the outputs in the last scripted event. If both
    are `None`, the function returns a greeting. `completes` is whether an execution completes.
    Raises `ValueError` if these arguments contradict each other, or are not JSON, and `TypeError`
    for outputs of a wrong type.
    """
    if outputs is not None and not completes:
        raise ValueError("outputs= is never used: the execution does not complete")
    if outputs is not None and told is not None and outputs != told:
        raise ValueError(
            f"outputs must be those of the last event, {told!r}, or left out, not {outputs!r}"
        )
    outputs = told if outputs is None else outputs
    if outputs is None:
        return greeting
    if callable(outputs):
        check_function("outputs", outputs)
        return outputs
    if not isinstance(outputs, Mapping):
        raise TypeError(f"outputs must be a dict or a function of the inputs, not {outputs!r}")
    check_json("outputs", dict(outputs))
    result = deepcopy(dict(outputs))
    return lambda _: result


def _input_fields(inputs: Optional[Mapping[str, InputField]]) -> Dict[str, InputField]:
    fields = mapping("inputs", inputs) or {}
    for name, about in cast("Dict[object, object]", fields).items():
        if not (isinstance(name, str) and isinstance(about, InputField)):
            raise TypeError(f"inputs[{name!r}] must be an InputField, not {about!r}")
    return fields


def _named_texts(texts: Union[Mapping[str, str], Sequence[str]]) -> List[Tuple[str, str]]:
    if isinstance(texts, Mapping):
        named = list(texts.items())
    else:
        given = several("texts", texts, "texts, or texts by name")
        named = [(f"text {number}", it) for number, it in enumerate(given, 1)]
    for title, content in cast("List[Tuple[object, object]]", named):
        if not (isinstance(title, str) and isinstance(content, str)):
            raise TypeError(f"texts must be texts, not {content!r} under {title!r}")
    return named

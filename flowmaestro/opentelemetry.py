"""OpenTelemetry: spans and metrics of a client. Needs `pip install 'flowmaestro[otel]'`.

| span | kind | when |
|---|---|---|
| `workflows.get`, ... | INTERNAL | one for each operation that is not in the next rows |
| `invoke_workflow ID` | INTERNAL | one for each `workflows.run` or `executions.stream` |
| `node NAME` | INTERNAL | one each time that a node runs, a child of `invoke_workflow` |
| `invoke_agent` | CLIENT | one for each message to an agent |
| `retrieval ID` | CLIENT | one for each query of a knowledge base |
| `invoke_workflow ID` | INTERNAL | for each row of a batch, linked to the span of the batch |
| `GET /workflows/{workflow_id}`, ... | CLIENT | one for each attempt, by the HTTP conventions |

An operation or a row that sends no request has no span.

ID is the id of the workflow or of the knowledge base. The workflow's id is left out if it is not
known when the span starts, as for a stream. The name of a span never changes afterwards. The
workflow's name is in the attribute `gen_ai.workflow.name`, if the event `execution:started` has it.
NAME is the name of the node, or its id if the name is unknown. The span of an attempt of
`client.request` has no path in its name.

The span of a row starts with the first request of that row and ends with the last one. This span is
the root of its own trace, because a batch may have 10,000 rows. A row that was in doubt may have
two spans. An `invoke_workflow` span of an execution that failed has the `error.type`
`execution_failed`, although the call raises nothing.

The times of nodes are the server's, shifted by the difference between its clock and ours. The
difference is estimated from `Date` and from the events. The span of a node is then clamped to the
span of its parent. The attribute `flowmaestro.node.duration` is the duration that the server
measured, if an event has it.

Metrics: `http.client.request.duration`, `flowmaestro.client.operation.duration`,
`gen_ai.invoke_workflow.duration` of each `workflows.run` and `executions.stream` (all in seconds),
`flowmaestro.client.retries`, `flowmaestro.client.reconnections`, and
`flowmaestro.client.rate_limit.remaining`, by `window` (`minute`, `day`).

The source of the names: OpenTelemetry semantic conventions, HTTP (stable); those of GenAI, the
schema and the duration of a workflow are as in the package `opentelemetry-util-genai`.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union, cast
from urllib.parse import urlsplit

from flowmaestro_core import __version__
from flowmaestro_core.arguments import flag
from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.http.secrets import without_keys
from flowmaestro_core.payloads.json_values import hidden_member
from flowmaestro_core.payloads.reply import RateLimit, decode_json
from flowmaestro_core.showing.texts import event_time
from flowmaestro_transports.contract import wall_clock_of
from flowmaestro_transports.observing.hooks import Hooks, RequestInfo, RetryInfo

try:
    from opentelemetry import baggage, metrics, propagate, trace
    from opentelemetry import context as contexts
except ImportError as _error:
    raise ImportError(
        "flowmaestro.opentelemetry needs opentelemetry-api: pip install 'flowmaestro[otel]'"
    ) from _error

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
RUNS = frozenset({"workflows.run", "executions.stream"})
BATCHES = frozenset({"workflows.run_many", "executions.wait_many"})
MESSAGES = frozenset({"threads.send_message", "threads.send_message_stream"})
QUERY = "knowledge_bases.query"
STARTS = frozenset({"workflows.execute", "triggers.execute"})
EXECUTION_FAILED = "execution_failed"
MESSAGE_FAILED = "message_failed"
MAX_OPEN_NODES = 1000
"""Nodes of one run whose end is awaited: more than a run has. A server must not fill the memory."""
MAX_KNOWN_THREADS = 1000
"""Threads whose agents are known: their number is bounded in a process that runs for months."""
LONGEST_NAME = 200
"""Characters; a longer name of the server's is truncated."""
LONGEST_CONTENT = 8192
"""Characters of one value: of inputs and outputs as JSON, of messages and errors as text."""

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, by the HTTP conventions."""
_OPERATION_BUCKETS = (*_BUCKETS, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds. The bounds of requests, continued: an operation may wait for a run for an hour."""
_WORKFLOW_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds, as `opentelemetry-util-genai` has them for the duration of a workflow."""

_ID_ATTRIBUTES = {
    "agent_id": "gen_ai.agent.id",
    "execution_id": "flowmaestro.execution.id",
    "knowledge_base_id": "gen_ai.data_source.id",
    "thread_id": "gen_ai.conversation.id",
    "trigger_id": "flowmaestro.trigger.id",
    "webhook_id": "flowmaestro.webhook.id",
    "workflow_id": "flowmaestro.workflow.id",
}
"""From the name of an id in a path to its attribute. The ids of users are left out on purpose."""

Attributes = Dict[str, Any]
AttemptOutcome = Union[Response, ResponseHead, BaseException]


@dataclass(frozen=True)
class OpenTelemetryHooks(Hooks):
    """Hooks that also make spans and metrics: `FlowMaestroClient(hooks=OpenTelemetryHooks())`.

    They work for both clients, on any transport. The parent of an operation's span is the span that
    was current when the call began or the stream was made, even if another thread reads the stream.
    No context is attached while your code handles an event. Spans hold no secret. They hold content
    only with `content=True`: inputs, outputs, messages, queries, and the error texts of executions
    and nodes, which may quote inputs. In content, values under secret names such as `password`, and
    texts that look like an API key, are `***`. Raises `TypeError`, naming the argument, as `Hooks`
    does.

    Attributes:
        tracer_provider: the provider of the spans, `None` for the global one.
        meter_provider: the provider of the metrics, `None` for the global one.
        content: whether spans hold content, each value with at most 8192 characters.

    """

    tracer_provider: Optional[trace.TracerProvider] = None
    meter_provider: Optional[metrics.MeterProvider] = None
    content: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("content", self.content)
        for name, kind in (
            ("tracer_provider", trace.TracerProvider),
            ("meter_provider", metrics.MeterProvider),
        ):
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, not {type(given).__name__}")
        _ = self._instruments  # Made now: two threads could make them twice.

    @cached_property
    def _instruments(self) -> _Instruments:
        return _Instruments(self.tracer_provider, self.meter_provider, self.content)

    def trace(self, operation: str, transport: Any) -> Optional[_Operation]:
        """Return the trace of one operation; `None` if it would have no effect.

        That is so if there is no tracer provider and no meter provider, given or global, and the
        current context of OpenTelemetry is empty. A valid span and baggage in that context are
        propagated.
        """
        to = self._instruments
        parent = contexts.get_current()
        if not (parent or to.measured or to.traced):
            return None
        return _Operation(to, operation, transport, parent)


class _Instruments:
    """The tracer of one `OpenTelemetryHooks`, and the instruments that record its metrics.

    The object also remembers the agents of threads (`agents`).
    """

    def __init__(
        self,
        tracer_provider: Optional[trace.TracerProvider],
        meter_provider: Optional[metrics.MeterProvider],
        content: bool,
    ) -> None:
        name = "flowmaestro"
        self.content = content
        self._has_tracer = tracer_provider is not None
        self._has_meter = meter_provider is not None
        self.tracer: trace.Tracer = trace.get_tracer(name, __version__, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter(name, __version__, meter_provider, SCHEMA_URL)
        own = f"{name}.client"
        self.requests: metrics.Histogram = meter.create_histogram(
            "http.client.request.duration", "s", explicit_bucket_boundaries_advisory=_BUCKETS
        )
        self.operations: metrics.Histogram = meter.create_histogram(
            f"{own}.operation.duration",
            "s",
            explicit_bucket_boundaries_advisory=_OPERATION_BUCKETS,
        )
        self.workflows: metrics.Histogram = meter.create_histogram(
            "gen_ai.invoke_workflow.duration",
            "s",
            "Measures the duration of a workflow execution.",
            explicit_bucket_boundaries_advisory=_WORKFLOW_BUCKETS,
        )
        self.retries: metrics.Counter = meter.create_counter(f"{own}.retries", "{retry}")
        self.reconnections: metrics.Counter = meter.create_counter(
            f"{own}.reconnections", "{reconnection}"
        )
        gauge = meter.create_gauge(f"{own}.rate_limit.remaining", "{request}")
        # The API of OpenTelemetry exports no public name for the type of a gauge.
        self.set_rate_limit: Callable[[int, Dict[str, str]], None] = gauge.set
        self.agents: Dict[str, str] = {}
        """The agents of threads that clients with these hooks created or fetched, by thread id.

        The request and the reply of a message do not name the agent. When `MAX_KNOWN_THREADS` are
        known, all are forgotten.
        """

    @property
    def traced(self) -> bool:
        """Whether there is a tracer provider, given or global. Without one, no span is recorded."""
        return self._has_tracer or not isinstance(
            trace.get_tracer_provider(), trace.ProxyTracerProvider
        )

    @property
    def measured(self) -> bool:
        """Whether a meter provider was passed to the hooks, or a global one records metrics.

        The providers of the package `opentelemetry-api` itself record nothing, so they do not
        count.
        """
        provider = type(metrics.get_meter_provider())
        return self._has_meter or not provider.__module__.startswith(metrics.__name__)


class _Operation:
    """The spans and metrics of one operation: a `Trace`."""

    def __init__(
        self,
        instruments: _Instruments,
        operation: str,
        transport: Any,
        parent: contexts.Context,
    ) -> None:
        self._to = instruments
        self._operation = operation
        self._clock = transport.now
        self._wall_clock = wall_clock_of(transport)
        self._parent = parent
        self._traced = instruments.traced or (
            trace.get_current_span(self._parent).get_span_context().is_valid
        )
        self._span: Optional[trace.Span] = None
        self._context = self._parent
        self._began = 0.0
        self._began_at = 0
        """When the span began, in nanoseconds since 1970."""
        self._earliest: Optional[int] = None
        """A time before the first event of the execution, by our clock, in nanoseconds since 1970.

        It is `None` if the execution may be older than the operation.
        """
        self._has_sent_body = False
        """Whether a request with a body was sent. The first one has the inputs."""
        self._workflow: Dict[str, str] = {}
        """The attribute with the name of the workflow that a run or stream follows, once known."""
        self._failed: Optional[str] = None
        """The `error.type` of an outcome that is a failure but raises nothing; else `None`."""
        self._attempt: Optional[_AttemptSpan] = None
        self._server_clock = _ServerClock()
        self._nodes = _Nodes(self._start, instruments.content)
        self._rows: Dict[Union[int, str, None], _Row] = {}
        """The open spans of a batch's rows, by index (their start) and by execution id."""

    def attempting(self, info: RequestInfo, request: Request, resent: int) -> Mapping[str, str]:
        """Begin the span of an attempt, whose request is sent now.

        At their first attempt, also begin the spans of the operation and the row. Return the header
        fields that propagate the context of the span. `resent` is how often the call was sent
        before, redirects included.
        """
        span = self._span or self._begin(info, request)
        if request.body and not self._has_sent_body:
            self._has_sent_body = True
            if span.is_recording():
                self._set_request(span, request.body)
        row = self._row_of(info) if self._operation in BATCHES else None
        address, port = _server(request.url[: request.url.find("/", 8)])
        attributes: Attributes = {
            "http.request.method": request.method,
            "server.address": address,
            "server.port": port,
        }
        name = request.method
        if info.route is not None:
            attributes["url.template"] = info.route
            name = f"{name} {info.route}"
        context = self._context if row is None else row.context
        made = self._start(name, attributes, trace.SpanKind.CLIENT, context=context)
        sent_at = self._wall_clock() if self._traced else 0.0
        attempt = self._attempt = _AttemptSpan(made, attributes, self._clock(), sent_at, row)
        fields: Dict[str, str] = {}
        if made.is_recording():
            made.set_attribute("url.full", info.url)
            if resent:
                made.set_attribute("http.request.resend_count", resent)
            if info.execution_id is not None:
                made.set_attribute("flowmaestro.execution.id", info.execution_id)
                if self._operation not in BATCHES:
                    span.set_attribute("flowmaestro.execution.id", info.execution_id)
        if made.get_span_context().is_valid:
            context = trace.set_span_in_context(made, context)
            attempt.attach(context)
        elif not baggage.get_all(context):
            return fields
        propagate.inject(fields, context)
        return fields

    def attempted(self, outcome: AttemptOutcome) -> None:
        """End the span of an attempt. `outcome` is the response, its head or the exception."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        ended = None
        if self._traced:
            at = self._wall_clock()
            ended = _to_ns(at)
            if not isinstance(outcome, BaseException):
                self._server_clock.learn_date(outcome.headers, attempt.sent_at, at)
            if attempt.row is not None:
                attempt.row.ended_at = ended
                if attempt.row.execution_id is None and isinstance(outcome, Response):
                    self._note_start(attempt.row, outcome)
        attempt.end(outcome, self._to, self._clock(), ended)

    def retrying(self, info: RetryInfo) -> None:
        """Count a retry or a reconnection. Add it as an event to the span of its row or operation.

        This is called before the delay that precedes it.
        """
        outcome = info.outcome
        attributes: Attributes = {
            "flowmaestro.operation": self._operation,
            "error.type": outcome.name.lower() if isinstance(outcome, Phase) else str(outcome),
        }
        counter = self._to.reconnections if info.reconnects else self._to.retries
        counter.add(1, attributes)
        if self._span is not None:
            row = self._rows.get(_row_key(info.request))
            span = self._span if row is None else row.span
            name = "reconnect" if info.reconnects else "retry"
            details = {**attributes, "flowmaestro.delay": info.delay}
            span.add_event(name, details, self._now())

    def emitted(self, item: Any) -> None:
        """Record an item that the operation yields: an event, or the outcome of a row."""
        if isinstance(item, RunOutcome):
            self._end_row(item)
        elif self._span is not None and self._operation in MESSAGES:
            self._take_message_event(self._span, item)
        elif self._span is not None and self._operation in RUNS:
            kind, _, what = str(item.get("type")).partition(":")
            at = self._at(item)
            if kind == "node" and what == "retry":
                details = {"flowmaestro.node.id": _name(item.get("node_id"))}
                self._span.add_event("node retry", details, at)
            elif kind == "node":
                self._nodes.take(what, item, at, self._began_at)
            elif what == "started" and item.get("workflow_name"):
                self._workflow["gen_ai.workflow.name"] = _name(item["workflow_name"])
                self._span.set_attributes(self._workflow)
            elif what in ("completed", "failed", "cancelled"):
                self._failed = EXECUTION_FAILED if what == "failed" else None
                self._set_execution(self._span, {**item, "status": what})

    def ended(self, value: Any, error: Optional[BaseException]) -> None:
        """End the spans of the operation and record its duration.

        A second call has no effect, nor has one for an operation that sent no request. `value` is
        what the operation returned, and for a stream the execution, if it was polled. `error` is
        what it failed with, or `None`.
        """
        span, self._span = self._span, None
        if span is None:
            return
        now = self._now() if self._traced else 0
        attributes = {"flowmaestro.operation": self._operation}
        # A span that is never ended is never exported.
        try:
            self._nodes.end(now)
            for row in list(self._rows.values()):
                row.span.end(row.ended_at)
            self._rows.clear()
            self._set_value(span, value)
        finally:
            if error is not None:
                attributes["error.type"] = _type_of(error)
                _fail(span, attributes["error.type"])
            elif self._failed is not None:
                attributes["error.type"] = self._failed
            span.end(now)
            took = self._clock() - self._began
            self._to.operations.record(took, attributes)
            if self._operation in RUNS:
                failed = {key: attributes[key] for key in ("error.type",) if key in attributes}
                self._to.workflows.record(took, {**self._workflow, **failed})

    def _set_value(self, span: trace.Span, value: Any) -> None:
        """Set the attributes that come from `value`, the argument of `ended`."""
        if self._operation in RUNS:
            execution: Mapping[str, Any] = value or {}
            if execution.get("workflow_id"):
                span.set_attribute("flowmaestro.workflow.id", _name(execution["workflow_id"]))
            if execution and self._operation == "workflows.run":
                failed = execution.get("status") == "failed"
                self._failed = EXECUTION_FAILED if failed else None
                self._set_execution(span, execution)
        elif isinstance(value, Mapping):
            self._set_reply(span, cast("Mapping[str, Any]", value).get("data"))

    def _begin(self, info: RequestInfo, request: Request) -> trace.Span:
        """Begin the span of the operation, at its first request. Return the span."""
        name = self._operation
        attributes: Attributes = {"flowmaestro.operation": name}
        for key, value in info.ids.items():
            if key in _ID_ATTRIBUTES and not (key == "execution_id" and name in BATCHES):
                attributes[_ID_ATTRIBUTES[key]] = _name(value)
        kind = trace.SpanKind.INTERNAL
        if name in RUNS:
            attributes["gen_ai.operation.name"] = "invoke_workflow"
            name = _run_name(info.workflow_id)
        elif name in MESSAGES:
            name = attributes["gen_ai.operation.name"] = "invoke_agent"
            agent_id = self._to.agents.get(info.ids.get("thread_id", ""))
            if agent_id is not None:
                attributes["gen_ai.agent.id"] = agent_id
        elif name == QUERY:
            attributes["gen_ai.operation.name"] = "retrieval"
            name = f"retrieval {attributes['gen_ai.data_source.id']}"
        if self._operation in MESSAGES or self._operation == QUERY:
            kind = trace.SpanKind.CLIENT
            attributes["gen_ai.provider.name"] = "flowmaestro"
        self._began = self._clock()
        self._began_at = self._now() if self._traced else 0
        span = self._span = self._start(name, attributes, kind, self._began_at)
        if span.get_span_context().is_valid:
            self._context = trace.set_span_in_context(span, self._parent)
        # A run with a checkpoint reads first, and may then follow an execution that was started
        # earlier.
        if self._operation in RUNS and request.method == "POST":
            self._earliest = self._began_at
        return span

    def _set_request(self, span: trace.Span, body: bytes) -> None:
        """Set the attributes that come from the body of the operation's first request."""
        shows, operation = self._to.content, self._operation
        if operation == QUERY:
            sent = decode_json(body)
            if sent.get("top_k") is not None:
                span.set_attribute("gen_ai.request.top_k", sent["top_k"])
            if shows:
                span.set_attribute("gen_ai.retrieval.query.text", _text(sent.get("query")))
        elif shows and operation in MESSAGES:
            sent = decode_json(body)
            span.set_attribute("gen_ai.input.messages", _messages("user", sent.get("content")))
        elif shows and (operation in RUNS or operation in STARTS):
            span.set_attribute("flowmaestro.inputs", _content(decode_json(body)))

    def _set_reply(self, span: trace.Span, data: Any) -> None:
        """Set the attributes that come from `data` in the reply to a call.

        If that is a thread, remember its agent.
        """
        if not isinstance(data, Mapping):
            return
        reply = cast("Mapping[str, Any]", data)
        if self._operation in MESSAGES:
            self._set_answer(span, reply)
        elif self._operation in STARTS and reply.get("execution_id"):
            span.set_attribute("flowmaestro.execution.id", _name(reply["execution_id"]))
        elif self._operation in ("agents.create_thread", "threads.get"):
            if reply.get("id") and reply.get("agent_id"):
                agents = self._to.agents
                if len(agents) >= MAX_KNOWN_THREADS:
                    agents.clear()
                agents[str(reply["id"])] = _name(reply["agent_id"])
        elif self._operation == QUERY and isinstance(reply.get("results"), list):
            results = reply["results"]
            span.set_attribute("flowmaestro.results", len(results))
            if self._to.content:
                keys = ("id", "score")
                objects: List[Mapping[str, Any]] = [it for it in results if isinstance(it, Mapping)]
                found = [{key: result.get(key) for key in keys} for result in objects]
                span.set_attribute("gen_ai.retrieval.documents", _content(found))

    def _set_answer(self, span: trace.Span, answer: Mapping[str, Any]) -> None:
        """Set the token usage of an agent's answer; with `content=True`, also the answer's text."""
        usage: Mapping[str, Any] = answer.get("usage") or {}
        for key, name in (
            ("prompt_tokens", "gen_ai.usage.input_tokens"),
            ("completion_tokens", "gen_ai.usage.output_tokens"),
            ("total_tokens", "flowmaestro.usage.total_tokens"),
        ):
            if isinstance(usage.get(key), int):
                span.set_attribute(name, usage[key])
        if self._to.content and answer.get("content") is not None:
            messages = _messages("assistant", answer["content"], finish_reason="stop")
            span.set_attribute("gen_ai.output.messages", messages)

    def _take_message_event(self, span: trace.Span, item: Mapping[str, Any]) -> None:
        if item.get("type") == "message:completed":
            self._set_answer(span, item)
        elif item.get("type") == "message:failed":
            self._failed = MESSAGE_FAILED
            _fail(span, MESSAGE_FAILED, self._error_text(item))

    def _start(
        self,
        name: str,
        attributes: Attributes,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        at: Optional[int] = None,
        context: Optional[contexts.Context] = None,
        links: Sequence[trace.Link] = (),
    ) -> trace.Span:
        """Start a span and return it. It began `at`, in nanoseconds since 1970; `None` is now.

        `context` holds the parent of the span; by default, it is the context of the operation. If
        the operation is not traced, return an invalid span.
        """
        if not self._traced:
            return trace.INVALID_SPAN
        began = self._now() if at is None else at
        within = self._context if context is None else context
        return self._to.tracer.start_span(name, within, kind, attributes, links, began)

    def _set_execution(self, span: trace.Span, execution: Mapping[str, Any]) -> None:
        """Write the status of the execution to `span`. If it failed, mark the span as failed.

        With the option `content`, write the error text and the outputs, too.
        """
        status = str(execution.get("status"))
        span.set_attribute("flowmaestro.execution.status", status)
        if status == "failed":
            _fail(span, EXECUTION_FAILED, self._error_text(execution))
        if self._to.content and execution.get("outputs") is not None:
            span.set_attribute("flowmaestro.outputs", _content(execution["outputs"]))

    def _error_text(self, item: Mapping[str, Any]) -> Optional[str]:
        return _text(item["error"]) if self._to.content and item.get("error") else None

    def _row_of(self, info: RequestInfo) -> Optional[_Row]:
        """Return the row that a request belongs to. Begin a span if the row or execution id is new.

        So a row that was in doubt may get two spans. Return `None` if the request is not about one
        row, or if the operation is not traced.
        """
        key = _row_key(info)
        if key is None or not self._traced:
            return None
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._begin_row(info.workflow_id)
            if info.execution_id is not None:
                row.execution_id = info.execution_id
        return row

    def _begin_row(self, workflow_id: Optional[str]) -> _Row:
        """Begin the span of a row, and return the row.

        The span is the root of a trace, linked to the span of the batch.
        """
        attributes: Attributes = {"gen_ai.operation.name": "invoke_workflow"}
        if workflow_id is not None:
            attributes["flowmaestro.workflow.id"] = _name(workflow_id)
        batch = trace.get_current_span(self._context).get_span_context()
        links = [trace.Link(batch)] if batch.is_valid else []
        # The context keeps what else the caller has in it, such as baggage.
        root = trace.set_span_in_context(trace.INVALID_SPAN, self._parent)
        at = self._now()
        name = _run_name(workflow_id)
        span = self._start(name, attributes, at=at, context=root, links=links)
        return _Row(span, trace.set_span_in_context(span, root), at)

    def _note_start(self, row: _Row, response: Response) -> None:
        """Note the execution id of a row, from the response to its start."""
        try:
            data = decode_json(response.body)["data"]
            row.execution_id = str(data.get("execution_id") or data["id"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return  # An error, or a response that the core rejects.
        self._rows[row.execution_id] = row

    def _end_row(self, outcome: RunOutcome) -> None:
        """End the spans of a row. They end when its last request ended."""
        if outcome.replayed or not self._traced:
            return
        execution: Mapping[str, Any] = outcome.execution or {}
        found: Dict[int, _Row] = {}  # A row that was in doubt may have two spans.
        for key in (outcome.index, outcome.execution_id):
            row = None if key is None else self._rows.pop(key, None)
            if row is not None:
                found[id(row)] = row
        for row in found.values():
            span = row.span
            span.set_attribute("flowmaestro.row", outcome.index)
            if outcome.execution_id is not None:
                span.set_attribute("flowmaestro.execution.id", outcome.execution_id)
            if execution.get("workflow_id"):
                span.set_attribute("flowmaestro.workflow.id", _name(execution["workflow_id"]))
            if self._to.content and outcome.inputs is not None:
                span.set_attribute("flowmaestro.inputs", _content({"inputs": outcome.inputs}))
            if execution:
                self._set_execution(span, execution)
            if outcome.error is not None:
                _fail(span, _type_of(outcome.error))
            span.end(row.ended_at)

    def _at(self, item: Mapping[str, Any]) -> int:
        """Return the time of an event, by our clock, in nanoseconds since 1970.

        It is the timestamp less the estimated difference of the server's clock from ours. A time
        before the start of the operation becomes that start; a time after now becomes now. An event
        without a timestamp gets the present time.
        """
        now, at = self._now(), _ns(item.get("timestamp"))
        if at is None:
            return now
        self._server_clock.learn_event(at, now, self._earliest)
        return min(max(at - self._server_clock.shift, self._began_at), now)

    def _now(self) -> int:
        """Return the time in nanoseconds since 1970, by the transport's wall clock."""
        return _to_ns(self._wall_clock())


def _row_key(info: RequestInfo) -> Union[int, str, None]:
    """Return the key of a request's row in `_Operation._rows`; `None` if it has no row."""
    return info.row if info.execution_id is None else info.execution_id


class _Row:
    """The open span of a row of a batch; `ended_at` is the end of its last request."""

    execution_id: Optional[str] = None

    def __init__(self, span: trace.Span, context: contexts.Context, began_at: int) -> None:
        self.span = span
        self.context = context
        self.ended_at = began_at


class _ServerClock:
    """An estimate of how far the server's clock is ahead of ours, in nanoseconds.

    Each `Date` gives a lower and an upper bound of the difference, and each event at least a lower
    one. While zero lies between the bounds, the estimate is zero; otherwise it is the bound nearest
    to zero. Bounds that contradict the earlier ones replace them.
    """

    def __init__(self) -> None:
        self._least, self._most = -math.inf, math.inf

    @property
    def shift(self) -> int:
        """The estimated lead of the server's clock over ours, in nanoseconds; may be negative."""
        return int(min(max(0.0, self._least), self._most))

    def learn_date(self, headers: Headers, sent_at: float, received_at: float) -> None:
        """Narrow the bounds of the difference of the clocks by the `Date` of a response.

        Bounds that contradict the earlier ones replace them. `Date` has a resolution of one second.
        `sent_at` and `received_at` are seconds since 1970 by our clock.
        """
        date = parse_http_date(headers.get("date", ""))
        if date is not None:
            self._narrow((date - received_at) * 1e9, (date + 1.0 - sent_at) * 1e9)

    def learn_event(self, at: int, received_at: int, earliest: Optional[int]) -> None:
        """Narrow the bounds of the difference of the clocks by the time of an event.

        Bounds that contradict the earlier ones replace them. `at` is that time by the server's
        clock, rounded to a millisecond. By our clock, the event happened before `received_at` and,
        if given, after `earliest`. All times are in nanoseconds since 1970.
        """
        most = math.inf if earliest is None else at + 1_000_000 - earliest
        self._narrow(at - 1_000_000 - received_at, most)

    def _narrow(self, least: float, most: float) -> None:
        self._least, self._most = max(self._least, least), min(self._most, most)
        if self._least > self._most:
            # A clock was set, or `Date` is of another clock, such as a proxy's.
            self._least, self._most = least, most


class _Nodes:
    """Makes the spans of a run's nodes from its events: one for each time that a node ended.

    Nodes that have not ended get theirs in `end`. `start` is `_Operation._start`.
    """

    def __init__(self, start: Callable[..., trace.Span], content: bool) -> None:
        self._start = start
        self._content = content
        self._open: Dict[str, Tuple[int, Attributes]] = {}

    def take(self, what: str, item: Mapping[str, Any], at: int, earliest: int) -> None:
        """Note the start of a node, or make its span when it has ended.

        `item` is an event of the node, and `what` its kind, such as `started`. `at` is the event's
        time. The span does not begin before `earliest`. Both are in nanoseconds since 1970.
        """
        if what not in ("started", "completed", "failed"):
            return
        node_id = _name(item.get("node_id"))
        known = self._open.pop(node_id, None)
        attributes: Attributes = {} if known is None else known[1]
        attributes["flowmaestro.node.id"] = node_id
        for key in ("name", "type"):
            if item.get(f"node_{key}"):
                attributes[f"flowmaestro.node.{key}"] = _name(item[f"node_{key}"])
        if what == "started":
            if len(self._open) < MAX_OPEN_NODES:
                self._open[node_id] = at, attributes
            return
        took = item.get("duration_ms")
        before = 0
        if isinstance(took, (int, float)) and 0 <= took < 1e11:
            before = int(took * 1e6)
            attributes["flowmaestro.node.duration"] = took / 1000
        began = at - before if known is None else known[0]
        span = self._span(attributes, min(max(began, earliest), at))
        if self._content and item.get("outputs") is not None:
            span.set_attribute("flowmaestro.outputs", _content(item["outputs"]))
        if what == "failed":
            shown = self._content and item.get("error")
            _fail(span, "node_failed", _text(item["error"]) if shown else None)
        span.end(at)

    def end(self, at: int) -> None:
        """Make the spans of nodes that have not ended. They end at `at`: no more events follow."""
        for start, attributes in self._open.values():
            self._span(attributes, start).end(at)
        self._open.clear()

    def _span(self, attributes: Attributes, start: int) -> trace.Span:
        shown = attributes.get("flowmaestro.node.name", attributes["flowmaestro.node.id"])
        return self._start(f"node {shown}", attributes, at=start)


class _AttemptSpan:
    """The span of an attempt in flight, and the context that is attached until the attempt ends.

    `began` is the start by the transport's clock, `sent_at` the same by its wall clock, both in
    seconds.
    """

    def __init__(
        self,
        span: trace.Span,
        attributes: Attributes,
        began: float,
        sent_at: float,
        row: Optional[_Row],
    ) -> None:
        self.span = span
        self.attributes = attributes
        self.began = began
        self.sent_at = sent_at
        self.row = row
        self._token: Any = None
        self._suppressing: Any = None

    def attach(self, context: contexts.Context) -> None:
        """Attach the context of the span.

        This also keeps other instrumentations from making a second span for the request.
        """
        self._token = contexts.attach(context)
        instrumentation = sys.modules.get("opentelemetry.instrumentation.utils")
        if instrumentation is not None:
            self._suppressing = instrumentation.suppress_http_instrumentation()
            self._suppressing.__enter__()

    def end(
        self, outcome: AttemptOutcome, to: _Instruments, now: float, ended: Optional[int]
    ) -> None:
        """Detach the context, end the span, and record the attempt's metrics with `to`.

        `outcome` is the response or its head, or the exception that ended the attempt. `now` is by
        the transport's clock, in seconds. `ended` is in nanoseconds since 1970; if it is `None`,
        spans are not recorded, and this one is not ended.
        """
        if self._suppressing is not None:
            self._suppressing.__exit__(None, None, None)
        if self._token is not None:
            contexts.detach(self._token)
        failure = None
        if isinstance(outcome, TransportFailure):
            failure = "timeout" if outcome.timed_out else outcome.phase.name.lower()
        elif isinstance(outcome, BaseException):
            failure = _type_of(outcome)
        else:
            self.attributes["http.response.status_code"] = outcome.status
            self.span.set_attribute("http.response.status_code", outcome.status)
            failure = str(outcome.status) if outcome.status >= 400 else None
            headers = outcome.headers
            if "x-ratelimit-remaining" in headers or "x-ratelimit-remaining-day" in headers:
                limits = RateLimit.from_headers(headers)
                for window, left in (("minute", limits.remaining), ("day", limits.remaining_day)):
                    if left is not None:
                        to.set_rate_limit(left, {"window": window})
        if failure is not None:
            self.attributes["error.type"] = failure
            _fail(self.span, failure)
        if ended is not None:
            self.span.end(ended)
        to.requests.record(now - self.began, self.attributes)


def _run_name(workflow_id: Any) -> str:
    """Return the name of the span of a run."""
    return f"invoke_workflow {_name(workflow_id)}" if workflow_id else "invoke_workflow"


def _fail(span: trace.Span, failure: str, text: Optional[str] = None) -> None:
    """Give a span the status ERROR, with the `error.type` `failure` and the description `text`.

    Neither may hold secrets, because they are exported.
    """
    span.set_attribute("error.type", failure)
    span.set_status(trace.Status(trace.StatusCode.ERROR, text))


def _type_of(error: BaseException) -> str:
    """Return the qualified name of an exception's class."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _ns(value: Any) -> Optional[int]:
    """Return a time of the server in nanoseconds since 1970; `None` if `value` is not a time.

    A time before 1970 or after 5138 is not one.
    """
    seconds = None if value is None else event_time(value)
    if seconds is None or not 0 <= seconds < 1e11:
        return None
    return _to_ns(seconds)


def _to_ns(seconds: float) -> int:
    """Return seconds since 1970 in nanoseconds, rounded to microseconds (a float has no more)."""
    return round(seconds * 1e6) * 1000


def _name(value: Any) -> str:
    """Return a name from the server as one printable line, truncated, with API keys redacted."""
    text = without_keys(str(value)[:LONGEST_NAME])
    return "".join(s if s.isprintable() else "\N{REPLACEMENT CHARACTER}" for s in text)


def _content(value: Any) -> str:
    """Return inputs or outputs as JSON, redacted by `hidden_member`, and truncated."""
    shown = hidden_member("", value)
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str)
    return _encodable(text[:LONGEST_CONTENT])


def _messages(role: str, text: Any, **more: str) -> str:
    """Return a message in the form of the GenAI conventions: valid JSON, even if truncated."""
    shown = _text(text)
    message = {"role": role, "parts": [{"type": "text", "content": shown}], **more}
    return json.dumps([message], ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str:
    """Return `value` as a text of at most `LONGEST_CONTENT` characters.

    A value that is not a string becomes JSON. Possible credentials are redacted.
    """
    text = value if isinstance(value, str) else _content(value)
    return _encodable(str(hidden_member("", text))[:LONGEST_CONTENT])


def _encodable(text: str) -> str:
    """Return `text` with `?` for each lone surrogate, which an exporter could not encode."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=64)
def _server(origin: str) -> Tuple[str, int]:
    """Return host and port of an origin such as `https://api.flowmaestro.io`."""
    parts = urlsplit(origin)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

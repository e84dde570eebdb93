"""OpenTelemetry: spans and metrics of what a client does. Needs `pip install 'flowmaestro[otel]'`.

| span | kind | when |
|---|---|---|
| `workflows.get`, ... | INTERNAL | one for each operation |
| `invoke_workflow ID` | INTERNAL | instead, for `workflows.run` and `executions.stream` |
| `node NAME` | INTERNAL | below that, one for each node in the events, at their times |
| `GET /workflows/{workflow_id}`, ... | CLIENT | one for each attempt, by the HTTP conventions |

ID is the workflow's id; it is left out where it is not known when the span starts, as for a stream.
The name of a span never changes afterwards. The workflow's name is the attribute
`gen_ai.workflow.name`, if an event has it.

A batch has a span `invoke_workflow` for each execution that it saw end, made at that moment. An
execution that failed has the `error.type` `execution_failed`, although the call raises nothing.

Metrics: `http.client.request.duration`, `flowmaestro.client.operation.duration` (both in seconds),
`flowmaestro.client.retries`, `flowmaestro.client.reconnections`, and
`flowmaestro.client.rate_limit.remaining`, by `window` (`minute`, `day`).

The source of the names: OpenTelemetry semantic conventions 1.40, HTTP (stable) and GenAI.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

from flowmaestro_core import __version__
from flowmaestro_core.arguments import flag
from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.http.messages import (
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
except ImportError as error:
    raise ImportError(
        "flowmaestro.opentelemetry needs opentelemetry-api: pip install 'flowmaestro[otel]'"
    ) from error

RUNS = frozenset({"workflows.run", "executions.stream"})
BATCHES = frozenset({"workflows.run_many", "executions.wait_many"})
EXECUTION_FAILED = "execution_failed"
MOST_OPEN_NODES = 1000
LONGEST_NAME = 200
"""Characters; of a name that the server sent, no more goes into a span."""
LONGEST_CONTENT = 8192
"""Characters of inputs or outputs, as JSON, in one attribute."""

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_ERROR = trace.Status(trace.StatusCode.ERROR)
Attributes = Dict[str, Any]
AttemptOutcome = Union[Response, ResponseHead, BaseException]


@dataclass(frozen=True)
class OpenTelemetryHooks(Hooks):
    """Hooks that also make spans and metrics: `FlowMaestroClient(hooks=OpenTelemetryHooks())`.

    They work for both clients, on any transport. A trace belongs to where the operation was asked
    for: a stream that another thread reads stays below the span in which it was made. No context
    stays attached while you hold an event. Spans hold no secret, and no input or output unless
    `content` says so; in those, values under secret names such as `password`, and what looks like
    a key of the API, are `***`. Raises `TypeError`, naming the argument, as `Hooks` does.

    Attributes:
        tracer_provider: where spans go, `None` for the global provider.
        meter_provider: where metrics go, `None` for the global provider.
        content: whether spans hold inputs and outputs: as JSON, at most 8192 characters each.

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
        """As `Hooks.trace`; `None` where no provider listens and nothing is to be propagated."""
        to = self._instruments
        parent = contexts.get_current()
        if not (parent or to.measured or to.traced):
            return None
        return _Operation(to, operation, transport, parent)


class _Instruments:
    """What spans and metrics are made with."""

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
        self.tracer = trace.get_tracer(name, __version__, tracer_provider)
        meter = metrics.get_meter(name, __version__, meter_provider)
        own = f"{name}.client"
        self.requests = meter.create_histogram(
            "http.client.request.duration", "s", explicit_bucket_boundaries_advisory=_BUCKETS
        )
        self.operations = meter.create_histogram(f"{own}.operation.duration", "s")
        self.retries = meter.create_counter(f"{own}.retries", "{retry}")
        self.reconnections = meter.create_counter(f"{own}.reconnections", "{reconnection}")
        self.rate_limit = meter.create_gauge(f"{own}.rate_limit.remaining", "{request}")

    @property
    def traced(self) -> bool:
        """Whether a provider was given or set; without one, a span costs time for nothing."""
        return self._has_tracer or not isinstance(
            trace.get_tracer_provider(), trace.ProxyTracerProvider
        )

    @property
    def measured(self) -> bool:
        """The same for metrics; the API's own providers keep nothing."""
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
        self._failed = False
        self._attempt: Optional[_AttemptSpan] = None
        self._nodes = _Nodes(self._start, instruments.content)

    def attempting(self, info: RequestInfo, request: Request, resent: int) -> Mapping[str, str]:
        """As `Trace.attempting`."""
        to = self._to
        span = self._span or self._begin(info)
        if to.content and request.body and self._operation in RUNS:
            span.set_attribute("flowmaestro.inputs", _content(decode_json(request.body)))
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
        made = self._start(name, attributes, trace.SpanKind.CLIENT)
        attempt = self._attempt = _AttemptSpan(made, attributes, self._clock())
        fields: Dict[str, str] = {}
        if made.is_recording():
            made.set_attribute("url.full", info.url)
            if resent:
                made.set_attribute("http.request.resend_count", resent)
            if info.execution_id is not None:
                made.set_attribute("flowmaestro.execution.id", info.execution_id)
                if self._operation not in BATCHES:
                    span.set_attribute("flowmaestro.execution.id", info.execution_id)
        context = self._context
        if made.get_span_context().is_valid:
            context = trace.set_span_in_context(made, context)
            attempt.attach(context)
        elif not baggage.get_all(context):
            return fields
        propagate.inject(fields, context)
        return fields

    def attempted(self, outcome: AttemptOutcome) -> None:
        """As `Trace.attempted`."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            ended = self._now() if self._traced else None
            attempt.end(outcome, self._to, self._clock(), ended)

    def retrying(self, info: RetryInfo) -> None:
        """As `Trace.retrying`."""
        outcome = info.outcome
        attributes: Attributes = {
            "flowmaestro.operation": self._operation,
            "error.type": outcome.name.lower() if isinstance(outcome, Phase) else str(outcome),
        }
        counter = self._to.reconnections if info.reconnects else self._to.retries
        counter.add(1, attributes)
        if self._span is not None:
            name = "reconnect" if info.reconnects else "retry"
            details = {**attributes, "flowmaestro.delay": info.delay}
            self._span.add_event(name, details, self._now())

    def emitted(self, item: Any) -> None:
        """As `Trace.emitted`."""
        if isinstance(item, RunOutcome):
            self._ran(item)
        elif self._span is not None and self._operation in RUNS:
            kind, _, what = str(item.get("type")).partition(":")
            if kind == "node" and what == "retry":
                details = {"flowmaestro.node.id": _name(item.get("node_id"))}
                self._span.add_event("node retry", details, self._at(item))
            elif kind == "node":
                self._nodes.take(what, item, self._at(item))
            elif what == "started" and item.get("workflow_name"):
                self._span.set_attribute("gen_ai.workflow.name", _name(item["workflow_name"]))
            elif what in ("completed", "failed", "cancelled"):
                self._failed = what == "failed"
                self._settled(self._span, {**item, "status": what})

    def ended(self, value: Any, error: Optional[BaseException]) -> None:
        """As `Trace.ended`."""
        span, self._span = self._span, None
        if span is None:
            return
        now = self._now() if self._traced else 0
        self._nodes.end(now)
        execution: Mapping[str, Any] = value if self._operation in RUNS and value else {}
        if execution.get("workflow_id"):
            span.set_attribute("flowmaestro.workflow.id", _name(execution["workflow_id"]))
        if execution and self._operation == "workflows.run":
            self._failed = execution.get("status") == "failed"
            self._settled(span, execution)
        attributes = {"flowmaestro.operation": self._operation}
        if error is not None:
            attributes["error.type"] = _type_of(error)
            _fail(span, attributes["error.type"])
        elif self._failed:
            attributes["error.type"] = EXECUTION_FAILED
        span.end(now)
        self._to.operations.record(self._clock() - self._began, attributes)

    def _begin(self, info: RequestInfo) -> trace.Span:
        """The first request goes out: begin the span of the operation."""
        attributes: Attributes = {"flowmaestro.operation": self._operation}
        if info.workflow_id is not None:
            attributes["flowmaestro.workflow.id"] = info.workflow_id
        name = self._operation
        if name in RUNS:
            attributes["gen_ai.operation.name"] = "invoke_workflow"
            name = _run_name(info.workflow_id)
        self._began = self._clock()
        span = self._span = self._start(name, attributes)
        if span.get_span_context().is_valid:
            self._context = trace.set_span_in_context(span, self._parent)
        return span

    def _start(
        self,
        name: str,
        attributes: Attributes,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        at: Optional[int] = None,
    ) -> trace.Span:
        """A span that began at a time in nanoseconds since 1970, or now."""
        if not self._traced:
            return trace.INVALID_SPAN
        began = self._now() if at is None else at
        return self._to.tracer.start_span(name, self._context, kind, attributes, start_time=began)

    def _settled(self, span: trace.Span, execution: Mapping[str, Any]) -> None:
        """What is known of an execution, its outputs and how it ended."""
        status = str(execution.get("status"))
        span.set_attribute("flowmaestro.execution.status", status)
        if status == "failed":
            _fail(span, EXECUTION_FAILED)
        if self._to.content and execution.get("outputs") is not None:
            span.set_attribute("flowmaestro.outputs", _content(execution["outputs"]))

    def _ran(self, outcome: RunOutcome) -> None:
        """A row of a batch has ended."""
        execution: Mapping[str, Any] = outcome.execution or {}
        start = _ns(execution.get("started_at") or execution.get("created_at"))
        if outcome.replayed or outcome.execution_id is None or start is None:
            return
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            "flowmaestro.execution.id": outcome.execution_id,
            "flowmaestro.row": outcome.index,
        }
        workflow_id = execution.get("workflow_id")
        if workflow_id:
            attributes["flowmaestro.workflow.id"] = _name(workflow_id)
        span = self._start(_run_name(workflow_id), attributes, at=start)
        if self._to.content and outcome.inputs is not None:
            span.set_attribute("flowmaestro.inputs", _content({"inputs": outcome.inputs}))
        self._settled(span, execution)
        span.end(_ns(execution.get("completed_at")) or self._now())

    def _at(self, item: Mapping[str, Any]) -> int:
        """When an event happened."""
        return _ns(item.get("timestamp")) or self._now()

    def _now(self) -> int:
        """The time in nanoseconds since 1970, by the transport's wall clock."""
        return int(self._wall_clock() * 1e9)


class _Nodes:
    """The spans of a run's nodes, from its events; `start` is `_Operation._start`."""

    def __init__(self, start: Callable[..., trace.Span], content: bool) -> None:
        self._start = start
        self._content = content
        self._open: Dict[str, Tuple[int, Attributes]] = {}

    def take(self, what: str, item: Mapping[str, Any], at: int) -> None:
        """An event of a node, at a time in nanoseconds since 1970."""
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
            if len(self._open) < MOST_OPEN_NODES:
                self._open[node_id] = at, attributes
            return
        took = item.get("duration_ms")
        before = int(took * 1e6) if isinstance(took, (int, float)) and 0 <= took < 1e11 else 0
        span = self._span(attributes, at - before if known is None else known[0])
        if self._content and item.get("outputs") is not None:
            span.set_attribute("flowmaestro.outputs", _content(item["outputs"]))
        if what == "failed":
            _fail(span, "node_failed")
        span.end(at)

    def end(self, at: int) -> None:
        """The run is over: no more events come."""
        for start, attributes in self._open.values():
            self._span(attributes, start).end(at)
        self._open.clear()

    def _span(self, attributes: Attributes, start: int) -> trace.Span:
        shown = attributes.get("flowmaestro.node.name", attributes["flowmaestro.node.id"])
        return self._start(f"node {shown}", attributes, at=start)


class _AttemptSpan:
    """The span of an attempt under way, and what stays attached until it is over."""

    def __init__(self, span: trace.Span, attributes: Attributes, began: float) -> None:
        self.span = span
        self.attributes = attributes
        self.began = began
        self._token: Any = None
        self._suppressing: Any = None

    def attach(self, context: contexts.Context) -> None:
        """Attach the context of the span; the HTTP library's instrumentation makes no other."""
        self._token = contexts.attach(context)
        instrumentation = sys.modules.get("opentelemetry.instrumentation.utils")
        if instrumentation is not None:
            self._suppressing = instrumentation.suppress_http_instrumentation()
            self._suppressing.__enter__()

    def end(
        self, outcome: AttemptOutcome, to: _Instruments, now: float, ended: Optional[int]
    ) -> None:
        """It is over, at `now`: undo `attach`, end the span at `ended`, record what is measured."""
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
                        to.rate_limit.set(left, {"window": window})
        if failure is not None:
            self.attributes["error.type"] = failure
            _fail(self.span, failure)
        if ended is not None:
            self.span.end(ended)
        to.requests.record(now - self.began, self.attributes)


def _run_name(workflow_id: Any) -> str:
    """Return the name of the span of a run."""
    return f"invoke_workflow {_name(workflow_id)}" if workflow_id else "invoke_workflow"


def _fail(span: trace.Span, failure: str) -> None:
    span.set_attribute("error.type", failure)
    span.set_status(_ERROR)


def _type_of(error: BaseException) -> str:
    """The qualified name of an exception's class."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _ns(value: Any) -> Optional[int]:
    """A time of the server's in nanoseconds since 1970."""
    seconds = None if value is None else event_time(value)
    if seconds is None or not 0 <= seconds < 1e11:
        return None
    return round(seconds * 1e6) * 1000  # no finer than a float of this size is


def _name(value: Any) -> str:
    """A name of the server's as one printable line, not too long, and without a key."""
    text = without_keys(str(value)[:LONGEST_NAME])
    return "".join(s if s.isprintable() else "\N{REPLACEMENT CHARACTER}" for s in text)


def _content(value: Any) -> str:
    """Inputs or outputs as JSON, without what may be a credential."""
    shown = hidden_member("", value)
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str)
    return text[:LONGEST_CONTENT].encode("utf-8", "replace").decode()


@lru_cache(maxsize=64)
def _server(origin: str) -> Tuple[str, int]:
    """Host and port of an origin such as `https://api.flowmaestro.io`."""
    parts = urlsplit(origin)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

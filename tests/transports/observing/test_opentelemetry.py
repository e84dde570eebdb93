"""Spans and metrics: on every transport, under concurrency, and beside other instrumentations."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from pathlib import Path
from typing import Any, Dict

import anyio
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    Hooks,
    NotFoundError,
    RequestInfo,
    StreamTimes,
)
from flowmaestro import opentelemetry as opentelemetry_hooks
from flowmaestro.opentelemetry import OpenTelemetryHooks, _ServerClock
from flowmaestro.testing import (
    FakeFlowMaestro,
    MemoryCheckpoint,
    Node,
    Quiet,
    ScriptedEvent,
    ScriptedTransport,
)
from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from tests.harness.runners import RUNNERS, Runner
from tests.harness.transports.player import KEY, KINDS, Player

FOUND = Response(200, {"X-RateLimit-Remaining": "7"}, b'{"data": {"id": "wf_1"}}')
BUSY = Response(503, {}, b'{"error": {"code": "busy"}}')
ENDED = b'id: 1\nevent: execution:completed\ndata: {"outputs": {}}\n\n'


class Telemetry:
    """Providers that keep what they get in memory."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])
        self.tracer = self.provider.get_tracer("test")

    def hooks(self, **options: Any) -> OpenTelemetryHooks:
        return OpenTelemetryHooks(
            tracer_provider=self.provider, meter_provider=self.meters, **options
        )

    @property
    def spans(self) -> Any:
        return self.exporter.get_finished_spans()

    def named(self, beginning: str) -> Any:
        return [span for span in self.spans if span.name.startswith(beginning)]

    def metrics(self) -> Any:
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: metric.data.data_points
            for scope in data.resource_metrics[0].scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest) -> Player:
    return Player(request.param)


def id_of(span: Any) -> Any:
    return span.context.span_id


def test_a_run_has_attempts_and_nodes_below_it(play: Any, telemetry: Telemetry) -> None:
    events: Any = []
    play(
        FakeFlowMaestro(),
        lambda client: client.workflows.run("wf_123", {"name": "Ada"}, on_event=events.append),
        telemetry.hooks(),
    )
    (run,) = telemetry.named("invoke_workflow")
    assert run.name == "invoke_workflow wf_123"
    assert run.attributes["gen_ai.workflow.name"] == "Hello"
    assert run.kind is trace.SpanKind.INTERNAL
    assert run.attributes["flowmaestro.workflow.id"] == "wf_123"
    assert run.attributes["flowmaestro.execution.status"] == "completed"
    others = [span for span in telemetry.spans if span is not run]
    assert {span.parent.span_id for span in others} == {id_of(run)}
    assert [span.name for span in others if span.kind is trace.SpanKind.CLIENT] == [
        "POST /workflows/{workflow_id}/execute",
        "GET /executions/{execution_id}/events",
        "GET /executions/{execution_id}",
    ]
    told = [event for event in events if event["type"].startswith("node:")]
    times = [event["timestamp"] * 1_000_000 for event in told]
    drawn = [each for node in telemetry.named("node ") for each in (node.start_time, node.end_time)]
    assert drawn == times
    assert "Ada" not in "".join(span.to_json() for span in telemetry.spans)


@pytest.mark.parametrize("events", ["live", "silent"])
def test_a_span_keeps_the_name_that_it_starts_with(
    play: Any, telemetry: Telemetry, events: Any
) -> None:
    """Whether an event or a poll comes first is a race, and decides nothing about a name."""
    fake = FakeFlowMaestro(events=events)
    play(fake, lambda client: client.workflows.run("wf_123"), telemetry.hooks())
    execution_id = fake.executions[0].id
    play(fake, lambda c: c.executions.wait_many([execution_id]), telemetry.hooks())
    started: Any = play(fake, lambda c: c.workflows.execute("wf_abc123"), Hooks())
    execution_id = started["data"]["execution_id"]
    play(fake, lambda c: c.executions.stream(execution_id), telemetry.hooks())
    spans = telemetry.named("invoke_workflow")
    # A row of `wait_many` begins with a poll, which does not name the workflow.
    assert [span.name for span in spans] == [
        "invoke_workflow wf_123",
        "invoke_workflow",
        "invoke_workflow",
    ]
    names = [span.attributes.get("gen_ai.workflow.name") for span in spans]
    told = {"live": ["Hello", None, "Welcome a customer"], "silent": [None, None, None]}
    assert names == told[events]
    assert not any("gen_ai.agent.name" in span.attributes for span in spans)
    ids = [span.attributes.get("flowmaestro.workflow.id") for span in spans[:2]]
    assert ids == ["wf_123", "wf_123"]


def test_no_span_holds_a_secret_even_with_content(play: Any, telemetry: Telemetry) -> None:
    fake = FakeFlowMaestro()
    key = "fm_live_0123456789abcdef"
    secret = {"password": "hush-1", "list": [{"api_key": "hush-2"}], "said": f"it is {key}."}
    secret["url"] = "https://me:hush-3@host.test/?token=hush-4"
    work = Node("work", name=f"Work {key}")
    fake.workflow("wf_123", name=f"Named {key}", nodes=[work], outputs=secret)
    hooks = telemetry.hooks(content=True)
    play(fake, lambda client: client.workflows.run("wf_123", secret), hooks)
    play(fake, lambda client: client.workflows.run_many("wf_123", [secret]), hooks)
    told = "".join(span.to_json() for span in telemetry.spans)
    assert "hush" not in told
    assert key not in told
    rows = [json.loads(it.attributes["flowmaestro.inputs"]) for it in telemetry.named("invoke")]
    assert [row["inputs"]["password"] for row in rows] == ["***", "***"]
    assert hooks.failures == 0


def test_a_value_that_is_nested_deep_breaks_no_hook(play: Any, telemetry: Telemetry) -> None:
    fake, deep = FakeFlowMaestro(), "[" * 400 + "]" * 400
    fake.workflow("wf_123", outputs={"deep": json.loads(deep)})
    hooks = telemetry.hooks(content=True)
    play(fake, lambda client: client.workflows.run("wf_123", {"deep": json.loads(deep)}), hooks)
    (run,) = telemetry.named("invoke_workflow")
    for name in ("inputs", "outputs"):
        assert '["..."]' in run.attributes[f"flowmaestro.{name}"]
    assert hooks.failures == 0


def test_an_attempt_and_its_retry_follow_the_http_conventions(
    play: Any, telemetry: Telemetry
) -> None:
    lost = TransportFailure(Phase.NOT_SENT, "no route")
    moved = Response(302, {"Location": "/api/v1/workflows/wf_2?key=hush"}, b"")
    play([BUSY, lost, moved, FOUND], lambda c: c.workflows.get("wf_1"), telemetry.hooks())
    *attempts, operation = telemetry.spans
    assert operation.name == "workflows.get"
    assert dict(attempts[0].attributes) == {
        "http.request.method": "GET",
        "url.full": "https://api.flowmaestro.io/api/v1/workflows/wf_1",
        "url.template": "/workflows/{workflow_id}",
        "server.address": "api.flowmaestro.io",
        "server.port": 443,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    each = [dict(span.attributes) for span in attempts]
    assert [one.get("http.request.resend_count") for one in each] == [None, 1, 2, 3]
    assert [one.get("error.type") for one in each] == ["503", "not_sent", None, None]
    assert "hush" not in "".join(span.to_json() for span in telemetry.spans)
    assert KEY not in "".join(span.to_json() for span in telemetry.spans)
    assert [event.name for event in operation.events] == ["retry", "retry"]
    points = telemetry.metrics()
    assert sum(point.value for point in points["flowmaestro.client.retries"]) == 2
    assert sum(point.count for point in points["http.client.request.duration"]) == 4
    assert [point.value for point in points["flowmaestro.client.rate_limit.remaining"]] == [7]
    (point,) = points["flowmaestro.client.operation.duration"]
    assert dict(point.attributes) == {"flowmaestro.operation": "workflows.get"}


def test_our_traceparent_is_sent_unless_the_caller_has_set_one(
    play: Any, telemetry: Telemetry
) -> None:
    play([BUSY, FOUND], lambda client: client.workflows.get("wf_1"), telemetry.hooks())
    sent = [request.headers["traceparent"].split("-")[2] for request in play.transport.requests]
    assert sent == [f"{id_of(span):016x}" for span in telemetry.named("GET")]
    mine = {"traceparent": "00-1-2-00"}
    play([FOUND], lambda c: c.workflows.get("wf_1"), telemetry.hooks(), headers=mine)
    assert play.transport.requests[0].headers.get_list("traceparent") == ["00-1-2-00"]


def test_an_error_is_the_type_of_the_operation(play: Any, telemetry: Telemetry) -> None:
    gone = Response(404, {}, b'{"error": {"code": "resource_not_found", "message": "private"}}')
    with pytest.raises(NotFoundError):
        play([gone], lambda client: client.workflows.get("wf_1"), telemetry.hooks())
    attempt, operation = telemetry.spans
    assert attempt.attributes["error.type"] == "404"
    assert operation.attributes["error.type"].endswith(".NotFoundError")
    assert not operation.status.is_ok
    assert "private" not in operation.to_json()


def test_an_operation_ends_with_what_its_callback_raised(play: Any, telemetry: Telemetry) -> None:
    def fails(_: Any) -> None:
        raise ZeroDivisionError("private")

    running = Response(200, {}, b'{"data": {"status": "running"}}')
    with pytest.raises(ZeroDivisionError):
        play(
            [running],
            lambda client: client.executions.wait_for_completion("exec_1", on_poll=fails),
            telemetry.hooks(),
        )
    attempt, operation = telemetry.spans
    assert "error.type" not in attempt.attributes
    assert operation.attributes["error.type"] == "ZeroDivisionError"
    assert "private" not in operation.to_json()


def test_a_stream_that_is_lost_ends_with_its_last_event(play: Any, telemetry: Telemetry) -> None:
    def stream(body: bytes) -> Response:
        return Response(200, {"Content-Type": "text/event-stream"}, body)

    begun = b'id: 0\nevent: node:started\ndata: {"node_id": "<n>\\u202e"}\n\n'
    play(
        [stream(begun), stream(ENDED)],
        lambda client: client.executions.stream("exec_1"),
        telemetry.hooks(),
        stream_times=StreamTimes(reconnect_base=0.001),
    )
    (run,) = telemetry.named("invoke_workflow")
    assert [event.name for event in run.events] == ["reconnect"]
    assert [node.name for node in telemetry.named("node ")] == ["node <n>\N{REPLACEMENT CHARACTER}"]
    (point,) = telemetry.metrics()["flowmaestro.client.reconnections"]
    assert point.value == 1


def test_no_context_is_attached_while_the_caller_holds_an_event(telemetry: Telemetry) -> None:
    fake = FakeFlowMaestro()
    client = FlowMaestroClient(fake.api_key, transport=fake.transport(), hooks=telemetry.hooks())
    before = contexts.get_current()
    with client:
        execution_id = client.workflows.execute("wf_123")["data"]["execution_id"]
        with client.executions.stream(execution_id) as events:
            next(events)
            assert contexts.get_current() == before
    assert len(telemetry.named("invoke_workflow")) == 1  # closing has ended it


def test_a_stream_that_another_thread_reads_stays_below_the_span_it_was_made_in(
    telemetry: Telemetry,
) -> None:
    fake = FakeFlowMaestro()
    client = FlowMaestroClient(fake.api_key, transport=fake.transport(), hooks=telemetry.hooks())
    with client:
        execution_id = client.workflows.execute("wf_123")["data"]["execution_id"]
        telemetry.exporter.clear()
        with telemetry.tracer.start_as_current_span("mine") as mine:
            events = client.executions.stream(execution_id)
        reader = threading.Thread(target=list, args=(events,))
        reader.start()
        reader.join()
    (run,) = telemetry.named("invoke_workflow")
    assert run.parent.span_id == mine.get_span_context().span_id
    below = [span for span in telemetry.spans if span.parent and span is not run]
    assert len(below) == len(telemetry.spans) - 2
    assert {span.parent.span_id for span in below} == {id_of(run)}


def parent_of(telemetry: Telemetry, span: Any) -> Any:
    (found,) = (one for one in telemetry.spans if id_of(one) == span.parent.span_id)
    return found


def lies_within(span: Any, parent: Any) -> bool:
    return bool(parent.start_time <= span.start_time <= span.end_time <= parent.end_time)


def test_requests_of_a_batch_lie_below_rows_that_link_to_the_batch(
    play: Any, telemetry: Telemetry
) -> None:
    hooks = telemetry.hooks()
    token = contexts.attach(baggage.set_baggage("tenant", "a"))
    try:
        play(
            FakeFlowMaestro(),
            lambda client: client.workflows.run_many("wf_123", [{}, {}, {}], concurrency=2),
            hooks,
        )
    finally:
        contexts.detach(token)
    (batch,) = telemetry.named("workflows.run_many")
    rows = telemetry.named("invoke_workflow")
    assert sorted(row.attributes["flowmaestro.row"] for row in rows) == [0, 1, 2]
    assert len({row.context.trace_id for row in rows} | {batch.context.trace_id}) == 4
    for row in rows:
        assert row.parent is None
        (link,) = row.links
        assert link.context.span_id == id_of(batch)
        assert lies_within(row, batch)
        assert row.attributes["flowmaestro.execution.status"] == "completed"
    requests = [span for span in telemetry.spans if span.kind is trace.SpanKind.CLIENT]
    assert len(requests) > 3
    for request in requests:
        row = parent_of(telemetry, request)
        assert row in rows
        assert lies_within(request, row)
        mine = request.attributes.get("flowmaestro.execution.id")
        assert mine in (None, row.attributes["flowmaestro.execution.id"])
    assert hooks.failures == 0


def test_the_span_of_a_batch_names_no_execution(play: Any, telemetry: Telemetry) -> None:
    ended = Response(200, {}, b'{"data": {"id": "exec_2", "status": "completed"}}')
    play([ended], lambda client: client.executions.wait_many(["exec_2"]), telemetry.hooks())
    (batch,) = telemetry.named("executions.wait_many")
    (row,) = telemetry.named("invoke_workflow")
    assert "flowmaestro.execution.id" not in batch.attributes
    assert row.attributes["flowmaestro.execution.id"] == "exec_2"


def test_a_row_that_cannot_start_has_its_error_and_its_retries(
    play: Any, telemetry: Telemetry
) -> None:
    refused = Response(400, {}, b'{"error": {"code": "validation_error", "message": "no"}}')
    started = Response(202, {}, b'{"data": {"execution_id": "exec_2"}}')
    ended = Response(200, {}, b'{"data": {"id": "exec_2", "status": "completed"}}')
    busy = Response(503, {"Retry-After": "1"}, b"{}")
    play(
        [busy, refused, started, ended],
        lambda client: client.workflows.run_many("wf_1", [{"a": 1}, {"a": 2}]),
        telemetry.hooks(),
    )
    first, second = sorted(
        telemetry.named("invoke_workflow"), key=lambda span: span.attributes["flowmaestro.row"]
    )
    assert first.attributes["error.type"].endswith(".ValidationError")
    assert second.attributes["flowmaestro.execution.id"] == "exec_2"
    assert "error.type" not in second.attributes
    assert [[event.name for event in row.events] for row in (first, second)] == [["retry"], []]


@pytest.mark.parametrize("ahead", [-3600.0, -0.437, 0.0, 0.437, 3600.0])
def test_nodes_lie_within_their_parent_whatever_the_server_s_clock(
    play: Any, telemetry: Telemetry, ahead: float
) -> None:
    fake = FakeFlowMaestro()
    now = fake.wall_clock
    fake.wall_clock = lambda: now() - ahead  # type: ignore[method-assign]
    play(fake, lambda client: client.workflows.run("wf_123"), telemetry.hooks())
    (run,) = telemetry.named("invoke_workflow")
    first, second = telemetry.named("node ")
    assert lies_within(first, run)
    assert lies_within(second, run)
    took = [round((node.end_time - node.start_time) / 1e9, 3) for node in (first, second)]
    told = [node.attributes["flowmaestro.node.duration"] for node in (first, second)]
    assert took == pytest.approx(told, abs=0.003)
    assert first.end_time <= second.start_time


def test_replayed_events_of_an_earlier_start_do_not_mislead_about_the_server_s_clock(
    telemetry: Telemetry,
) -> None:
    """The run is repeated 100 s after its start, and the server sends all events again."""
    checkpoint, fake = MemoryCheckpoint(), FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        started = client.workflows.execute("wf_123", checkpoint=checkpoint)["data"]
    execution_id, epoch = started["execution_id"], 1_700_000_000

    def event(name: str, at: float, node: str = "") -> bytes:
        data = {"node_id": node, "outputs": {}, "timestamp": round(1000 * (epoch + at))}
        return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

    running = {"id": execution_id, "workflow_id": "wf_123", "status": "running"}
    completed = {**running, "status": "completed", "outputs": {}}
    first, last = (
        Response(200, {}, json.dumps({"data": execution}).encode())
        for execution in (running, completed)
    )
    stream: Any = [
        ResponseHead(200, {"Content-Type": "text/event-stream"}),
        event("execution:started", -100.0),
        Quiet(3.0),
        event("node:started", -100.0, "old"),
        event("node:completed", -98.0, "old"),
        event("node:started", 2.0, "new"),
        Quiet(2.0),
        event("node:completed", 4.0, "new"),
        event("node:completed", 5.001, "last"),  # Rounded up by the server: it is 5.0 now.
        event("execution:completed", 5.001),
    ]
    transport = ScriptedTransport([first, stream, last])
    transport.wall_clock = lambda: epoch + transport.now()
    hooks = telemetry.hooks()
    with FlowMaestroClient(KEY, transport=transport, hooks=hooks) as client:
        client.workflows.run("wf_123", checkpoint=checkpoint)
    old, new, last = (
        [time / 1e9 - epoch for time in (node.start_time, node.end_time)]
        for node in telemetry.named("node ")
    )
    assert new == pytest.approx([2.0, 4.0], abs=0.01)
    assert old == pytest.approx([0.0, 0.0], abs=0.01), "it ended before this run began"
    assert last == [5.0, 5.0], "no event is of the future"
    assert hooks.failures == 0


def test_a_clock_that_was_set_starts_the_estimate_again() -> None:
    clock = _ServerClock()
    clock.learn_date(Headers({"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}), 784111777.0, 784111777.5)
    assert clock.shift == 0
    clock.learn_event(784111877 * 10**9, 784111777 * 10**9, 784111776 * 10**9)
    assert clock.shift == pytest.approx(100e9, rel=0.001)
    clock.learn_date(Headers({"Date": "no date"}), 0.0, 0.0)
    assert clock.shift == pytest.approx(100e9, rel=0.001)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_message_is_an_invocation_of_its_agent(
    play: Any, telemetry: Telemetry, content: bool, streamed: bool
) -> None:
    # The deployed server sends the usage of streamed answers only.
    fake = FakeFlowMaestro(shapes="documented")
    hooks = telemetry.hooks(content=content)
    fake.agent("ag_1", "It is fm_live_0123456789abcdef.")
    thread: Any = play(fake, lambda client: client.agents.create_thread("ag_1"), hooks)
    thread_id = thread["data"]["id"]
    method = "send_message_stream" if streamed else "send_message"
    play(fake, lambda client: getattr(client.threads, method)(thread_id, "Hi there"), hooks)
    (message,) = telemetry.named("invoke_agent")
    assert message.name == "invoke_agent"
    assert message.kind is trace.SpanKind.CLIENT
    got = dict(message.attributes)
    assert got["flowmaestro.operation"] == f"threads.{method}"
    assert got["gen_ai.operation.name"] == "invoke_agent"
    assert got["gen_ai.provider.name"] == "flowmaestro"
    assert got["gen_ai.conversation.id"] == thread_id
    assert got["gen_ai.agent.id"] == "ag_1"
    assert got["gen_ai.usage.input_tokens"] > 0
    assert got["gen_ai.usage.output_tokens"] > 0
    if content:
        assert json.loads(got["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "Hi there"}]}
        ]
        (answer,) = json.loads(got["gen_ai.output.messages"])
        assert answer["role"] == "assistant"
        assert answer["parts"] == [{"type": "text", "content": "It is ***."}]
    told = "".join(span.to_json() for span in telemetry.spans)
    assert ("Hi there" in told) is content
    assert "0123456789abcdef" not in told
    assert hooks.failures == 0


def test_a_query_is_a_retrieval_from_its_knowledge_base(play: Any, telemetry: Telemetry) -> None:
    body = b'{"data": {"results": [null, {"id": "c_1", "score": 0.5, "content": "x"}, "x", [1]]}}'
    found = Response(200, {}, body)
    for content in (False, True):
        telemetry.exporter.clear()
        hooks = telemetry.hooks(content=content)
        play(
            [found],
            lambda client: client.knowledge_bases.query("kb_1", "private", top_k=3),
            hooks,
        )
        (query,) = telemetry.named("retrieval")
        assert query.name == "retrieval kb_1"
        got = dict(query.attributes)
        assert got["gen_ai.operation.name"] == "retrieval"
        assert got["gen_ai.data_source.id"] == "kb_1"
        assert (got["gen_ai.request.top_k"], got["flowmaestro.results"]) == (3, 4)
        assert got.get("gen_ai.retrieval.query.text") == ("private" if content else None)
        documents = '[{"id":"c_1","score":0.5}]' if content else None
        assert got.get("gen_ai.retrieval.documents") == documents
        assert hooks.failures == 0


def test_a_span_ends_even_if_its_attributes_cannot_be_read(telemetry: Telemetry) -> None:
    class Odd(Dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise ZeroDivisionError

    following: Any = telemetry.hooks().trace("workflows.get", ScriptedTransport([]))
    url = "https://api.flowmaestro.io/api/v1/workflows/wf_1"
    following.attempting(RequestInfo("GET", url, 1), Request("GET", url, Headers({})), 0)
    following.attempted(FOUND)
    with pytest.raises(ZeroDivisionError):
        following.ended(Odd(), None)
    assert [span.name for span in telemetry.spans] == ["GET", "workflows.get"]
    assert "flowmaestro.client.operation.duration" in telemetry.metrics()


@pytest.mark.parametrize("method", ["run", "execute"])
def test_inputs_of_a_start_with_a_checkpoint_are_shown(
    play: Any, telemetry: Telemetry, method: str
) -> None:
    fake, hooks = FakeFlowMaestro(), telemetry.hooks(content=True)
    checkpoint = MemoryCheckpoint()
    for _ in range(2):  # The second call finds the execution and sends no inputs.
        play(
            fake,
            lambda client: getattr(client.workflows, method)(
                "wf_123", {"name": "Ada"}, checkpoint=checkpoint
            ),
            hooks,
        )
    name = "workflows.execute" if method == "execute" else "invoke_workflow"
    shown = [span.attributes.get("flowmaestro.inputs") for span in telemetry.named(name)]
    assert shown == ['{"inputs":{"name":"Ada"}}', None]
    assert telemetry.spans[0].name == "GET /executions", "its first request has no inputs"
    assert hooks.failures == 0


def test_a_trigger_has_its_id_and_its_execution(play: Any, telemetry: Telemetry) -> None:
    fired = Response(202, {}, b'{"data": {"execution_id": "exec_1"}}')
    play([fired], lambda client: client.triggers.execute("tr_1", {"a": 1}), telemetry.hooks())
    *_, operation = telemetry.spans
    assert operation.name == "triggers.execute"
    assert operation.attributes["flowmaestro.trigger.id"] == "tr_1"
    assert operation.attributes["flowmaestro.execution.id"] == "exec_1"
    assert "flowmaestro.inputs" not in operation.attributes


@pytest.mark.parametrize("content", [False, True])
def test_error_texts_are_content(play: Any, telemetry: Telemetry, content: bool) -> None:
    fake, hooks = FakeFlowMaestro(), telemetry.hooks(content=content)
    failing = [
        ScriptedEvent("node:started", "work"),
        ScriptedEvent("node:failed", "work", error="no fm_live_0123456789abcdef"),
        ScriptedEvent("execution:failed"),
    ]
    fake.workflow("wf_123", events=failing)
    play(fake, lambda client: client.workflows.run("wf_123"), hooks)
    play(fake, lambda client: client.workflows.run_many("wf_123", [{}]), hooks)
    runs = telemetry.named("invoke_workflow")
    assert {span.attributes["error.type"] for span in runs} == {"execution_failed"}
    texts = [span.status.description for span in runs]
    (node,) = telemetry.named("node ")
    assert node.attributes["error.type"] == "node_failed"
    assert node.status.description == ("no ***" if content else None)
    assert len(texts) == 2
    assert [text is not None and "no ***" in text for text in texts] == [content] * 2
    assert "0123456789abcdef" not in "".join(span.to_json() for span in telemetry.spans)
    assert hooks.failures == 0


def test_the_scope_names_its_schema(play: Any, telemetry: Telemetry) -> None:
    play([FOUND], lambda client: client.workflows.get("wf_1"), telemetry.hooks())
    url = "https://opentelemetry.io/schemas/1.37.0"
    assert {span.instrumentation_scope.schema_url for span in telemetry.spans} == {url}
    data: Any = telemetry.reader.get_metrics_data()
    assert {scope.schema_url for scope in data.resource_metrics[0].scope_metrics} == {url}


def test_a_workflow_is_measured_as_the_package_of_the_conventions_does(
    play: Any, telemetry: Telemetry
) -> None:
    pytest.importorskip("opentelemetry.util.genai", reason="it needs Python 3.10")
    from opentelemetry.util.genai.handler import TelemetryHandler

    theirs = Telemetry()
    handler = TelemetryHandler(tracer_provider=theirs.provider, meter_provider=theirs.meters)
    with handler.workflow("Hello"):
        pass
    play(FakeFlowMaestro(), lambda client: client.workflows.run("wf_123"), telemetry.hooks())
    facts = []
    for data in (theirs.reader.get_metrics_data(), telemetry.reader.get_metrics_data()):
        found: Any = data
        (scope,) = found.resource_metrics[0].scope_metrics
        (metric,) = (it for it in scope.metrics if "workflow" in it.name)
        (point,) = metric.data.data_points
        said = (metric.name, metric.unit, metric.description, scope.schema_url)
        facts.append((said, point.explicit_bounds, dict(point.attributes)))
    assert facts[0] == facts[1]


def test_names_of_attributes_are_those_of_the_conventions() -> None:
    pytest.importorskip("opentelemetry.util.genai", reason="it brings the newest conventions")
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {it for it in vars(gen_ai_attributes).values() if isinstance(it, str)}
    source = Path(opentelemetry_hooks.__file__).read_text(encoding="utf-8")
    used = set(re.findall(r'"(gen_ai[.][a-z_.]+)"', source)) - {"gen_ai.invoke_workflow.duration"}
    assert used
    assert used - known == set()


def test_durations_have_the_bounds_of_the_http_conventions(play: Any, telemetry: Telemetry) -> None:
    play([FOUND], lambda client: client.workflows.get("wf_1"), telemetry.hooks())
    bounds = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    points = telemetry.metrics()
    assert points["http.client.request.duration"][0].explicit_bounds == bounds
    (operation,) = points["flowmaestro.client.operation.duration"]
    assert operation.explicit_bounds == (*bounds, 30, 60, 120, 300, 600, 1800, 3600)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_do_not_mix_their_traces(backend: str, telemetry: Telemetry) -> None:
    fake = FakeFlowMaestro()

    async def one(client: AsyncFlowMaestroClient, name: str) -> None:
        with telemetry.tracer.start_as_current_span(name):
            await client.workflows.run("wf_123")
            await client.workflows.get("wf_123")

    async def main() -> None:
        async with (
            AsyncFlowMaestroClient(
                fake.api_key, transport=fake.async_transport(), hooks=telemetry.hooks()
            ) as client,
            anyio.create_task_group() as tasks,
        ):
            for number in range(10):
                tasks.start_soon(one, client, f"task {number}")

    anyio.run(main, backend=backend)
    traces = {span.context.trace_id for span in telemetry.named("task ")}
    assert len(traces) == 10
    for each in traces:
        names = [span.name for span in telemetry.spans if span.context.trace_id == each]
        assert len(names) == 9


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_attempt_that_is_cancelled_ends_its_span(backend: str, telemetry: Telemetry) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:

            async def never(request: Any) -> Response:
                scope.cancel()
                await anyio.sleep_forever()
                raise AssertionError

            client = AsyncFlowMaestroClient(KEY, transport=never, hooks=telemetry.hooks())
            await client.workflows.get("wf_1")
        assert contexts.get_current() == {}

    anyio.run(main, backend=backend)
    attempt, operation = telemetry.spans
    assert "Cancelled" in attempt.attributes["error.type"]
    assert "Cancelled" in operation.attributes["error.type"]


def test_a_processor_that_raises_changes_nothing_and_is_counted(telemetry: Telemetry) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: Any) -> None:
            raise ZeroDivisionError

    telemetry.provider.add_span_processor(Broken())
    hooks = telemetry.hooks(strict=True)
    with FlowMaestroClient(KEY, transport=ScriptedTransport([FOUND]), hooks=hooks) as client:
        client.workflows.get("wf_1")
    assert hooks.failures == 2


def test_without_a_provider_only_baggage_is_sent() -> None:
    token = contexts.attach(baggage.set_baggage("tenant", "a"))
    try:
        transport = ScriptedTransport([FOUND])
        hooks = OpenTelemetryHooks()
        with FlowMaestroClient(KEY, transport=transport, hooks=hooks) as client:
            client.workflows.get("wf_1")
    finally:
        contexts.detach(token)
    assert transport.requests[0].headers["baggage"] == "tenant=a"
    assert "traceparent" not in transport.requests[0].headers
    assert hooks.failures == 0


def test_without_a_provider_no_trace_is_made() -> None:
    hooks = OpenTelemetryHooks()
    assert hooks.trace("workflows.get", ScriptedTransport([])) is None
    provided = (
        OpenTelemetryHooks(meter_provider=MeterProvider([InMemoryMetricReader()])),
        OpenTelemetryHooks(tracer_provider=TracerProvider()),
    )
    for hooks in provided:
        assert hooks.trace("workflows.get", ScriptedTransport([])) is not None


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "content"])
def test_wrong_arguments_of_the_hooks_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        OpenTelemetryHooks(**{name: "yes"})


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
def test_instrumentations_add_no_second_span_on_any_transport(
    runner: Runner, telemetry: Telemetry, fake: FakeFlowMaestro, url: str
) -> None:
    """No span is doubled, and our `traceparent` is the one that the server gets."""
    options: Any = {"base_url": url, "hooks": telemetry.hooks()}
    with contextlib.ExitStack() as stack:
        for library in ("Requests", "AioHttpClient"):
            module = "aiohttp_client" if library == "AioHttpClient" else "requests"
            found = pytest.importorskip(f"opentelemetry.instrumentation.{module}")
            instrumentor = getattr(found, f"{library}Instrumentor")()
            instrumentor.instrument(tracer_provider=telemetry.provider)
            stack.callback(instrumentor.uninstrument)
        if runner.backend is None:
            with FlowMaestroClient(fake.api_key, transport=runner.make(), **options) as client:
                client.workflows.get("wf_123")
        else:

            async def main() -> None:
                transport = runner.make()
                async with AsyncFlowMaestroClient(
                    fake.api_key, transport=transport, **options
                ) as client:
                    await client.workflows.get("wf_123")

            anyio.run(main, backend=runner.backend)
    attempt, operation = telemetry.spans
    assert operation.name == "workflows.get"
    (request,) = fake.requests
    assert request.headers["traceparent"].split("-")[2] == f"{id_of(attempt):016x}"

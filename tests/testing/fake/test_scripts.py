"""What a test can script of workflows and receivers; what it cannot; and scripts unused."""

from __future__ import annotations

import math
import warnings

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import (
    FakeFlowMaestro,
    MemoryTransport,
    Node,
    ScriptedEvent,
    UnusedScriptWarning,
)
from flowmaestro.testing.fake.model import executions


@pytest.fixture
def fake(shapes):
    return FakeFlowMaestro(shapes)


def error_of(shapes, node, text):
    """The error of an execution whose `node` failed. The deployed server loses the text."""
    told = text if shapes == "documented" else "Activity task failed"
    return f'Workflow completed with 1 failed nodes: {{"{node}":"{told}"}}'


def stream(client, workflow_id, inputs=None):
    """Every event of a new execution, and when it came since the start."""
    run = client.workflows.execute(workflow_id, inputs=inputs or {})["data"]["execution_id"]
    clock = client._executor.transport.clock
    start = clock.now
    return [
        (event["type"], round(clock.now - start, 3), event)
        for event in client.executions.stream(run)
    ]


def heard(fake, client, workflow_id):
    """The types of the events of a new execution that does not end."""
    names = []
    fake.listen(lambda name, data, execution: names.append((execution.workflow.id, name)))
    client.workflows.execute(workflow_id)
    fake.clock.advance(3600)
    return [name for of, name in names if of == workflow_id]


def types(events):
    return [name for name, _, _ in events]


class TestWorkflows:
    def test_scripted_outputs_are_returned(self, fake, client):
        assert fake.workflow("wf_invoice", outputs={"total": 7}) == "wf_invoice"
        assert client.workflows.run("wf_invoice")["outputs"] == {"total": 7}
        assert client.workflows.get("wf_invoice")["data"]["name"] == "wf_invoice"

    def test_a_function_from_inputs_to_outputs(self, fake, client):
        doubling = fake.workflow(outputs=lambda inputs: {"n": 2 * inputs["n"]})
        assert client.workflows.run(doubling, {"n": 21})["outputs"] == {"n": 42}
        failed = client.workflows.run(doubling, {})
        assert (failed["status"], failed["error"]) == ("failed", "KeyError: 'n'")

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (None, "TypeError"),
            (7, "TypeError"),
            ("text", "TypeError"),
            ({"n": object()}, "TypeError"),
            ({"n": math.nan}, "ValueError"),
        ],
        ids=["none", "number", "text", "no-json", "nan"],
    )
    def test_a_function_that_returns_something_else_fails_the_execution(
        self, fake, client, bad, error
    ):
        failed = client.workflows.run(fake.workflow(outputs=lambda inputs: bad))
        assert failed["status"] == "failed"
        assert error in failed["error"]

    def test_nodes_in_a_tuple_run_at_the_same_time(self, fake, client):
        together = (Node("slow", seconds=0.5), Node("quick", seconds=0.2))
        workflow = fake.workflow(nodes=["first", together, "last"], outputs={})
        events = stream(client, workflow)
        assert [(name, at, event.get("node_id")) for name, at, event in events[5:11]] == [
            ("node:started", 0.15, "slow"),
            ("node:started", 0.15, "quick"),
            ("node:completed", 0.35, "quick"),
            ("node:completed", 0.65, "slow"),
            ("execution:progress", 0.65, None),
            ("node:started", 0.65, "last"),
        ]
        told = [it for name, _, it in events if name == "execution:progress"]
        assert [(it["completed"], it["progress"]) for it in told] == [(1, 25), (3, 75), (4, 100)]

    def test_all_nodes_of_a_tuple_end_before_a_failure_counts(self, fake, client):
        together = (Node("broken", error="Broke"), Node("slow", seconds=9))
        events = stream(client, fake.workflow(nodes=[together, "never"]))
        assert types(events)[-4:] == [
            "node:failed",
            "node:completed",
            "execution:progress",
            "execution:failed",
        ]
        assert (events[-2][2]["completed"], events[-2][2]["progress"]) == (1, 100)

    def test_one_node_of_a_tuple_may_pause_or_hang(self, fake, client):
        pausing = heard(fake, client, fake.workflow(nodes=[("a", "b")], pauses_at="b"))
        assert pausing[-2:] == ["node:completed", "execution:paused"]
        hanging = heard(fake, client, fake.workflow(nodes=[("a", "b")], hangs_at="b"))
        assert hanging[-2:] == ["node:started", "node:completed"]

    def test_an_output_node_has_the_outputs_which_are_made_once(self, fake, client):
        calls = []
        workflow = fake.workflow(
            nodes=[Node("in", type="input"), Node("out", type="output")],
            outputs=lambda inputs: calls.append(inputs) or {"n": len(calls)},
        )
        events = stream(client, workflow, {"x": 1})
        told = [it["outputs"] for name, _, it in events if name == "node:completed"]
        assert told == [{"x": 1}, {"n": 1}]
        assert (events[-1][2]["outputs"], calls) == ({"n": 1}, [{"x": 1}])

    def test_an_output_node_of_a_function_that_raises_has_none(self, fake, client):
        nodes = [Node("out", type="output")]
        events = stream(client, fake.workflow(nodes=nodes, outputs=lambda inputs: inputs["x"]))
        told = [it["outputs"] for name, _, it in events if name == "node:completed"]
        assert (told, events[-1][2]["error"]) == ([{}], "KeyError: 'x'")

    def test_a_failure_at_a_node(self, fake, client, shapes):
        workflow = fake.workflow(
            nodes=["fetch", "charge", "mail"], fails_at="charge", error="Broke"
        )
        events = stream(client, workflow)
        last = ["node:failed", "execution:progress", "execution:failed"]
        assert types(events)[-3:] == last
        assert events[-3][2]["node_id"] == "charge"
        assert "mail" not in [event.get("node_id") for _, _, event in events]
        assert fake.executions[-1].error == error_of(shapes, "charge", "Broke")

    def test_an_error_alone_is_one_of_the_last_node(self, fake, client, shapes):
        failed = client.workflows.run(fake.workflow(nodes=["a", "b"], error="Broke"))
        assert failed["status"] == "failed"
        assert failed["error"] == error_of(shapes, "b", "Broke")
        failed = client.workflows.run(fake.workflow(fails_at="work"))
        assert failed["error"] == error_of(shapes, "work", "Node work failed")

    @pytest.mark.parametrize(
        "script",
        [
            {"nodes": ["fetch", "wait"], "hangs_at": "wait"},
            {"nodes": ["fetch", Node("wait", seconds=math.inf)]},
        ],
    )
    def test_scripted_hang_keeps_the_execution_running(self, fake, client, script):
        workflow = fake.workflow(**script)
        run = client.workflows.execute(workflow)["data"]["execution_id"]
        fake.clock.advance(86_400)
        (execution,) = fake.executions
        assert (execution.status, execution.current_node.id) == ("running", "wait")
        assert client.executions.cancel(run)["data"]["status"] == "cancelled"

    def test_events_one_by_one(self, fake, client):
        workflow = fake.workflow(
            events=[
                ScriptedEvent("node:started", "fetch", seconds=0.5),
                ScriptedEvent("node:stream", "fetch", data={"chunk": "abc"}),
                ScriptedEvent("node:retry", "fetch", seconds=1, data={"attempt": 2}),
                ScriptedEvent("node:completed", "fetch", seconds=1),
                ScriptedEvent("execution:completed", seconds=0.25),
            ],
            outputs={"done": True},
        )
        events = stream(client, workflow)
        assert [(name, at) for name, at, _ in events[1:]] == [
            ("execution:started", 0.05),
            ("node:started", 0.55),
            ("node:stream", 0.55),
            ("node:retry", 1.55),
            ("node:completed", 2.55),
            ("execution:completed", 2.8),
        ]
        by_name = {name: event for name, _, event in events}
        assert by_name["node:stream"]["chunk"] == "abc"
        assert by_name["node:retry"]["attempt"] == 2
        assert by_name["node:completed"]["duration_ms"] == 2000
        assert by_name["execution:completed"]["outputs"] == {"done": True}

    def test_events_of_a_failure_and_of_no_end(self, fake, client):
        failing = [
            ScriptedEvent("execution:started"),
            ScriptedEvent("node:started", "a"),
            ScriptedEvent("node:failed", "a", error="first"),
            ScriptedEvent("node:started", "a"),
            ScriptedEvent("node:failed", "a", error="second"),
            ScriptedEvent("execution:failed", seconds=1),
        ]
        error = client.workflows.run(fake.workflow(events=failing))["error"]
        assert error == 'Workflow completed with 1 failed nodes: {"a":"second"}'
        healed = [*failing[:3], ScriptedEvent("execution:completed")]
        assert client.workflows.run(fake.workflow(events=healed))["error"] is None
        client.workflows.execute(fake.workflow(events=failing[:-1]))
        fake.clock.advance(1000)
        assert fake.executions[-1].status == "running"

    def test_an_id_that_the_fake_came_with_can_be_taken(self, fake, client):
        fake.workflow("wf_123", outputs={"mine": True})
        assert client.workflows.run("wf_123")["outputs"] == {"mine": True}

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            (
                {"nodes": [], "fails_at": "x"},
                "fails_at must be the id of a node, and there are none",
            ),
            ({"nodes": ["a"], "pauses_at": "x"}, "pauses_at must be one of a, not 'x'"),
            ({"nodes": ["a", "a"]}, "different ids"),
            ({"nodes": [""]}, "id must be a text"),
            ({"nodes": [], "error": "x"}, "error needs a node"),
            ({"fails_at": "work", "hangs_at": "work"}, "stops only once: give one of fails_at"),
            ({"error": "x", "pauses_at": "work"}, "error is why an execution fails"),
            ({"outputs": {}, "fails_at": "work"}, "outputs= is never used"),
            ({"outputs": {}, "hangs_at": "work"}, "outputs= is never used"),
            ({"outputs": {"a": math.nan}}, "outputs must be JSON"),
            ({"outputs": {}, "events": []}, "outputs= is never used"),
            ({"events": [], "nodes": ["a"]}, "pass events=, or nodes="),
            ({"events": [], "error": "x"}, "pass events=, or nodes="),
            (
                {"nodes": [Node("a", error="x"), "b"], "fails_at": "b"},
                "fails_at='b' is never reached: it stops at 'a' before",
            ),
            ({"id": ""}, "id must be a text"),
            (
                {"nodes": [Node("a", type="humanReview")], "fails_at": "a"},
                r"fails_at='a' has no effect: this node pauses \(type='humanReview'\)",
            ),
            (
                {"nodes": [Node("a", type="user_input")], "error": "x"},
                "fails_at='a' has no effect: this node pauses",
            ),
            (
                {"nodes": [Node("a", type="humanReview")], "hangs_at": "a"},
                "hangs_at='a' has no effect: this node pauses",
            ),
            (
                {"nodes": [Node("a", seconds=math.inf)], "fails_at": "a"},
                r"fails_at='a' has no effect: this node never ends \(seconds=inf\)",
            ),
            (
                {"nodes": [Node("a", seconds=math.inf)], "pauses_at": "a"},
                "pauses_at='a' has no effect: this node never ends",
            ),
            (
                {"nodes": [Node("a", skipped=True)], "fails_at": "a"},
                "fails_at='a' has no effect: this node is skipped",
            ),
            ({"nodes": [("a", Node("b")), "a"]}, "different ids"),
        ],
        ids=range(22),
    )
    def test_contradicting_arguments_are_refused(self, fake, script, message):
        with pytest.raises(ValueError, match=message):
            fake.workflow(**script)

    @pytest.mark.parametrize("seconds", [-1, -0.001, -math.inf, math.nan])
    def test_invalid_seconds_of_node_are_refused(self, seconds):
        with pytest.raises(ValueError, match="seconds of node 'a' must be a number of at least 0"):
            Node("a", seconds=seconds)
        with pytest.raises(TypeError, match="seconds of node 'a' must be a number"):
            Node("a", seconds="1")

    @pytest.mark.parametrize(
        ("events", "message"),
        [
            (
                [("execution:completed",), ("node:started", "a")],
                r"events\[1\] is node:started and follows execution:completed, which ends",
            ),
            (
                [("execution:failed",), ("execution:completed",)],
                r"events\[1\] is execution:completed and follows execution:failed",
            ),
            ([("node:started", "a"), ("execution:started",)], "can only be the first"),
            ([("node:started",)], r"events\[0\] is node:started and must name its node"),
            ([("node:failed", "a")], r"events\[0\] is about the node 'a', which has not been st"),
            ([("node:started", "a"), ("node:started", "a")], "which has not ended yet"),
            (
                [("node:started", "a"), ("node:completed", "a"), ("node:stream", "a")],
                r"events\[2\] is about the node 'a'",
            ),
            ([("node:exploded", "a")], r"events\[0\] is 'node:exploded', which is not one of exec"),
            ([("connected",)], "which is not one of"),
            (
                [("execution:progress", None, -1.0)],
                r"seconds of events\[0\] must be a finite number of at least 0",
            ),
            ([("execution:progress", None, 0.0, "x")], "has an error, but"),
            (
                [("execution:progress", None, 0.0, None, {"type": "execution:completed"})],
                r"data of events\[0\] has the type 'execution:completed'",
            ),
            (
                [("execution:resumed",)],
                r"events\[0\] is .*, which can only come while the execution is paused",
            ),
            (
                [("execution:paused",), ("execution:completed",)],
                r"events\[1\] is .*, which cannot come while the execution is paused",
            ),
            (
                [("execution:started",), ("node:started", "")],
                r"node of events\[1\] must be a text that is not empty, not ''",
            ),
        ],
        ids=range(15),
    )
    def test_events_that_contradict_each_other(self, fake, events, message):
        with pytest.raises(ValueError, match=message):
            fake.workflow(events=[ScriptedEvent(*event) for event in events])

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [
            (lambda inputs: inputs["n"], "KeyError: 'n'"),
            (lambda inputs: -1, "ValueError: seconds of node 'a' must be a number of at least 0"),
            (lambda inputs: 10**400, "ValueError: seconds of node 'a' must be a number of at lea"),
            (lambda inputs: "1", "TypeError: seconds of node 'a' must be a number of seconds"),
        ],
        ids=["raises", "negative", "too-large", "text"],
    )
    def test_a_function_for_seconds_that_fails_fails_the_run(self, fake, client, seconds, error):
        workflow = fake.workflow(nodes=[Node("a", seconds=seconds)], outputs={})
        run = client.workflows.run(workflow, {})
        assert (run["status"], run["error"].startswith(error)) == ("failed", True)

    def test_seconds_may_be_a_function_of_the_inputs(self, fake, client):
        nodes = [Node("a", seconds=lambda inputs: inputs["n"]), Node("b", seconds=1)]
        client.workflows.run(fake.workflow(nodes=nodes, outputs={}), {"n": 5})
        assert fake.executions[-1].duration == pytest.approx(6)


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda fake: fake.workflow(nodes=[1]), r"nodes\[0\] must be a Node or the id of one"),
        (
            lambda fake: fake.workflow(nodes=["a", ("b", ("c",))]),
            r"nodes\[1\]\[1\] must be a Node or the id of one",
        ),
        (
            lambda fake: fake.workflow(nodes="abc"),
            "nodes must be a list or another iterable of nodes, not str",
        ),
        (
            lambda fake: fake.workflow(events=ScriptedEvent("execution:started")),
            "events must be a list or another iterable of ScriptedEvent, not ScriptedEvent",
        ),
        (lambda fake: fake.workflow(name=7), "name must be a str, not int"),
        (lambda fake: fake.agent(name=7), "name must be a str, not int"),
        (lambda fake: fake.agent(model=7), "model must be a str, not int"),
        (lambda fake: fake.knowledge_base(texts=["a"], name=7), "name must be a str, not int"),
        (
            lambda fake: fake.knowledge_base(texts=None),
            "texts must be a list or another iterable of texts, or",
        ),
        (lambda fake: fake.trigger(workflow=["wf_123"]), "workflow must be a str, not list"),
        (lambda fake: fake.trigger(workflow="wf_123", type=7), "type must be a str, not int"),
        (lambda fake: Node("a", name=7), "name of node 'a' must be a str, not int"),
        (lambda fake: Node("a", type=7), "type of node 'a' must be a str, not int"),
        (lambda fake: fake.workflow(error=ValueError("x")), "error must be a str, not ValueError"),
        (lambda fake: fake.workflow(nodes=[Node("a", error=1)]), "error of node 'a' must be"),
        (
            lambda fake: fake.workflow(inputs={"a": "string"}),
            r"inputs\['a'\] must be an InputField",
        ),
        (lambda fake: fake.workflow(inputs=["a"]), "inputs must be a dict"),
        (lambda fake: events_of(fake, error=7, type="execution:failed"), r"error of events\[0\]"),
        (
            lambda fake: events_of(fake, type="node:started", node=[]),
            r"node of events\[0\] must be a str, not list",
        ),
        (lambda fake: events_of(fake, data="x"), r"data of events\[0\] must be a dict"),
        (lambda fake: events_of(fake, data={"a": {1}}), r"data of events\[0\] must be JSON"),
        (lambda fake: fake.set_credits("x"), "executions must be an int, not str"),
        (lambda fake: fake.set_credits(-1), "executions must be at least 0, not -1"),
        (lambda fake: fake.add_key(state="foo"), "state must be one of active, expired, revoked"),
        (
            lambda fake: fake.add_key(scopes="workflows:read"),
            "scopes must be a list or another iterable of scopes, not str",
        ),
        (lambda fake: fake.add_key(scopes=["workflow:read"]), "a scope must be one of agents:"),
        (lambda fake: fake.add_key(7), "key must be a str, not int"),
        (lambda fake: fake.fail_next(path="/workflows/{id}"), r"'\*' stands for any one segment"),
        (lambda fake: fake.workflow(outputs=7), "outputs must be a dict or a function"),
        (lambda fake: fake.workflow(outputs=forgotten), "outputs must be a plain function"),
        (lambda fake: fake.workflow(events=["node:started"]), r"events\[0\] must be a ScriptedEv"),
        (lambda fake: fake.agent("x", forgotten), r"replies\[0\] must be a plain function"),
        (lambda fake: fake.agent("x", seconds=-1), "seconds must be a finite number of at least 0"),
        (lambda fake: fake.knowledge_base(texts="one text"), "texts must be"),
        (lambda fake: fake.knowledge_base(texts=[7]), "texts must be"),
        (lambda fake: fake.knowledge_base(texts={"a": None}), "texts must be"),
        (lambda fake: Node("a", seconds=forgotten), "seconds of node 'a' must be a plain function"),
        (lambda fake: fake.receive_webhooks(forgotten), "receiver must be a plain function"),
        (lambda fake: fake.receive_webhooks(200), "receiver must be a plain function"),
        (lambda fake: fake.drop_connection(1.5), "after_events must be an int"),
        (lambda fake: fake.drop_connection(True), "after_events must be an int"),
        (lambda fake: fake.drop_connection(-1), "after_events must be at least 0"),
        (lambda fake: fake.latency(-0.1), "seconds must be a finite number of at least 0"),
        (lambda fake: fake.delay_next(0), "seconds must be"),
        (lambda fake: fake.delay_next("2"), "seconds must be"),
        (lambda fake: fake.clock.call_later(1, forgotten), "function must be a plain function"),
        (lambda fake: FakeFlowMaestro(epoch="today"), "epoch must be a number of seconds"),
        (lambda fake: FakeFlowMaestro(messages="foo"), "messages must be one of refused, sse"),
        (lambda fake: FakeFlowMaestro(time="fast"), "time must be one of virtual, real"),
        (lambda fake: FakeFlowMaestro("older"), "shapes must be one of"),
        (lambda fake: FakeFlowMaestro(events="loud"), "events must be one of"),
        (lambda fake: fake.fail_next(times=0), "times must be at least 1, not 0"),
        (lambda fake: fake.fail_next(times=1.5), "times must be an int, not float"),
        (lambda fake: fake.fail_next(times=True), "times must be an int, not bool"),
        (lambda fake: fake.fail_next(status=200), "status must be that of an error"),
        (lambda fake: fake.fail_next(status="503"), "status must be that of an error"),
        (lambda fake: fake.fail_next(method=""), "method must be one of GET"),
        (lambda fake: fake.fail_next(path="workflows"), "path must begin with a slash"),
        (lambda fake: fake.fail_next(path="/api/v1/workflows"), "path must be below the API root"),
        (
            lambda fake: fake.fail_next(path="/workflows/*/exe*"),
            "path: '\\*' stands for one whole segment",
        ),
        (lambda fake: fake.fail_next(path="/workflows?page=1"), "without a query"),
        (
            lambda fake: fake.fail_next(path="/workflow/*"),
            "path must be a path of the API, not '/workflow/\\*'",
        ),
        (
            lambda fake: fake.fail_next(retry_after=-1),
            "retry_after must be a finite number of at least 0",
        ),
        (lambda fake: fake.assert_executed(None), "workflow_id must be a str, not NoneType"),
        (lambda fake: fake.assert_executed("wf_1", "ada"), "inputs must be a dict"),
        (lambda fake: fake.assert_called(params="page=1"), "params must be a dict"),
        (lambda fake: fake.assert_called(path="/workflows/{id}"), r"'\*' stands for any one"),
        (lambda fake: fake.assert_delivered("execution:completed"), "event must be one of exec"),
        (lambda fake: fake.rate_limit(per_minute="x"), "per_minute must be"),
        (lambda fake: fake.rate_limit(per_day=0), "per_day must be"),
        (lambda fake: fake.rate_limit(), "pass per_minute, per_day or both"),
    ],
    ids=range(71),
)
def test_invalid_script_is_refused_by_name(fake, arrange, message):
    with pytest.raises((TypeError, ValueError), match=message):
        arrange(fake)


async def forgotten():
    """Nobody would await it."""


def events_of(fake, type="execution:completed", **event):
    fake.workflow(events=[ScriptedEvent(type, **event)])


@pytest.mark.parametrize("status", ["200", True, 200.0])
def test_a_receiver_returns_a_status(fake, client, status):
    fake.receive_webhooks(lambda request: status)
    client.webhooks.create("hook", "https://hook.test", ["execution.completed"])
    client.workflows.execute("wf_123")
    with pytest.raises(TypeError, match="receiver must return an HTTP status or None"):
        fake.clock.advance(60)


class TestReceiverThatRaises:
    FIRST, SECOND = "https://first.test", "https://second.test"

    @pytest.fixture
    def called(self, fake, client):
        """The URLs of deliveries that are due at the same time. The first attempt has raised."""
        called = []

        def receive(request):
            called.append(request.url)
            if len(called) == 1:
                raise ZeroDivisionError
            return 200

        for url in (self.FIRST, self.SECOND):
            client.webhooks.create("hook", url, ["execution.started"])
        fake.receive_webhooks(receive)
        client.workflows.execute(fake.workflow(hangs_at="work"))
        with pytest.raises(ZeroDivisionError):
            fake.clock.advance(1)
        assert called == [self.FIRST]
        return called

    def test_its_exception_does_not_lose_the_deliveries_after_it(self, fake, called):
        fake.clock.advance(1)
        assert called == [self.FIRST, self.SECOND]
        (delivered,) = fake.deliveries
        assert (delivered.request.url, delivered.attempts) == (self.SECOND, 1)

    def test_its_exception_counts_as_no_response(self, fake, called):
        fake.clock.advance(121)
        assert [url for url in called if url == self.FIRST] == [self.FIRST] * 2
        (retried,) = [it for it in fake.deliveries if it.request.url == self.FIRST]
        assert (retried.state, retried.attempts) == ("delivered", 2)
        assert retried.error == "fetch failed"


class TestUnusedScripts:
    def arrange(self, fake):
        fake.workflow("wf_used")
        fake.workflow("wf_x")
        fake.agent("agent_x", "One")
        fake.agent("agent_two", "One", "Two")
        fake.knowledge_base("kb_x", texts=["text"])
        fake.trigger("trigger_x", workflow="wf_used")
        fake.fail_next(2, path="/agents")
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        client.workflows.execute("wf_used")
        thread = client.agents.create_thread("agent_two")["data"]["id"]
        client.threads.send_message(thread, "Hi")

    MESSAGE = (
        "never used by this test: workflow wf_x; agent agent_x; 1 of the replies of agent "
        "agent_two; knowledge base kb_x; trigger trigger_x; status 503 for request /agents, "
        "2 times"
    )

    def test_they_are_told_of_at_the_end(self):
        with pytest.warns(UnusedScriptWarning) as caught, FakeFlowMaestro() as fake:
            self.arrange(fake)
        assert str(caught[0].message) == self.MESSAGE

    def test_they_are_an_error_when_strict(self):
        fake = FakeFlowMaestro(strict=True)
        self.arrange(fake)
        with pytest.raises(AssertionError) as caught:
            fake.close()
        assert str(caught.value) == self.MESSAGE
        fake.close()

    def test_a_stream_that_was_over_before_it_was_to_be_lost(self, fake, client):
        fake.drop_connection(after_events=1)
        fake.drop_connection(after_events=50)
        assert len(list(client.executions.stream("exec_xyz789"))) > 1
        with pytest.warns(UnusedScriptWarning) as caught:
            fake.close()
        assert str(caught[0].message) == (
            "never used by this test: a stream dropped after 50 events, before which it ended or "
            "was left"
        )

    def test_a_test_that_fails_anyway_is_not_told(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fake = FakeFlowMaestro(strict=True)
            fake.workflow("wf_x")
            with pytest.raises(KeyError), fake:
                raise KeyError


class TestWhatAScriptShares:
    def ended(self, fake, **inputs):
        with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
            started = client.workflows.execute("wf", inputs=inputs)["data"]
            return client.executions.wait_for_completion(started["execution_id"])

    def test_outputs_of_function_are_copied(self):
        fake, shared = FakeFlowMaestro(), {"count": [0]}

        def count(_):
            shared["count"][0] += 1
            return shared

        fake.workflow("wf", outputs=count)
        self.ended(fake)
        self.ended(fake)
        assert [it.outputs for it in fake.executions] == [{"count": [1]}, {"count": [2]}]

    def test_given_outputs_are_copied(self):
        fake, given = FakeFlowMaestro(), {"a": [1]}
        fake.workflow("wf", outputs=given)
        given["a"].append(2)
        assert self.ended(fake)["outputs"] == {"a": [1]}


class TestOutputsOfTheLastEvent:
    EVENTS = (ScriptedEvent("execution:completed", data={"outputs": {"x": 1}}),)

    def test_they_are_those_of_the_execution(self, fake):
        fake.workflow("wf", events=self.EVENTS)
        assert TestWhatAScriptShares().ended(fake)["outputs"] == {"x": 1}
        fake.workflow("wf", events=self.EVENTS, outputs={"x": 1})

    def test_outputs_must_equal_those_of_the_last_event(self):
        with pytest.raises(ValueError, match="outputs must be those of the last event"):
            FakeFlowMaestro().workflow("wf", events=self.EVENTS, outputs={"x": 2})


def test_inputs_are_copied_for_functions_alone(client, fake, monkeypatch):
    """A copy of a large body takes long, and a served fake answers nobody meanwhile."""
    copied = []
    real = executions.copy_of
    monkeypatch.setattr(executions, "copy_of", lambda inputs: copied.append(1) or real(inputs))
    client.workflows.run("wf_123", {"a": [1]})
    assert copied == []
    fake.workflow("wf_f", nodes=[Node("a", seconds=lambda inputs: inputs.pop("a"))], outputs=dict)
    assert client.workflows.run("wf_f", {"a": 1, "b": 2})["outputs"] == {"a": 1, "b": 2}
    assert copied == [1, 1]

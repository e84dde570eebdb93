"""`mcp`: workflows as tools, asked by the package's own client."""

from __future__ import annotations

import json
import signal
import sys
import threading
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, Node, running_server
from flowmaestro.testing.fake.model.seeds import PAUSING_WORKFLOW_ID
from flowmaestro_transports import Response

mcp = pytest.importorskip("mcp", reason="mcp is NOT INSTALLED: it needs Python 3.10")
from flowmaestro import mcp_server  # noqa: E402
from flowmaestro.mcp_server import tool_name, workflow_server  # noqa: E402

STRICT = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def ask(question, *, workflow=None, timeout=30.0, fake=None, **options):
    """What `question` returns of a client of a server that offers one workflow."""
    fake = fake or FakeFlowMaestro()
    options = options or {"transport": AsyncMemoryTransport(fake)}
    workflow = workflow or {"id": "wf_123", "name": "Hello", "input_schema": STRICT}
    workflows = workflow if isinstance(workflow, list) else [workflow]

    async def main():
        async with AsyncFlowMaestroClient(fake.api_key, **options) as flowmaestro:
            server = workflow_server(flowmaestro, workflows, timeout)
            async with mcp.Client(server) as client:
                return await question(client, tool_name(workflows[0]))

    return anyio.run(main), fake


async def tools(client, name):
    """Return the tools for workflows."""
    return (await client.list_tools()).tools[:-1]


async def call(client, name):
    return await client.call_tool(name, {"name": "Ada"})


def test_a_strict_schema_becomes_the_input_schema_of_the_tool():
    (tool,), _ = ask(tools)
    assert (tool.name, tool.title, tool.input_schema) == ("Hello_wf_123", "Hello", STRICT)
    assert tool.output_schema["required"] == ["execution_id", "outputs"]
    hints = tool.annotations
    assert (hints.read_only_hint, hints.idempotent_hint, hints.open_world_hint) == (
        False,
        False,
        True,
    )


def test_the_description_of_a_tool_names_the_labels_of_its_inputs():
    workflow = {"id": "wf_123", "name": "Hello", "description": "Greets."}
    workflow["inputs"] = {"input1": {"label": "Whom to greet"}}

    (tool,), _ = ask(tools, workflow=workflow)
    assert tool.description == "Greets.\nInputs, by their labels: Whom to greet."


def test_a_tool_runs_its_workflow_and_reports_each_node():
    told = []

    async def listen(progress, total, message):
        told.append((progress, total, message))

    async def call(client, name):
        return await client.call_tool(name, {"name": "Ada"}, progress_callback=listen)

    result, fake = ask(call)
    assert (result.is_error, result.content[0].text) == (False, '{"message": "Hello, Ada!"}')
    execution_id = fake.executions[-1].id
    assert result.structured_content == {
        "execution_id": execution_id,
        "outputs": {"message": "Hello, Ada!"},
    }
    assert told[0] == (0, None, f"execution {execution_id}")
    assert (2, "node:completed Compose greeting") in [(done, text) for done, _, text in told]
    assert told[-1][1] is not None
    assert told[-1][0] <= told[-1][1]


def test_a_tool_polls_an_execution_that_lags_behind_its_events(lags_behind):
    fake = FakeFlowMaestro()
    asked = lags_behind(fake)

    result, _ = ask(call, fake=fake)
    assert (result.is_error, result.content[0].text) == (False, '{"message": "Hello, Ada!"}')
    assert len(asked) == 2


def test_inputs_that_do_not_fit_start_nothing():
    async def call(client, name):
        return await client.call_tool(name, {"nmae": "Ada"})

    result, fake = ask(call)
    assert result.is_error
    assert "'name' is missing" in result.content[0].text
    assert not [request for request in fake.requests if request.method == "POST"]


def test_a_failure_is_an_error_result_with_its_status_and_error():
    fake = FakeFlowMaestro()
    fake.workflow("wf_bad", error="Broke")
    result, _ = ask(call, workflow={"id": "wf_bad", "name": "Bad"}, fake=fake)
    assert result.is_error
    assert " ended with the status failed: " in result.content[0].text
    assert result.content[0].text.endswith(': {"work":"Activity task failed"}')


def test_a_cancelled_run_is_an_error_result_with_its_status():
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])

    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        fake.clock.call_later(5, lambda: client.executions.cancel(fake.executions[-1].id))
        result, _ = ask(call, workflow={"id": "wf_slow", "name": "Slow"}, fake=fake)
    assert result.is_error
    assert result.content[0].text.endswith(" ended with the status cancelled")


def test_half_an_emoji_of_the_server_does_not_end_the_server_on_stdio(flowmaestro, tmp_path):
    """JavaScript's `slice` makes a lone surrogate, which no message of the protocol can hold."""
    cut = "Great! \ud83d"
    schema = {"properties": {cut: {"enum": [cut], "default": cut}}, "additionalProperties": True}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    fake = FakeFlowMaestro()
    fake.workflow("wf_cut", outputs={"summary": cut, cut: [cut]})
    fake.workflow("wf_bad", nodes=[Node(cut, error="Broke")])
    names = ("wf_cut", "wf_bad", "wf_123")
    with running_server(fake) as url:
        environment = {
            **flowmaestro.environment,
            "FLOWMAESTRO_BASE_URL": url,
            "FLOWMAESTRO_API_KEY": fake.api_key,
        }
        words = [word for name in names for word in ("--workflow", name)]
        words += ["--schema", f"wf_cut={tmp_path / 'schema.json'}"]
        parameters = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "flowmaestro", "mcp", *words], env=environment
        )

        async def main():
            async with mcp.Client(parameters) as client:
                tools = (await client.list_tools()).tools[:-1]
                return tools, [await client.call_tool(tool.name, {}) for tool in tools]

        tools, (completed, failed, hello) = anyio.run(main)
    assert tools[0].input_schema["properties"] == {
        "Great! ?": {"enum": ["Great! ?"], "default": "Great! ?"}
    }
    outputs = {"summary": "Great! ?", "Great! ?": ["Great! ?"]}
    assert completed.structured_content["outputs"] == outputs
    assert json.loads(completed.content[0].text) == outputs
    assert '{"Great! ?":' in failed.content[0].text
    assert hello.content[0].text == '{"message": "Hello, world!"}'


def test_values_that_are_nested_deep_are_sent_in_another_form():
    """pydantic, which writes the messages, does not serialise them."""
    deep, schema = "x", {"type": "string"}
    for _ in range(300):
        deep, schema = [deep], {"type": "object", "properties": {"a": schema}}
    fake = FakeFlowMaestro()
    fake.workflow("wf_deep", outputs={"deep": deep})

    async def both(client, name):
        return (await client.list_tools()).tools[:-1], await client.call_tool(name, {})

    workflow = {"id": "wf_deep", "name": "Deep", "input_schema": schema}
    ((tool,), result), _ = ask(both, workflow=workflow, fake=fake)
    assert tool.input_schema == {"type": "object"}
    assert json.loads(result.content[0].text) == {"deep": deep}
    assert result.structured_content["outputs"] == result.content[0].text
    for sent in (tool, result):
        sent.model_dump_json()


def test_a_start_whose_response_names_no_execution_is_an_error_result():
    """Otherwise the assistant would see an internal error, and call the tool again."""

    def started(request):
        return Response(202, {}, b'{"data": {}}')

    result, _ = ask(call, workflow={"id": "wf_1", "name": "W"}, transport=started)
    assert result.is_error
    assert "one may have been started" in result.content[0].text


def test_an_unknown_workflow_is_reported_before_serving(command):
    done = command("mcp", "--workflow", "wf_unknown")
    assert (done.status, done.out) == (3, "")
    assert 'there is no workflow "wf_unknown"' in done.err


def test_a_workflow_is_offered_by_its_name_and_a_terminal_is_told_of_config(
    command, fake, monkeypatch, capsys
):
    async def serve(server):
        served.append(server)

    served = []
    set_handlers = []
    monkeypatch.setattr(signal, "signal", lambda *given: set_handlers.append(given))
    monkeypatch.setattr(mcp_server, "serve_on_stdio", serve)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    done = command("mcp", "--workflow", "Hello")
    assert (done.status, done.out, len(served)) == (0, "", 1)
    assert "Hello is wf_123" in done.err
    assert "--config prints the settings" in done.err
    # The read of a terminal cannot be cancelled, so Ctrl-C must end the process at once.
    assert set_handlers[0] == (signal.SIGINT, signal.SIG_DFL)


def test_an_unknown_tool_is_a_protocol_error():
    async def call(client, name):
        with pytest.raises(mcp.MCPError, match="there is no tool 'Welcome_wf_abc123'") as raised:
            await client.call_tool("Welcome_wf_abc123", {})
        return raised.value.error.code

    code, fake = ask(call)
    assert code == -32602
    assert not fake.requests


def write_profiles(folder, *names):
    profile = {"base_url": "https://kept.example", "api_key": "fm_live_kept"}
    (folder / "config" / "flowmaestro").mkdir(parents=True)
    file = folder / "config" / "flowmaestro" / "profiles.json"
    file.write_text(json.dumps(dict.fromkeys(names, profile)))


@pytest.mark.parametrize(
    ("url", "said"), [("nonsense", "must be an http://"), ("http://u:hide@h", "credentials")]
)
def test_config_refuses_a_url_that_no_client_takes(here, url, said):
    done = here("mcp", "--workflow", "wf_1", "--config", "claude", "--base-url", url)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert "hide" not in done.err


@pytest.mark.parametrize("app", ["claude", "cursor", "vscode"])
def test_config_is_what_the_assistant_reads_and_has_no_key(here, app, tmp_path):
    """By the references of Claude Desktop, Cursor and VS Code."""
    words = ["mcp", "--workflow", "wf_1", "--config", app]
    server = {"command": sys.executable, "args": ["-m", "flowmaestro", *words[:3]]}
    server["env"] = {"FLOWMAESTRO_API_KEY": "fm_live_..."}
    expected = {"mcpServers": {"flowmaestro": server}}
    if app == "vscode":
        server["env"] = {"FLOWMAESTRO_API_KEY": "${input:flowmaestro-key}"}
        question = {"id": "flowmaestro-key", "description": "FlowMaestro API key"}
        question.update(type="promptString", password=True)
        expected = {"inputs": [question], "servers": {"flowmaestro": {"type": "stdio", **server}}}
    done = here(*words, "--api-key", "fm_live_secret")
    assert (done.status, json.loads(done.out)) == (0, expected)
    assert ("write your key in place of" in done.err) == (app != "vscode")  # which asks for it
    assert "--profile: there is no profile 'work'" in here(*words, "--profile", "work").err
    write_profiles(tmp_path, "work")
    done = here(*words, "--profile", "work")
    assert "fm_live" not in done.out + done.err
    (server,) = [*json.loads(done.out).values()][-1].values()
    assert server["args"][-2:] == ["--profile", "work"]
    assert "env" not in server


def test_config_takes_the_server_and_the_profile_of_the_environment(here, monkeypatch, tmp_path):
    def arguments():
        found = json.loads(here("mcp", "--workflow", "wf_1", "--config", "cursor").out)
        return found["mcpServers"]["flowmaestro"]["args"][5:]

    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "https://other.example")
    assert arguments() == ["--base-url", "https://other.example"]
    write_profiles(tmp_path, "default", "work")
    assert arguments() == ["--profile", "default"]
    monkeypatch.setenv("FLOWMAESTRO_PROFILE", "work")
    assert arguments() == ["--profile", "work"]
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_other")
    assert arguments() == ["--base-url", "https://other.example"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("wf_1", "--schema wf_1: write --schema ID=FILE"),
        ("wf_2={file}", "there is no --workflow wf_2"),
        ("wf_1={file}", "this is not a JSON Schema: properties must be an object"),
        ("wf_1=missing.json", "missing.json"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(here, tmp_path, word, said):
    file = tmp_path / "schema.json"
    file.write_text('{"properties": []}')
    done = here("mcp", "--workflow", "wf_1", "--schema", word.format(file=file))
    assert (done.status, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"required": ["name"]}, {"type": "object", "required": ["name"]}),
        ({"type": ["object", "null"]}, {"type": "object"}),
        ({"type": "object", "x-unverified": True}, {"type": "object"}),
    ],
)
def test_the_input_schema_of_a_tool_is_one_of_an_object(schema, sent):
    (tool,), _ = ask(tools, workflow={"id": "wf_123", "name": "Hello", "input_schema": schema})
    assert tool.input_schema == sent


def test_a_request_timeout_differs_from_a_run_timeout():
    fake = FakeFlowMaestro()
    fake.latency(3600)

    result, _ = ask(call, fake=fake)
    assert result.is_error
    expected = "workflow wf_123: [timeout] api.flowmaestro.io: no response was received in time"
    assert result.content[0].text.startswith(expected)


def test_workflows_whose_tools_would_have_one_name_are_all_offered():
    async def tools(client, name):
        return [tool.name for tool in (await client.list_tools()).tools]

    same = {"id": "wf_1", "name": "Hello"}
    alike = [same, same, {"id": "wf.1", "name": "Hello"}, {"id": "wf-1", "name": "Hello"}]
    names, _ = ask(tools, workflow=alike)
    assert names == ["Hello_wf_1", "Hello_wf_1_2", "Hello_wf_1_3", "wait_for_execution"]


@pytest.mark.parametrize("when", ["at once", "with progress"])
def test_a_cancelled_call_is_reported_on_stderr_and_the_run_continues(capsys, when):
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=60)])
    begun = threading.Event()
    fake.listen(lambda *event: begun.set())
    if when == "at once":
        fake.latency(30)

    async def main(url):
        started = anyio.Event()

        async def listen(progress, total, message):
            started.set()

        async with AsyncFlowMaestroClient(fake.api_key, base_url=url) as flowmaestro:
            server = workflow_server(flowmaestro, [{"id": "wf_slow", "name": "Slow"}], 30.0)
            async with mcp.Client(server) as client, anyio.create_task_group() as tasks:

                async def call():
                    await client.call_tool("Slow_wf_slow", {}, progress_callback=listen)

                tasks.start_soon(call)
                if when == "at once":
                    await anyio.to_thread.run_sync(begun.wait)
                else:
                    await started.wait()
                tasks.cancel_scope.cancel()

    with running_server(fake) as url:
        anyio.run(main, url)
    (execution,) = fake.executions
    assert execution.status in ("pending", "running")
    said = f"no longer following execution {execution.id}; it is still running\n"
    if when == "at once":
        said = "no longer following workflow wf_slow; it may have been started\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("name", "id", "tool"),
    [
        ("Nightly report", "wf_1", "Nightly_report_wf_1"),
        ("\u65e5\u672c", "wf_1", "wf_1"),
        ("\u65e5\u672c", "\u8a9e", "workflow"),
        (
            "x" * 100,
            "0fa11000-0000-4000-8000-000000000001",
            "x" * 27 + "_0fa11000_0000_4000_8000_000000000001",
        ),
        ("a", "i" * 100, "i" * 64),
        (None, "wf_1", "wf_1"),
        ("\x1b]52;c;x\x07", "wf_1", "52_c_x_wf_1"),
    ],
)
def test_a_tools_name_is_short_ascii_and_ends_with_the_id(name, id, tool):
    assert tool_name({"name": name, "id": id}) == tool


def test_the_id_stands_for_a_name_that_is_null():
    (tool,), _ = ask(tools, workflow={"id": "wf_123", "name": None})
    assert (tool.name, tool.title, tool.description) == ("wf_123", "wf_123", "wf_123")


def test_a_servers_texts_are_stripped_and_capped():
    evil = "\x1b[2J\x9b\u202e" + "x" * 2_000_000
    schema = {
        "properties": {"a": {"type": "string", "description": evil, "enum": ["\x1b"]}},
    }
    many = {"properties": {f"p{number}": {"type": "string"} for number in range(10_000)}}
    workflows = [
        {"id": "1", "name": "n", "description": evil, "input_schema": schema},
        {"id": "2", "name": "n", "inputs": {"i": {"label": evil}}},
        {"id": "3", "name": "n", "input_schema": many},
    ]

    (strict, labelled, large), _ = ask(tools, workflow=workflows)
    about = strict.input_schema["properties"]["a"]["description"]
    for text in (strict.description, about, labelled.description.split("labels: ")[1]):
        assert len(text) <= 1001
        assert text.isprintable()
    assert strict.input_schema["properties"]["a"]["enum"] == ["\x1b"]  # a value is not a text
    assert large.input_schema == {"type": "object"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_argument_that_is_not_json_is_an_error_result(value):
    """The package's own client sends null for it; others send `NaN`, which the server accepts."""
    fake = FakeFlowMaestro()

    async def main():
        async with AsyncFlowMaestroClient(fake.api_key, transport=AsyncMemoryTransport(fake)) as it:
            workflow = {"id": "wf_123", "name": "Hello"}
            return await mcp_server._run(it, None, workflow, {"name": value}, 30.0)

    result = anyio.run(main)
    assert result.is_error
    assert "the inputs cannot be sent: " in result.content[0].text
    assert not fake.requests


@pytest.mark.parametrize("kind", ["array", ["array", "null"], 7])
def test_a_schema_that_is_not_of_an_object_is_refused_for_its_tool_alone(capsys, kind):
    bad = {"id": "wf_bad", "name": "Bad", "input_schema": {"type": kind}}

    async def tools(client, name):
        with pytest.raises(mcp.MCPError, match="there is no tool 'Bad_wf_bad'"):
            await client.call_tool("Bad_wf_bad", {})
        return [tool.name for tool in (await client.list_tools()).tools]

    names, _ = ask(tools, workflow=[{"id": "wf_123", "name": "Hello"}, bad])
    assert names == ["Hello_wf_123", "wait_for_execution"]
    said = "wf_bad is not offered: the type of this JSON Schema must be object"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("count", [10**400, -1, True, 1.5, "3", None])
def test_a_number_of_nodes_that_cannot_be_is_ignored(count):
    told = []

    async def report(progress, total, message):
        told.append((progress, total))

    async def events():
        yield {"type": "execution:started", "total_nodes": count}
        yield {"type": "node:started"}

    context = SimpleNamespace(session=SimpleNamespace(report_progress=report))
    assert anyio.run(mcp_server._show, context, events()) is None
    assert told == [(1, None)]


def test_a_large_number_in_the_outputs_is_sent():
    fake = FakeFlowMaestro()
    fake.workflow("wf_big", outputs={"number": 10**400})

    result, _ = ask(call, workflow={"id": "wf_big", "name": "Big"}, fake=fake)
    assert result.structured_content["outputs"] == {"number": 10**400}


@pytest.mark.parametrize("events", ["live", "silent"])
def test_a_pause_is_told_at_once_and_the_execution_can_be_waited_for(events, monkeypatch):
    monkeypatch.setattr(mcp_server, "LOOK_EVERY", 0.01)
    fake = FakeFlowMaestro(events=events)
    workflow = {"id": PAUSING_WORKFLOW_ID, "name": "Ask"}

    async def twice(client, name):
        first = await client.call_tool(name, {})
        execution_id = fake.executions[-1].id
        again = await client.call_tool("wait_for_execution", {"execution_id": execution_id})
        return first, again

    with running_server(fake) as url:
        (first, again), _ = ask(twice, workflow=workflow, fake=fake, base_url=url)
    for result in (first, again):
        assert result.is_error
        assert (
            f"the execution {fake.executions[-1].id} waits for a person" in result.content[0].text
        )
    assert fake.executions[-1].status == "paused"


def test_an_execution_that_took_too_long_is_waited_for():
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=100)], outputs={"n": 1})
    fake.workflow("wf_other")

    async def call(client, name):
        first = await client.call_tool(name, {})
        execution_id = fake.executions[-1].id
        return first, await client.call_tool("wait_for_execution", {"execution_id": execution_id})

    (first, again), _ = ask(call, workflow={"id": "wf_slow", "name": "S"}, timeout=60.0, fake=fake)
    assert first.is_error
    text = first.content[0].text
    assert f"{fake.executions[-1].id} did not end within 60 s; it is still running" in text
    assert "the tool wait_for_execution waits for it again" in text
    assert (again.is_error, again.structured_content["outputs"]) == (False, {"n": 1})
    assert len(fake.executions) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "the input 'execution_id' must be the id of an execution"),
        ({"execution_id": 7}, "the input 'execution_id' must be the id of an execution"),
        ({"execution_id": "exec_none"}, "execution exec_none: ["),
        ({"execution_id": "other"}, "is not of a workflow that is offered here"),
    ],
)
def test_only_executions_of_offered_workflows_are_waited_for(arguments, said):
    fake = FakeFlowMaestro()
    fake.workflow("wf_other")
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        other = client.workflows.execute("wf_other")["data"]["execution_id"]
    if arguments.get("execution_id") == "other":
        arguments = {"execution_id": other}

    async def call(client, name):
        return await client.call_tool("wait_for_execution", arguments)

    result, _ = ask(call, fake=fake)
    assert result.is_error
    assert said in result.content[0].text

"""Workflows as tools over the Model Context Protocol. Needs the extra `mcp` and Python 3.10.

Running a workflow has side effects, so only the workflows that the user named are offered. Titles
and descriptions come from the server. In them, a space replaces each unprintable character except
the line feed, and long ones are truncated. Notes for people go to standard error.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple, cast

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroError, TimeoutError, __version__
from flowmaestro.inputs import check_inputs, is_strict, schema_problem
from flowmaestro.printable import printable, printable_lines
from flowmaestro_core.payloads.json_values import count_or_none, list_or_empty, text_or_empty

LONGEST_NAME = 64
"""Characters of a tool's name: what clients accept."""
LONGEST_DESCRIPTION = 1000
"""Characters of one text of a tool from the server: all go to a language model, for which these are
about 250 tokens. Such texts are titles, descriptions, also those in schemas, and the list of
labels."""
_OUTPUT_SCHEMA = {
    "type": "object",
    "properties": {
        "execution_id": {"type": "string", "description": "The id of the execution."},
        "outputs": {
            "description": "The outputs of the workflow; as JSON text if nested too deep to send."
        },
    },
    "required": ["execution_id", "outputs"],
}
_ANNOTATIONS = types.ToolAnnotations(
    read_only_hint=False, idempotent_hint=False, open_world_hint=True
)
"""A workflow may change things outside of FlowMaestro, and twice if it is run twice."""
WAIT = "wait_for_execution"
"""The name of the tool that waits for an execution which was started before."""
_WAIT_TOOL = types.Tool(
    name=WAIT,
    title="Wait for an execution",
    description=(
        "Waits for an execution of one of these workflows that took too long or waited for a "
        "person, and returns its outputs. It starts nothing."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "execution_id": {"type": "string", "description": "The id of the execution."}
        },
        "required": ["execution_id"],
    },
    output_schema=_OUTPUT_SCHEMA,
    annotations=types.ToolAnnotations(
        read_only_hint=True, idempotent_hint=True, open_world_hint=True
    ),
)
LOOK_EVERY = 1.0
"""Seconds between looks at what the polls of a stream have told: a pause lasts minutes or days."""
MOST_NODES = 1_000_000
"""A larger number of nodes is not believed: progress is sent as a float, which ends at 1e308."""
LARGEST_SCHEMA = 65_536
"""Characters of a schema as JSON; a larger one is replaced by that of any object. It goes to a
language model, for which these are about 16,000 tokens."""
DEEPEST = 200
"""Levels of nested lists and objects that are sent: pydantic serialises few more."""


def workflow_server(
    client: AsyncFlowMaestroClient, workflows: Sequence[Mapping[str, Any]], timeout: float
) -> Server[Any]:
    """Return an MCP server whose tools run these workflows.

    `workflows` are resources as `workflows.get` returns them. A workflow whose schema cannot be
    that of a tool is not offered, and a line on standard error says why. A tool follows the events
    of its execution for at most `timeout` seconds. An execution that takes longer continues at the
    server, and so does one whose tool call is cancelled. One more tool, `WAIT`, waits again for an
    execution of these workflows.
    """
    tools: Dict[str, types.Tool] = {}
    offered: Dict[str, Mapping[str, Any]] = {}
    for workflow in {str(each["id"]): each for each in workflows}.values():
        name, number = tool_name(workflow), 2
        while name in tools or name == WAIT:
            # The suffix has room within `LONGEST_NAME`, up to `_999`.
            name, number = f"{tool_name(workflow)[:60]}_{number}", number + 1
        try:
            tools[name] = _tool(name, workflow)
        except ValueError as error:  # The tools of the other workflows are offered all the same.
            _note(f"{workflow['id']} is not offered: {error}")
        else:
            offered[name] = workflow

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[*tools.values(), _WAIT_TOOL])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        inputs = params.arguments or {}
        if params.name == WAIT:
            ids = {str(workflow["id"]) for workflow in offered.values()}
            return await _wait(client, context, inputs, ids, timeout)
        workflow = offered.get(params.name)
        if workflow is None:
            text = f"there is no tool {printable(params.name)[:LONGEST_NAME]!r}"
            raise MCPError(types.INVALID_PARAMS, text)
        problems = check_inputs(workflow, inputs)
        if problems:
            return _result("; ".join(problems), failed=True)
        return await _run(client, context, workflow, inputs, timeout)

    return Server(
        "flowmaestro", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool
    )


async def serve_on_stdio(server: Server[Any]) -> None:
    """Serve one MCP client on standard input and output, until this client disconnects."""
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def tool_name(workflow: Mapping[str, Any]) -> str:
    """Return the name of a workflow's tool: its own name, shortened at the end, and its id.

    The tool's name consists of at most `LONGEST_NAME` ASCII letters, digits and `_`. If the
    workflow's name has no ASCII letter or digit, the tool's name is the id alone. If the id has
    none either, it is `workflow`.
    """
    name, id = (
        re.sub(r"\W+", "_", str(workflow[key] or "")[:1000], flags=re.ASCII).strip("_")
        for key in ("name", "id")
    )
    id = id[:LONGEST_NAME]
    name = name[: max(LONGEST_NAME - len(id) - 1, 0)].rstrip("_")
    return f"{name}_{id}".strip("_") or "workflow"


async def _run(
    client: AsyncFlowMaestroClient,
    context: Any,
    workflow: Mapping[str, Any],
    inputs: Dict[str, Any],
    timeout: float,
) -> types.CallToolResult:
    what = f"workflow {workflow['id']}"
    try:
        started = await client.workflows.execute(workflow["id"], inputs=inputs)
        execution_id: Any = started["data"]["execution_id"]
    except FlowMaestroError as error:
        return _result(f"{what}: {error}", failed=True)
    except (TypeError, ValueError) as error:  # Inputs that are not JSON, such as NaN.
        return _result(f"the inputs cannot be sent: {error}", failed=True)
    except BaseException:  # The call was cancelled: the protocol gives it no reply.
        _note(f"no longer following {what}; it may have been started")
        raise
    if not isinstance(execution_id, str) or not execution_id:
        text = "the server's response names no execution; one may have been started"
        return _result(f"{what}: {text}", failed=True)
    return await _follow(client, context, execution_id, timeout)


async def _wait(
    client: AsyncFlowMaestroClient,
    context: Any,
    arguments: Mapping[str, Any],
    workflow_ids: Collection[str],
    timeout: float,
) -> types.CallToolResult:
    """Return the result of the tool `WAIT`: that of an execution which was started before.

    The execution must be one of the workflows `workflow_ids`. Otherwise the user would offer all
    executions by offering one workflow.
    """
    execution_id = arguments.get("execution_id")
    if not isinstance(execution_id, str) or not execution_id:
        return _result("the input 'execution_id' must be the id of an execution", failed=True)
    try:
        known = cast("Mapping[str, Any]", (await client.executions.get(execution_id))["data"])
    except FlowMaestroError as error:
        return _result(f"execution {execution_id}: {error}", failed=True)
    if str(known.get("workflow_id")) not in workflow_ids:
        text = f"the execution {execution_id} is not of a workflow that is offered here"
        return _result(text, failed=True)
    if known.get("status") == "paused":
        return _paused(execution_id, "")
    return await _follow(client, context, execution_id, timeout)


async def _follow(
    client: AsyncFlowMaestroClient, context: Any, execution_id: str, timeout: float
) -> types.CallToolResult:
    """Return the result of an execution: its outputs, or why there are none.

    It follows the events for at most `timeout` seconds, and reports each node. A pause ends it at
    once, because a person may take days.
    """
    what = f"execution {execution_id}"
    question: Optional[str] = ""  # It stays so if only a poll tells of the pause.
    failure: Optional[FlowMaestroError] = None
    try:
        await _tell(context, 0, None, what)
        async with (
            client.executions.stream(execution_id, timeout=timeout) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_cancel_on_pause, stream, tasks.cancel_scope)
            try:
                question = await _show(context, stream)
            except FlowMaestroError as error:  # Raised here, it would be in a group.
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if question is not None:
            return _paused(execution_id, question)
        # The reply may lag behind the terminal event.
        execution = await client.executions.wait_for_completion(execution_id)
    except FlowMaestroError as error:
        if isinstance(error, TimeoutError) and not error.attempts:  # It is not of one request.
            text = f"the execution {execution_id} did not end within {timeout:g} s"
            text += f"; it is still running; the tool {WAIT} waits for it again"
            return _result(text, failed=True)
        return _result(f"{what}: {error}", failed=True)
    except BaseException:  # The call was cancelled: the protocol gives it no reply.
        _note(f"no longer following {what}; it is still running")
        raise
    if execution["status"] != "completed":
        text = f"the execution {execution_id} ended with the status {execution['status']}"
        why = f": {execution['error']}" if execution["error"] else ""
        return _result(text + why, failed=True)
    outputs = execution["outputs"]
    text = outputs if isinstance(outputs, str) else json.dumps(outputs, ensure_ascii=False)
    data = {"execution_id": execution_id, "outputs": text if _is_deep(outputs) else outputs}
    return _result(text, data)


async def _show(context: Any, stream: Any) -> Optional[str]:
    """Report the events of an execution until its end, or until it pauses.

    Return `None` at the end. At a pause, return what a person is asked, "" if that is not known.
    """
    count, total = 0, None
    async for event in stream:
        nodes = count_or_none(event.get("total_nodes") or event.get("total"))
        if nodes is not None and nodes <= MOST_NODES:
            total = 2 * nodes  # Each node starts and ends.
        if event["type"].startswith("node:"):
            count += 1
            message = f"{event['type']} {event.get('node_name') or ''}"
            await _tell(context, count, total, message)
        elif event["type"] == "execution:paused":
            return text_or_empty(event.get("reason"))
        elif event["type"] == "connected" and event.get("status") == "paused":
            return ""
    return None


async def _cancel_on_pause(stream: Any, scope: anyio.CancelScope) -> None:
    """Cancel `scope` when a poll of `stream` says that the execution is paused.

    Some servers send no events while an execution runs.
    """
    while stream.last_seen.get("status") != "paused":  # noqa: ASYNC110  (it has no event)
        await anyio.sleep(LOOK_EVERY)
    scope.cancel()


def _paused(execution_id: str, question: str) -> types.CallToolResult:
    text = f"the execution {execution_id} waits for a person"
    text += f" ({question})" if question else ""
    return _result(f"{text}; after the answer, the tool {WAIT} waits for its end", failed=True)


def _note(text: str) -> None:
    """Write a line for people: standard output belongs to the protocol."""
    print(printable(text), file=sys.stderr, flush=True)


async def _tell(context: Any, progress: int, total: Optional[int], message: str) -> None:
    """Report progress to the MCP client.

    `total` is left out if `progress` is greater, as when a workflow repeats nodes in a loop.
    """
    total = None if total is None or total < progress else total
    await context.session.report_progress(progress, total, message=printable(message)[:200])


def _tool(name: str, workflow: Mapping[str, Any]) -> types.Tool:
    about, schema = _input_of(workflow)
    return types.Tool(
        name=name,
        title=_short(workflow["name"] or workflow["id"]),
        description=about,
        input_schema=schema,
        output_schema=_OUTPUT_SCHEMA,
        annotations=_ANNOTATIONS,
    )


def _input_of(workflow: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Return the description and the input schema of the tool that runs `workflow`.

    Raises `ValueError` if the schema that the server declares cannot be that of a tool.
    """
    schema = workflow.get("input_schema")
    about = _short(workflow.get("description") or workflow["name"] or workflow["id"])
    if is_strict(schema):
        strict = {"type": "object", **cast("Mapping[str, Any]", _with_short_texts(schema))}
        if "object" in list_or_empty(strict["type"]):  # Such as ["object", "null"].
            strict["type"] = "object"
        problem = schema_problem(strict)
        if problem:
            raise ValueError(problem)
        is_small = len(json.dumps(strict)) <= LARGEST_SCHEMA and not _is_deep(strict)
        return about, _sendable(strict) if is_small else {"type": "object"}
    declared = cast("Mapping[str, Mapping[str, Any]]", workflow.get("inputs") or {})
    labels = [str(field.get("label") or key) for key, field in declared.items()]
    if labels:
        about += f"\nInputs, by their labels: {_short(', '.join(labels))}."
    return about, {"type": "object"}


def _short(text: Any) -> str:
    return printable_lines(str(text)[:LONGEST_DESCRIPTION])


def _with_short_texts(schema: Any) -> Any:
    """Return the schema with each `title` and `description` truncated.

    In these texts, each unprintable character except the line feed becomes a space.
    """
    if isinstance(schema, list):
        return [_with_short_texts(part) for part in list_or_empty(schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _short(value)
        if key in ("title", "description") and isinstance(value, str)
        else _with_short_texts(value)
        for key, value in cast("Dict[str, Any]", schema).items()
    }


def _result(
    text: str, data: Optional[Dict[str, Any]] = None, *, failed: bool = False
) -> types.CallToolResult:
    """Return the result of a tool call.

    The output schema requires `data` unless the call `failed`.
    """
    content = types.TextContent(type="text", text=_sendable(text))
    return types.CallToolResult(
        content=[content], structured_content=_sendable(data), is_error=failed
    )


def _sendable(value: Any) -> Any:
    """Return a JSON value with `?` for each lone surrogate.

    JSON may hold one, but a message that does cannot be encoded: the error would end the server.
    """
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-8", "replace"))


def _is_deep(value: Any) -> bool:
    """Return whether any part of a JSON value lies within more than `DEEPEST` lists and objects."""
    level: List[Any] = [value]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True

"""Workflows as tools over the Model Context Protocol. Needs the extra `mcp` and Python 3.10.

Running a workflow has side effects, so nothing is offered that was not named.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Dict, Mapping, Sequence, cast

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroError, TimeoutError, __version__
from flowmaestro.inputs import check_inputs, is_strict


def workflow_server(
    client: AsyncFlowMaestroClient, workflows: Sequence[Mapping[str, Any]], timeout: float
) -> Server[Any]:
    """An MCP server whose tools run these workflows, each for at most `timeout` seconds.

    `workflows` are resources as `workflows.get` returns them. A run that is cancelled, or that
    takes longer, goes on at the server.
    """
    tools: Dict[str, Mapping[str, Any]] = {}
    for workflow in {str(each["id"]): each for each in workflows}.values():
        name, number = tool_name(workflow), 2
        while name in tools:
            name, number = f"{tool_name(workflow)[:60]}_{number}", number + 1
        tools[name] = workflow

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(*named) for named in tools.items()])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        workflow = tools.get(params.name)
        if workflow is None:
            return _result(f"there is no tool {params.name!r}", failed=True)
        inputs = params.arguments or {}
        problems = check_inputs(workflow, inputs)
        if problems:
            return _result("; ".join(problems), failed=True)
        return await _run(client, context, workflow, inputs, timeout)

    return Server(
        "flowmaestro", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool
    )


async def serve_on_stdio(server: Server[Any]) -> None:
    """Serve one client on standard input and output, until it leaves."""
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def tool_name(workflow: Mapping[str, Any]) -> str:
    """The name of a workflow's tool: its own name in letters, digits and `_`, and its id."""
    name = re.sub(r"\W+", "_", f"{workflow['name']}_{workflow['id']}", flags=re.ASCII)
    return name.strip("_")[-64:]


async def _run(
    client: AsyncFlowMaestroClient,
    context: Any,
    workflow: Mapping[str, Any],
    inputs: Dict[str, Any],
    timeout: float,
) -> types.CallToolResult:
    what, fate = f"workflow {workflow['id']}", "it may have started"
    try:
        started = await client.workflows.execute(workflow["id"], inputs=inputs)
        execution_id = started["data"]["execution_id"]
        what, fate = f"execution {execution_id}", "it runs on"
        await _tell(context, 0, f"execution {execution_id}")
        count = 0
        async for event in client.executions.stream(execution_id, timeout=timeout):
            if event["type"].startswith("node:"):
                count += 1
                node = cast("Mapping[str, Any]", event)
                await _tell(context, count, f"{event['type']} {node.get('node_name') or ''}")
        execution = await client.executions.wait_for_completion(execution_id)  # it may lag behind
    except FlowMaestroError as error:
        if isinstance(error, TimeoutError) and not error.attempts:  # not of one request
            text = f"the execution {execution_id} did not end within {timeout:g} s"
            return _result(f"{text}; it runs on", failed=True)
        return _result(f"{what}: {error}", failed=True)
    except BaseException:  # cancelled: the protocol gives it no answer
        print(f"no longer following {what}; {fate}", file=sys.stderr)
        raise
    if execution["status"] != "completed":
        text = f"the execution {execution_id} ended with the status {execution['status']}"
        why = f": {execution['error']}" if execution["error"] else ""
        return _result(text + why, failed=True)
    outputs = execution["outputs"]
    return _result(outputs if isinstance(outputs, str) else json.dumps(outputs, ensure_ascii=False))


async def _tell(context: Any, progress: float, message: str) -> None:
    await context.session.report_progress(progress, message=message)


def _tool(name: str, workflow: Mapping[str, Any]) -> types.Tool:
    schema = workflow.get("input_schema")
    about = str(workflow.get("description") or workflow["name"])
    if is_strict(schema):
        strict = {"type": "object", **cast("Mapping[str, Any]", schema)}
        return types.Tool(name=name, description=about, input_schema=strict)
    declared = cast("Mapping[str, Mapping[str, Any]]", workflow.get("inputs") or {})
    labels = [str(field.get("label") or key) for key, field in declared.items()]
    if labels:
        about += f"\nInputs, by their labels: {', '.join(labels)}."
    return types.Tool(name=name, description=about, input_schema={"type": "object"})


def _result(text: str, failed: bool = False) -> types.CallToolResult:
    text_content = types.TextContent(type="text", text=text)
    return types.CallToolResult(content=[text_content], is_error=failed)

"""`mcp`: workflows as tools on standard input and output."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Dict, List, Mapping

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.output import print_json
from flowmaestro.cli.session import client_for, credentials_for
from flowmaestro.input_files import read_object
from flowmaestro.inputs import schema_problem


def mcp_command(options: argparse.Namespace) -> None:
    """Serve until the client leaves. An unknown workflow is reported before."""
    schemas = _schemas_of(options)
    if options.config is not None:
        print_json(_config(options))
        return
    try:
        from flowmaestro.mcp_server import serve_on_stdio, workflow_server
    except ImportError:
        text = "mcp needs the package mcp, from Python 3.10 on: pip install 'flowmaestro[mcp]'"
        raise CommandFailed(text) from None
    import anyio

    with client_for(options) as client:
        workflows: List[Dict[str, Any]] = []
        for each in options.workflow:
            workflow: Any = client.workflows.get(each)["data"]
            schema = {"input_schema": schemas[each]} if each in schemas else {}
            workflows.append({**workflow, **schema})

    async def serve() -> None:
        used = credentials_for(options)
        async with AsyncFlowMaestroClient(used.api_key, base_url=used.base_url) as awaited:
            await serve_on_stdio(workflow_server(awaited, workflows, options.timeout))

    anyio.run(serve)


def _schemas_of(options: argparse.Namespace) -> Dict[str, Mapping[str, Any]]:
    """Return the JSON Schemas of `--schema ID=FILE` by id. Raises `CommandFailed` for others."""
    schemas: Dict[str, Mapping[str, Any]] = {}
    for word in options.schema:
        id, equals, path = word.partition("=")
        if not equals or not id or not path:
            raise CommandFailed(f"--schema {word}: write --schema ID=FILE", USAGE)
        if id not in options.workflow:
            raise CommandFailed(f"--schema {word}: there is no --workflow {id}", USAGE)
        schema = read_object(path, f"--schema {word}")
        problem = schema_problem(schema)
        if problem:
            raise CommandFailed(f"--schema {word}: {problem}", USAGE)
        schemas[id] = schema
    return schemas


def _config(options: argparse.Namespace) -> Dict[str, Any]:
    """Return what an assistant's file of settings needs. It names no key of this machine.

    Assistants start programs without the PATH of a shell, so the interpreter is named in full.
    """
    arguments = ["-m", "flowmaestro", "mcp"]
    for id in options.workflow:
        arguments += ["--workflow", id]
    for word in options.schema:
        id, _, path = word.partition("=")
        arguments += ["--schema", f"{id}={os.path.abspath(path)}"]
    if options.timeout != 300.0:
        arguments += ["--timeout", f"{options.timeout:g}"]
    if options.base_url is not None:
        arguments += ["--base-url", options.base_url]
    is_vscode = options.config == "vscode"
    server: Dict[str, Any] = {"command": sys.executable, "args": arguments}
    if is_vscode:
        server = {"type": "stdio", **server}
    if options.profile is not None:
        arguments += ["--profile", options.profile]
    else:
        key = "${input:flowmaestro-key}" if is_vscode else "fm_live_..."
        server["env"] = {"FLOWMAESTRO_API_KEY": key}
    if not is_vscode:
        return {"mcpServers": {"flowmaestro": server}}
    asked: List[Dict[str, Any]] = []
    if options.profile is None:  # The editor asks for the key once, and keeps it.
        asked.append(
            {
                "type": "promptString",
                "id": "flowmaestro-key",
                "description": "FlowMaestro API key",
                "password": True,
            }
        )
    return {"inputs": asked, "servers": {"flowmaestro": server}}

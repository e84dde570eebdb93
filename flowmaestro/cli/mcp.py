"""`mcp`: workflows as tools on standard input and output."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any, Dict, List, Mapping, Optional

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.console import Lines, Writer
from flowmaestro.cli.credentials import DEFAULT_PROFILE, existing_profile, read_profiles, url_of
from flowmaestro.cli.output import json_text
from flowmaestro.cli.session import client_for, credentials_for, find
from flowmaestro.input_files import read_object
from flowmaestro.inputs import schema_problem
from flowmaestro_core.http.urls import api_root

_FILES = {
    "claude": "claude_desktop_config.json (Settings, Developer, Edit Config), or .mcp.json",
    "cursor": "~/.cursor/mcp.json, or .cursor/mcp.json of a project",
    "vscode": ".vscode/mcp.json",
}
"""The files that assistants read their settings from."""


def mcp_command(options: argparse.Namespace) -> None:
    """Serve the workflows as tools until the MCP client disconnects.

    An unknown workflow raises `CommandFailed` or `NotFoundError` before anything is served. With
    `--config`, print the settings for an assistant instead; the workflows are not looked up.
    """
    schemas = _schemas_of(options)
    if options.config is not None:
        profile = _profile_of(options)
        out = Writer(sys.stdout)
        out.write(json_text(_config(options, profile), out.encoding, 2) + "\n")
        text = f"put this into {_FILES[options.config]}"
        if profile is None and options.config != "vscode":
            text += "; write your key in place of fm_live_..., or run `flowmaestro login` and"
            text += f" add --profile {DEFAULT_PROFILE} here: then the file needs no key"
        Lines(sys.stderr).line(text)
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
            workflow: Any = client.workflows.get(find(client, "workflow", each).id)["data"]
            schema = {"input_schema": schemas[each]} if each in schemas else {}
            workflows.append({**workflow, **schema})
    if sys.stdin.isatty():
        text = "an AI assistant starts this command, and talks to it on stdin and stdout"
        text += "; --config prints the settings of an assistant, Ctrl-C leaves"
        Lines(sys.stderr).line(text)
        # A read of a terminal cannot be cancelled: Ctrl-C would wait for the end of a line.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    async def serve() -> None:
        used = credentials_for(options)
        async with AsyncFlowMaestroClient(used.api_key, base_url=used.base_url) as awaited:
            await serve_on_stdio(workflow_server(awaited, workflows, options.timeout))

    anyio.run(serve)


def _schemas_of(options: argparse.Namespace) -> Dict[str, Mapping[str, Any]]:
    """Return the JSON Schemas of the options `--schema ID=FILE`, by id, as `--workflow` names it.

    Raises `CommandFailed` for a malformed option, an id without a `--workflow`, and a file that is
    not a JSON Schema; `ValueError` for a file that cannot be read or is not a JSON object.
    """
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


def _profile_of(options: argparse.Namespace) -> Optional[str]:
    """Return the name of the profile that the printed settings name, or `None`.

    It is that of `--profile`, else the profile that has the key of this command. `None` means that
    the key is from an option or the environment, or that there is no key. Raises `CommandFailed` if
    `--profile` names a profile that does not exist, or if the profiles cannot be read.
    """
    chosen: Optional[str] = options.profile
    if chosen is not None:
        existing_profile(chosen, "--profile")
    if options.api_key is not None or chosen is not None:
        return chosen
    if os.environ.get("FLOWMAESTRO_API_KEY", "").strip():
        return None
    name = os.environ.get("FLOWMAESTRO_PROFILE") or DEFAULT_PROFILE
    return name if name in read_profiles() else None


def _config(options: argparse.Namespace, profile: Optional[str]) -> Dict[str, Any]:
    """Return the settings with which an assistant starts the MCP server. They contain no key.

    If `profile` is not `None`, the server reads the key from that profile, else from its
    environment. Raises `CommandFailed` or `ValueError` for a malformed URL.

    The interpreter is named with its full path, because assistants start programs without the PATH
    of a shell.
    """
    arguments = ["-m", "flowmaestro", "mcp"]
    for id in options.workflow:
        arguments += ["--workflow", id]
    for word in options.schema:
        id, _, path = word.partition("=")
        arguments += ["--schema", f"{id}={os.path.abspath(path)}"]
    if options.timeout != 300.0:  # The default of `mcp`.
        arguments += ["--timeout", f"{options.timeout:g}"]
    url = options.base_url if profile is not None else url_of(options)[0]
    if url is not None:
        api_root(url)  # Raises `ValueError` for a malformed URL, and for one with a password.
        arguments += ["--base-url", url]
    is_vscode = options.config == "vscode"
    server: Dict[str, Any] = {"command": sys.executable, "args": arguments}
    if is_vscode:
        server = {"type": "stdio", **server}
    if profile is not None:
        arguments += ["--profile", profile]
    else:
        key = "${input:flowmaestro-key}" if is_vscode else "fm_live_..."
        server["env"] = {"FLOWMAESTRO_API_KEY": key}
    if not is_vscode:
        return {"mcpServers": {"flowmaestro": server}}
    asked: List[Dict[str, Any]] = []
    if profile is None:  # The editor asks for the key once, and keeps it.
        asked.append(
            {
                "type": "promptString",
                "id": "flowmaestro-key",
                "description": "FlowMaestro API key",
                "password": True,
            }
        )
    return {"inputs": asked, "servers": {"flowmaestro": server}}

"""`mcp`: workflows as tools on standard input and output."""

from __future__ import annotations

import argparse

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.cli import CommandFailed
from flowmaestro.cli.session import client_for, credentials_for


def mcp_command(options: argparse.Namespace) -> None:
    """Serve until the client leaves. An unknown workflow is reported before."""
    try:
        from flowmaestro.mcp_server import serve_on_stdio, workflow_server
    except ImportError:
        text = "mcp needs the package mcp, from Python 3.10 on: pip install 'flowmaestro[mcp]'"
        raise CommandFailed(text) from None
    import anyio

    with client_for(options) as client:
        workflows = [client.workflows.get(each)["data"] for each in options.workflow]

    async def serve() -> None:
        used = credentials_for(options)
        async with AsyncFlowMaestroClient(used.api_key, base_url=used.base_url) as awaited:
            await serve_on_stdio(workflow_server(awaited, workflows, options.timeout))

    anyio.run(serve)
